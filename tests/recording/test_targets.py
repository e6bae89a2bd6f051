"""How far targets spread, batch after batch: against numpy, over kinds, and across a resume."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_plateau.core.history import Series
from lightning_plateau.core.signal import TARGETS
from lightning_plateau.recording.store import Store
from lightning_plateau.recording.targets import MOST_OUTPUTS, Targets
from lightning_plateau.recording.transfer import Transfer


def _sent(targets: Targets) -> Series:
    """Return what one sending brings, at step 7."""
    store, transfer = Store(), Transfer()
    targets.send(7, transfer, store)
    transfer.send(wait=True)
    return store.series().get(TARGETS.tag, Series(TARGETS, np.empty(0, int), np.empty((0, 0))))


def _batches(shape: tuple[int, ...], offset: float = 0.0) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(n, *shape) * 3 + offset for n in (8, 8, 5)]


@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 2)])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_the_variance_is_that_of_each_output_about_its_own_mean(
    shape: tuple[int, ...], offset: float
) -> None:
    batches = _batches(shape, offset)
    targets = Targets()
    for batch in batches:
        targets.add(batch)
    seen = _sent(targets)
    rows = torch.cat([batch.reshape(len(batch), -1) for batch in batches]).double().numpy()
    assert seen.steps[-1] == 7
    assert seen.column("samples").last == 21
    assert seen.column("variance").last == pytest.approx(rows.var(axis=0, ddof=1).mean(), rel=1e-3)


def test_whole_numbers_are_counted_and_complex_ones_are_left_out() -> None:
    targets = Targets()
    targets.add(torch.tensor([1, 2, 3]))
    targets.add(torch.ones(3, dtype=torch.complex64))
    seen = _sent(targets)
    assert seen.column("samples").last == 3
    assert seen.column("variance").last == pytest.approx(1.0)


@pytest.mark.parametrize("batch", [torch.zeros(2, 0), torch.zeros(1, MOST_OUTPUTS + 1)])
def test_of_nothing_and_of_too_much_nothing_is_kept(batch: Tensor) -> None:
    targets = Targets()
    targets.add(batch)
    assert not len(_sent(targets))


def test_targets_of_another_shape_are_left_out() -> None:
    targets = Targets()
    targets.add(torch.randn(4, 3))
    targets.add(torch.randn(4, 2))
    assert _sent(targets).column("samples").last == 4


def test_nothing_is_sent_twice() -> None:
    targets = Targets()
    targets.add(torch.randn(4))
    assert len(_sent(targets)) == 1
    assert not len(_sent(targets))


def test_a_resumed_sum_goes_on() -> None:
    first, second = _batches((2,), 5.0)[:2]
    whole, before, after = Targets(), Targets(), Targets()
    for batch in (first, second):
        whole.add(batch)
    before.add(first)
    after.load_state_dict(before.state_dict())
    after.add(second)
    expected = _sent(whole).last_row
    np.testing.assert_allclose(_sent(after).last_row, expected, rtol=1e-5)
    assert Targets().state_dict() == {}
