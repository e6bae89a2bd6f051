"""Learning rates by group: named once, and never read where that would wait for the device."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from lightning_plateau.treatment.rates import Rates


def run_of(*optimizers: list[Any]) -> Any:
    """Return as much of a run as holds groups with these rates, one list an optimizer."""
    adapters = [
        SimpleNamespace(optimizer=SimpleNamespace(param_groups=[{"lr": rate} for rate in rates]))
        for rates in optimizers
    ]
    run = SimpleNamespace(adapters=adapters, attachments={})
    run.paced = lambda index, place, rate: 0.5 * rate if run.attachments else rate
    return run


def test_groups_are_named_by_their_place_and_optimizers_where_there_are_several() -> None:
    assert Rates(run_of([0.1, 0.2])).read() == {"0": 0.1, "1": 0.2}
    assert Rates(run_of([0.1], [0.2])).read() == {"0.0": 0.1, "1.0": 0.2}


def test_a_change_shows() -> None:
    run = run_of([0.1])
    rates = Rates(run)
    assert rates.read() == {"0": 0.1}
    run.adapters[0].optimizer.param_groups[0]["lr"] = 0.2
    assert rates.read() == {"0": 0.2}


def test_another_pace_shows_while_it_is_attached() -> None:
    run = run_of([0.1])
    rates = Rates(run)
    rates.read()
    run.attachments["pace"] = object()
    assert rates.read() == {"0": 0.05}
    run.attachments.clear()
    assert rates.read() == {"0": 0.1}


def test_rates_on_a_device_are_read_only_where_that_was_asked_for() -> None:
    run = run_of([torch.tensor(0.5), 0.1])
    rates = Rates(run)
    assert rates.read() == {"1": 0.1}
    assert rates.read(closely=True) == {"0": 0.5, "1": 0.1}
    unread = run_of([torch.ones((), device="meta")])
    assert Rates(unread).read() == {}
    assert Rates(unread).read() == {}
