"""Which classes and which samples a training is fed with."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_plateau.core import signal
from lightning_plateau.core.history import History
from lightning_plateau.recording import census
from lightning_plateau.recording.recorder import EARLY_SAMPLES, Recorder

Batch = tuple[Tensor, Tensor]
NET = nn.Linear(4, 3)


def data(count: int, size: int = 8, seed: int = 0) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count * size).reshape(count, size) % 3
    return [(torch.randn(size, 4, generator=generator), one) for one in labels]


def step(recorder: Recorder, batch: Any, loss: Any = F.cross_entropy) -> None:
    recorder.begin_batch(batch)
    value = loss(NET(batch[0]), batch[1])
    recorder.observe_loss(value)
    value.backward()
    recorder.observe_gradients(0)
    if recorder.end_batch() and recorder.due:
        recorder.drain()


def recorder(**settings: Any) -> Recorder:
    return Recorder(NET, [list(NET.parameters())], every_n_steps=50, **settings)


def seen(one: Recorder) -> History:
    one.drain(wait=True)
    return one.history()


def run(batches: list[Batch], *validations: list[Batch], **settings: Any) -> History:
    watched = recorder(**settings)
    for batch in batches:
        step(watched, batch)
    for validation in validations:
        for batch in validation:
            watched.observe_validation(batch)
        watched.end_validation()
    return seen(watched)


def test_labels_are_counted_on_every_early_step() -> None:
    counts = run(data(12, size=4))[signal.LABEL_COUNTS]
    assert counts.steps.tolist() == list(range(12))
    assert set(counts.labels) == {"0", "1", "2"}
    assert counts.column("0").values[:3].tolist() == [2.0, 1.0, 1.0]


def test_labels_that_a_batch_lacks_are_not_a_number() -> None:
    x = torch.randn(4, 4)
    counts = run([(x, torch.zeros(4).long()), (x, torch.full((4,), 2))])[signal.LABEL_COUNTS]
    assert counts.labels == ("0", "2")
    assert counts.values[0, 0] == counts.values[1, 1] == 4.0
    assert torch.tensor(counts.values).isnan().sum() == 2


def test_ignored_labels_are_left_out() -> None:
    labels = torch.tensor([0, 1, -100, 1])
    counts = run([(torch.randn(4, 4), labels)])[signal.LABEL_COUNTS]
    assert dict(zip(counts.labels, counts.last_row, strict=True)) == {"0": 1.0, "1": 2.0}


def test_beyond_the_budget_only_sampled_steps_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "FIRST_BATCHES", 8)
    history = run(data(60))
    late = sorted(one for one in EARLY_SAMPLES | {50} if one >= 8)
    assert history[signal.LABEL_COUNTS].steps.tolist() == [*range(8), *late]
    assert history[signal.FINGERPRINTED].values.tolist() == [8.0 * n for n in range(1, 9)]


def test_accumulated_batches_count_together() -> None:
    watched = recorder()
    for start, batch in enumerate(data(6, size=3)):
        watched.begin_batch(batch, first_of_window=start % 2 == 0)
        loss = F.cross_entropy(NET(batch[0]), batch[1])
        watched.observe_loss(loss)
        loss.backward()
        if start % 2:
            watched.observe_gradients(0, accumulated=2)
        watched.end_batch()
    counts = seen(watched)[signal.LABEL_COUNTS]
    assert counts.steps.tolist() == [0, 1, 2]
    assert counts.values.sum(axis=1).tolist() == [6.0, 6.0, 6.0]


def test_repeated_samples_are_counted() -> None:
    batches = data(3)
    history = run([*batches, batches[1]])
    assert history[signal.FINGERPRINTED].values.tolist() == [8.0, 16.0, 24.0, 32.0]
    assert history[signal.REPEATED].values.tolist() == [0.0, 0.0, 0.0, 8.0]


def test_the_next_epoch_does_not_count_as_repetition() -> None:
    watched = recorder()
    for _ in range(2):
        for batch in data(3):
            step(watched, batch)
        watched.end_epoch()
    history = seen(watched)
    assert history[signal.FINGERPRINTED].last == 24.0
    assert history[signal.REPEATED].last == 0.0
    assert len(history[signal.LABEL_COUNTS]) == 6


def test_large_batches_stay_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "MOST_SAMPLES", 20)
    history = run(data(5), data(5, seed=1))
    assert history[signal.FINGERPRINTED].last == 20.0
    assert history[signal.VALIDATION_FINGERPRINTED].last == 20.0


def test_validation_samples_that_training_was_given_are_counted() -> None:
    batches = data(4)
    history = run(batches, data(4, seed=1), [*batches[:1], *data(1, seed=2)])
    assert history[signal.VALIDATION_FINGERPRINTED].values.tolist() == [32.0, 16.0]
    assert history[signal.VALIDATION_REPEATED].values.tolist() == [0.0, 8.0]


def test_few_validations_are_compared() -> None:
    history = run(data(2), *[data(1, seed=1)] * 9)
    assert len(history[signal.VALIDATION_FINGERPRINTED]) == census.FIRST_VALIDATIONS


@pytest.mark.parametrize(
    "batch",
    [
        pytest.param((torch.randn(4, 4), torch.randn(4, 3)), id="numbers"),
        pytest.param((torch.randn(4, 4), torch.tensor([0, 1, 2, 5000])), id="too many classes"),
    ],
)
def test_targets_that_are_no_classes_are_not_counted(batch: Batch) -> None:
    watched = recorder()
    loss = F.mse_loss if batch[1].is_floating_point() else lambda out, _: out.sum()
    step(watched, batch, loss)
    assert signal.LABEL_COUNTS not in seen(watched)


def test_a_loss_of_some_samples_only_is_left_alone() -> None:
    mask = torch.tensor([True, False, True, False])
    watched = recorder()
    batch = (torch.randn(4, 4), torch.tensor([0, 1, 2, 0]))
    step(watched, batch, lambda out, y: F.cross_entropy(out[mask], y[mask]))
    history = seen(watched)
    assert signal.FINGERPRINTED not in history
    assert signal.LABEL_COUNTS not in history


def test_only_what_is_wanted_is_measured() -> None:
    history = run(data(2), data(1), tags=frozenset({"loss/train"}))
    assert not {s.tag for s in history} & {"data/label_count", "data/fingerprinted"}


def test_a_resumed_run_knows_what_came_before() -> None:
    batches = data(6)
    first, resumed = recorder(), recorder()
    for batch in batches[:3]:
        step(first, batch)
    resumed.load_state_dict(first.state_dict())
    for batch in (batches[0], *batches[3:]):
        step(resumed, batch)
    history = seen(resumed)
    assert history[signal.FINGERPRINTED].values.tolist() == [8.0 * n for n in range(1, 8)]
    assert history[signal.REPEATED].last == 8.0
