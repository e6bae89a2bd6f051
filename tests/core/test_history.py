from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from lightning_plateau.core.history import FORMAT, History, Series
from lightning_plateau.core.plain import to_plain
from lightning_plateau.core.profile import GroupFact, ModuleFact, OptimizerFact, Profile
from lightning_plateau.core.signal import GRADIENT_NORMS, LOSS, Signal
from lightning_plateau.core.tape import Operand, Operation, Tape
from lightning_plateau.testing import histories, history

NAN, INF = float("nan"), float("inf")


def table(rows: int = 3) -> Series:
    values = np.arange(2.0 * rows).reshape(rows, 2)
    return Series(GRADIENT_NORMS, np.arange(rows) * 10, values, ("a", "b"))


def assert_same(one: History, other: History) -> None:
    assert list(one.series) == list(other.series)
    for tag, series in one.series.items():
        twin = other.series[tag]
        assert (series.signal, series.labels) == (twin.signal, twin.labels)
        np.testing.assert_array_equal(series.steps, twin.steps)
        np.testing.assert_array_equal(series.values, twin.values)
    for name in ("profile", "tapes", "step", "epoch_ends", "finished"):
        assert to_plain(getattr(one, name)) == to_plain(getattr(other, name)), name


# -- series ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signal", "steps", "values", "labels"),
    [
        (LOSS, [0, 1], [1.0], ()),
        (LOSS, [0, 1], [[1.0], [2.0]], ()),
        (GRADIENT_NORMS, [0, 1], [1.0, 2.0], ("a",)),
        (GRADIENT_NORMS, [0, 1], [[1.0], [2.0]], ("a", "b")),
    ],
)
def test_shapes_must_agree(signal: Signal, steps: Any, values: Any, labels: Any) -> None:
    with pytest.raises(ValueError, match=f"values of {signal.tag} must have shape"):
        Series(signal, np.array(steps), np.array(values), labels)


def test_arrays_given_out_are_read_only_and_those_taken_stay_writable() -> None:
    values = np.array([1.0, 2.0])
    series = Series(LOSS, np.array([0, 1]), values)
    with pytest.raises(ValueError, match="read-only"):
        series.values[0] = 5.0
    with pytest.raises(ValueError, match="read-only"):
        series.steps[0] = 5
    values[0] = 3.0
    assert values.flags.writeable


def test_cuts_by_step() -> None:
    series = table()
    assert series.since(10).steps.tolist() == [10, 20]
    assert series.until(10).steps.tolist() == [0]
    assert series.tail(1).steps.tolist() == [20]
    assert len(series.tail(99)) == 3
    assert len(series.tail(0)) == 0
    assert len(series.since(99)) == 0


def test_last_and_columns() -> None:
    series = table()
    assert series.last_row.tolist() == [4.0, 5.0]
    assert series.column("b").values.tolist() == [1.0, 3.0, 5.0]
    assert series.column("b").last == 5.0
    missing = series.column("c")
    assert len(missing) == 0
    assert np.isnan(missing.last)


def test_empty_series_answer_with_nan() -> None:
    empty = History()[GRADIENT_NORMS]
    assert empty.values.shape == (0, 0)
    assert empty.last_row.tolist() == []
    assert np.isnan(History()[LOSS].last)


def test_finite_keeps_rows_in_which_all_is_finite() -> None:
    loss = Series(LOSS, np.arange(4), np.array([1.0, NAN, INF, 2.0]))
    assert loss.finite.steps.tolist() == [0, 3]
    values = np.array([[1.0, NAN], [1.0, 2.0]])
    assert Series(GRADIENT_NORMS, np.arange(2), values, ("a", "b")).finite.steps.tolist() == [1]


# -- history --------------------------------------------------------------------------------------


def test_is_immutable() -> None:
    run = history(loss=[1.0])
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.step = 2  # type: ignore[misc]
    with pytest.raises(TypeError):
        run.series["x"] = run[LOSS]  # type: ignore[index]


