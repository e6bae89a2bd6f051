"""Whether validation gives the network what training gives it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_plateau.core import signal
from lightning_plateau.core.history import History
from lightning_plateau.recording import resemblance
from lightning_plateau.recording.recorder import Recorder
from lightning_plateau.recording.resemblance import COMPARED

GENERATOR = torch.Generator().manual_seed(0)


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def batches(count: int, size: int = 32, move: float = 0.0, times: float = 1.0) -> list[Tensor]:
    middles = torch.arange(6.0)
    return [
        times * (torch.randn(size, 6, generator=GENERATOR) + middles) + move for _ in range(count)
    ]


def step(recorder: Recorder, model: nn.Module, x: Tensor) -> None:
    recorder.begin_batch((x, torch.arange(len(x)) % 3))
    value = F.cross_entropy(model(x), torch.arange(len(x)) % 3)
    recorder.observe_loss(value)
    value.backward()
    recorder.observe_gradients(0)
    recorder.end_batch()


def run(*validations: list[Tensor], training: list[Tensor] | None = None, **settings: Any) -> Any:
    model = net()
    recorder = Recorder(model, [list(model.parameters())], every_n_steps=50, **settings)
    for x in batches(8) if training is None else training:
        step(recorder, model, x)
    for validation in validations:
        with torch.inference_mode():
            for x in validation:
                recorder.observe_validation((x, torch.zeros(len(x)).long()))
                model(x)
            recorder.end_validation()
    recorder.drain(wait=True)
    assert not any(layer._forward_pre_hooks for layer in model.modules())
    return recorder.history()


def row(history: History) -> list[float]:
    assert all(history[one].labels == ("0",) for one in COMPARED)
    return [float(history[one].last_row[0]) for one in COMPARED]


def test_the_same_is_alike() -> None:
    shift, spread, likeness = row(run(batches(4)))
    assert shift < 0.2
    assert spread == pytest.approx(1.0, abs=0.1)
    assert likeness > 0.99


def test_another_scale_and_place() -> None:
    shift, spread, likeness = row(run(batches(4, move=-5.0, times=0.5)))
    assert spread == pytest.approx(0.5, abs=0.05)
    apart = 0.5 * torch.arange(6.0) + 5.0
    assert shift == pytest.approx(2 * float(apart.square().mean().sqrt()), rel=0.1)
    assert likeness > 0.99


def test_another_order() -> None:
    shift, spread, likeness = row(run([x.flip(1) for x in batches(4)]))
    assert shift > 2
    assert likeness == pytest.approx(-1.0, abs=0.01)
    assert spread == pytest.approx(1.0, abs=0.1)


def test_each_validation_is_compared_by_itself_and_three_at_most() -> None:
    there = run(batches(2, times=3.0), *[batches(2)] * 4)[signal.VALIDATION_SPREAD]
    assert len(there) == resemblance.FIRST_VALIDATIONS
    assert there.values[:, 0].tolist() == pytest.approx([3.0, 1.0, 1.0], abs=0.2)


@pytest.mark.parametrize(
    "history",
    [
        pytest.param(run([]), id="an empty validation"),
        pytest.param(run(batches(1, size=4)), id="four samples"),
        pytest.param(run(batches(2), training=batches(1)), id="nothing seen of training"),
        pytest.param(run(batches(2), tape=False), id="no tape"),
        pytest.param(run(batches(2), tags=frozenset({signal.LOSS.tag})), id="nobody asks"),
    ],
)
def test_nothing_is_said(history: History) -> None:
    assert all(one not in history for one in COMPARED)


def test_samples_of_a_validation_that_comes_sorted_are_taken_from_all_of_it() -> None:
    one_class = batches(40, size=256, move=4.0)
    others = batches(120, size=256)
    shift, _, _ = row(run([*one_class, *others]))
    assert shift == pytest.approx(0.9, abs=0.25)
