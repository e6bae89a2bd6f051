"""Runs that are larger than any: many parameter tensors, many steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lightning_plateau.core.signal import GRADIENT_NORMS, LOSS
from lightning_plateau.recording import store as store_module
from lightning_plateau.recording.recorder import Recorder
from lightning_plateau.recording.store import Store


@pytest.mark.slow
def test_ten_thousand_parameter_tensors() -> None:
    """On an ordinary step four bytes are kept of each, whatever the number of tensors."""
    count, steps = 10_000, 6
    net = nn.ParameterList([nn.Parameter(torch.ones(2)) for _ in range(count)])
    recorder = Recorder(net, [list(net)], every_n_steps=50)
    for parameter in net:
        parameter.grad = torch.ones_like(parameter)
    for _ in range(steps):
        recorder.begin_batch(None)
        recorder.observe_loss(torch.tensor(1.0))
        recorder.observe_gradients(0)
        recorder.end_batch()
    assert recorder._steps._block is not None
    assert recorder._steps._block._table.untyped_storage().nbytes() <= 50 * (count + 3) * 4
    recorder.drain(wait=True)
    norms = recorder.history()[GRADIENT_NORMS]
    assert norms.values.shape == (steps, count)
    np.testing.assert_allclose(norms.values, 2**0.5, rtol=1e-6)


@pytest.mark.slow
def test_ten_million_steps_are_kept_in_bounds() -> None:
    """What is held at the end is what was held after the first tenth, within a tenth of it."""
    store, names, block = Store(), ("a", "b", "c", "d"), 10**5
    held: list[Any] = []
    for start in range(0, 10**7, block):
        steps = np.arange(start, start + block)
        store.append(LOSS, steps, np.ones(block))
        store.append(GRADIENT_NORMS, steps, np.ones((block, 4)), names)
        held.append(sum(column._values.nbytes for column in store._columns.values()))
    assert max(held[10:]) <= 1.1 * max(held[:10])
    assert max(held) <= 2 * 2 * 8 * store_module.LARGEST
    for series in store.series().values():
        assert series.steps[0] == 0
        assert series.steps[-1] == 10**7 - 1
        assert (np.diff(series.steps) > 0).all()
