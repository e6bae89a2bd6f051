"""Activation statistics as series: names that stay the same from tape to tape."""

from __future__ import annotations

import pytest

from lightning_plateau.core import signal
from lightning_plateau.core.tape import Operation, Tape
from lightning_plateau.recording import sites
from lightning_plateau.recording.sites import activation_rows, site_labels


def operations(*names: str) -> tuple[Operation, ...]:
    statistics = {"mean": 1.0, "std": 2.0, "minimum": -5.0, "maximum": 3.0, "non_finite": 0.0}
    return tuple(
        Operation(index, name, "layer", statistics=statistics) for index, name in enumerate(names)
    )


def test_only_layers_are_followed() -> None:
    assert list(site_labels(operations("linear", "add", "relu", "flatten")).values()) == [
        *("layer (linear)", "layer (relu)")
    ]


def test_labels_are_unique() -> None:
    labels = site_labels(operations(*["relu"] * 50))
    assert len(set(labels.values())) == 50


def test_long_tapes_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sites, "MOST", 3)
    assert len(site_labels(operations(*["relu"] * 50))) == 3


def test_rows_hold_what_the_tape_holds_and_the_largest_magnitude() -> None:
    rows = activation_rows(Tape(0, operations("linear", "relu")))
    assert rows[signal.ACTIVATION_MEAN] == {"layer (linear)": 1.0, "layer (relu)": 1.0}
    assert rows[signal.ACTIVATION_MAXIMUM] == {"layer (linear)": 5.0, "layer (relu)": 5.0}
    assert rows[signal.ACTIVATION_DEAD] == {}
