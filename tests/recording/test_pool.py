"""Samples of small batches are fingerprinted together, as if each batch had been alone."""

from __future__ import annotations

import pytest
import torch

from lightning_plateau.recording import pool
from lightning_plateau.recording.pool import Pool
from lightning_plateau.recording.probes.samples import fingerprints


def test_together_they_are_what_they_are_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "LARGEST_COPY", 40)
    monkeypatch.setattr(pool, "LARGEST_POOL", 60)
    sizes = [(4, 5), (4, 5), (8, 5), (16, 5), (4, 6), (4, 6)]
    batches = [torch.rand(size) for size in sizes]
    gathered = Pool()
    for step, batch in enumerate(batches):
        gathered.add(step, [batch])
    found = list(gathered.take())
    assert [step for one in found for step in one.steps] == list(range(len(batches)))
    assert len(found) < len(batches)
    alone = torch.cat([fingerprints([batch]) for batch in batches])
    assert torch.equal(torch.cat([one.values for one in found]), alone)
    assert not list(gathered.take())


def test_what_the_user_changes_later_changes_nothing() -> None:
    batch, gathered = torch.ones(2, 3), Pool()
    gathered.add(0, [batch])
    batch.zero_()
    [prints] = gathered.take()
    assert torch.equal(prints.values, fingerprints([torch.ones(2, 3)]))


def test_a_step_that_does_not_end_is_forgotten() -> None:
    gathered = Pool()
    for step in range(2):
        gathered.add(step, [torch.rand(2, 3)])
    gathered.forget(1)
    [prints] = gathered.take()
    assert prints.steps == (0,)
