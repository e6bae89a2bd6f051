"""The host's rows: growth, thinning, late labels, and series that never change."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lightning_plateau.core.signal import Signal
from lightning_plateau.recording import store as store_module
from lightning_plateau.recording.store import Store

SCALAR = Signal("test/scalar", "a number")
WIDE = Signal("test/wide", "a row", axis="parameter")


def append(store: Store, *values: float, start: int = 0) -> None:
    store.append(SCALAR, np.arange(start, start + len(values)), np.array(values))


def test_rows_grow_and_keep_their_order() -> None:
    store = Store()
    for step in range(0, 1000, 7):
        append(store, *range(step, step + 7), start=step)
    series = store.series()["test/scalar"]
    assert series.steps.tolist() == list(range(1001))
    assert series.values.tolist() == [float(step) for step in range(1001)]


def test_a_series_taken_earlier_never_changes() -> None:
    store = Store()
    append(store, 1.0, 2.0)
    store.append_row(WIDE, 0, {"a": 1.0})
    scalar, wide = store.series()["test/scalar"], store.series()["test/wide"]
    append(store, *range(500), start=2)
    store.append_row(WIDE, 1, {"b": 2.0})
    assert scalar.values.tolist() == [1.0, 2.0]
    assert (wide.labels, wide.values.tolist()) == (("a",), [[1.0]])
    with pytest.raises(ValueError, match="read-only"):
        scalar.values[0] = 5.0


def test_late_labels_widen_the_row() -> None:
    store = Store()
    store.append_row(WIDE, 0, {"a": 1.0, "b": 2.0})
    store.append_row(WIDE, 3, {"b": 5.0, "c": 6.0})
    store.append_row(WIDE, 4, {"c": 7.0, "a": 8.0})
    series = store.series()["test/wide"]
    assert series.labels == ("a", "b", "c")
    np.testing.assert_array_equal(
        series.values, [[1.0, 2.0, np.nan], [np.nan, 5.0, 6.0], [8.0, np.nan, 7.0]]
    )


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    """Lower the limit, so that thinning shows in a short test."""
    monkeypatch.setattr(store_module, "LARGEST", 1024)
    return 1024


def test_thinning_keeps_the_newer_half_and_what_is_not_finite(small: int) -> None:
    store, rows = Store(), 3 * small
    broken = set(range(50, rows, 101))
    for step in range(rows):
        append(store, math.nan if step in broken else float(step), start=step)
    series = store.series()["test/scalar"]
    kept = set(series.steps.tolist())
    assert broken <= kept
    assert {0, rows - 1} <= kept
    assert set(range(rows - small // 4, rows)) <= kept
    assert (np.diff(series.steps) > 0).all()
    finite = np.isfinite(series.values)
    np.testing.assert_array_equal(series.values[finite], series.steps[finite])


def test_memory_is_bounded_however_long_the_run(small: int) -> None:
    store = Store()
    for start in range(0, 60 * small, 50):
        append(store, *np.ones(50), start=start)
        store.append(WIDE, np.arange(start, start + 50), np.ones((50, 16)), [*"abcdefghijklmnop"])
    series = store.series()
    assert series["test/scalar"].values.base.nbytes <= 2 * 8 * small  # type: ignore[union-attr]
    wide = series["test/wide"].values
    assert wide.base.nbytes <= 2 * 8 * 16 * 256  # type: ignore[union-attr] # 256 rows at least
    assert series["test/wide"].steps[-1] == series["test/scalar"].steps[-1]


def test_a_million_steps_are_kept_in_bounds() -> None:
    store, names = Store(), tuple(f"layer.{n}" for n in range(64))
    for start in range(0, 10**6, 1000):
        steps = np.arange(start, start + 1000)
        store.append(SCALAR, steps, np.ones(1000))
        store.append(WIDE, steps, np.ones((1000, 64)), names)
    held = [column._values.nbytes for column in store._columns.values()]
    assert max(held) <= 2 * 8 * store_module.LARGEST
    assert store.series()[SCALAR.tag].steps[-1] == 10**6 - 1


def test_thinning_spares_the_series_taken_before(small: int) -> None:
    store = Store()
    append(store, *range(small))
    before = store.series()["test/scalar"]
    append(store, *range(small), start=small)
    assert before.values.tolist() == list(range(small))


def test_state_round_trip_in_plain_types() -> None:
    store = Store()
    append(store, 1.0, math.nan, math.inf)
    store.append_row(WIDE, 2, {"a": 1.0, "b": math.nan})
    state = store.state_dict()
    assert {type(v) for entry in state.values() for v in entry.values()} <= {
        *(dict, list, torch.Tensor)
    }
    restored = Store()
    restored.load_state_dict(state)
    append(restored, 4.0, start=3)
    for tag, series in store.series().items():
        again = restored.series()[tag]
        assert (again.signal, again.labels) == (series.signal, series.labels)
        np.testing.assert_array_equal(again.values[: len(series)], series.values)
    assert restored.series()["test/scalar"].last == 4.0
    assert store.series()["test/scalar"].values.shape == (3,)  # the state shares no memory