def test_does_not_share_the_mapping_that_it_was_given() -> None:
    given_series = {LOSS.tag: history(loss=[1.0])[LOSS]}
    run = History(given_series)
    given_series.clear()
    assert LOSS in run


def test_a_signal_without_rows_is_not_contained() -> None:
    assert LOSS not in history(loss=[])
    assert LOSS not in History()
    assert LOSS in history(loss=[NAN])


def test_first_and_last_tape() -> None:
    assert (History().first_tape, History().last_tape) == (None, None)
    run = history(tapes=[Tape(0), Tape(50)])
    assert (run.first_tape, run.last_tape) == (Tape(0), Tape(50))


def test_is_sent_to_other_processes() -> None:
    run = history(loss=[1.0, 2.0], tapes=[Tape(0)])
    sent = pickle.loads(pickle.dumps(run))
    assert list(sent) == list(run)
    assert (sent.step, sent.profile, sent.tapes) == (run.step, run.profile, run.tapes)
    assert sent[LOSS].values.tolist() == [1.0, 2.0]


# -- on disk --------------------------------------------------------------------------------------


def test_round_trip(tmp_path: Path) -> None:
    statistics = {"minimum": -INF, "mean": NAN, "maximum": 3.5}
    operand = Operand("batch", 1, "nested.label", (8, 1), "int64", statistics)
    tape = Tape(
        0,
        (
            Operation(
                0,
                "cross_entropy",
                "net.head",
                (operand,),
                (),
                attributes={"reduction": "mean", "ignore_index": -100, "weight": None, "p": INF},
                statistics={"std": NAN},
            ),
        ),
        root=0,
        root_requires_grad=False,
    )
    profile = Profile(
        modules=(ModuleFact("bn", "BatchNorm1d", False, {"momentum": None, "eps": 1e-5}),),
        optimizers=(OptimizerFact("SGD", (GroupFact(("w",), {"lr": 0.1, "nesterov": True}),)),),
        gradient_clip_val=1.0,
        planned_steps=None,
    )
    run = history(
        {GRADIENT_NORMS: {"w": [1.0, NAN, INF], "ü.b": [0.0, -0.0, 1e-320]}},
        loss=[2.5, NAN, -INF],
        profile=profile,
        tapes=[tape],
        epoch_ends=[2, 3],
        finished=True,
    )
    path = run.save(tmp_path / "history.npz")
    assert_same(History.load(path), run)
    assert History.load(path).profile == profile
    assert History.load(path).tapes[0].operations[0].attributes["p"] == INF
    assert [p.name for p in tmp_path.iterdir()] == ["history.npz"]


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(histories())
def test_round_trip_of_arbitrary_histories(tmp_path: Path, run: History) -> None:
    assert_same(History.load(run.save(tmp_path / "run.npz")), run)


def test_round_trip_of_the_empty_history(tmp_path: Path) -> None:
    assert_same(History.load(History().save(tmp_path / "empty.npz")), History())


def test_saving_again_replaces_the_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "history.npz"
    history(loss=[1.0]).save(path)
    history(loss=[1.0, 2.0]).save(path)
    assert History.load(path).step == 2


def test_what_is_no_history_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        History.load(tmp_path / "none.npz")
    text = tmp_path / "text.npz"
    text.write_text("loss 2.3")
    arrays = tmp_path / "arrays.npz"
    np.savez(arrays, x=np.zeros(3))
    empty = tmp_path / "empty.npz"
    empty.touch()
    whole = history(loss=[1.0, 2.0]).save(tmp_path / "whole.npz").read_bytes()
    cut = tmp_path / "cut.npz"
    cut.write_bytes(whole[: len(whole) // 2])
    for path in (text, arrays, empty, cut):
        with pytest.raises(ValueError, match=path.name):
            History.load(path)


def test_a_newer_format_asks_for_an_upgrade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as later:
        later.setattr("lightning_plateau.core.history.FORMAT", FORMAT + 1)
        path = history(loss=[1.0]).save(tmp_path / "newer.npz")
    with pytest.raises(ValueError, match="upgrade"):
        History.load(path)
