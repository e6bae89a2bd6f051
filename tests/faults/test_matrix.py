from __future__ import annotations

import math

import pytest

from tests.faults.accuracy import page, table
from tests.faults.matrix import chosen, load, save
from tests.faults.program import programs
from tests.faults.result import Call, Result
from tests.faults.scores import baselines, calibration, claimed, confusion, score


def result(*heads, expected=(), accepted=(), told=None, steps=100, seed=0, part="tuned"):
    calls = tuple(one if isinstance(one, Call) else Call(one, 0.8, 50) for one in heads)
    told = calls if told is None else tuple(Call(code, 0.8, 50) for code in told)
    return Result(
        program="-".join(expected) or "healthy",
        part=part,
        family="mlp",
        data="digits",
        expected=expected,
        accepted=accepted,
        seed=seed,
        heads=calls,
        told=told,
        folded=(),
        steps=steps,
    )


def test_ranks_are_those_of_the_first_expected_code():
    assert result("LP401", "LP701", expected=("LP702", "LP701")).rank == 2
    assert result("LP401", expected=("LP701",)).rank is None


def test_recall_counts_the_first_and_the_first_three():
    runs = [
        result("LP701", expected=("LP701",)),
        result("LP401", "LP701", expected=("LP701",)),
        result("LP1", "LP2", "LP3", "LP701", expected=("LP701",)),
        result(expected=("LP701",)),
    ]
    assert (score(runs).top_1, score(runs).top_3) == (0.25, 0.5)


def test_an_accepted_code_is_true_but_is_not_what_was_looked_for():
    run = result("LP607", expected=("LP701",), accepted=("LP607",))
    assert (score([run]).precision, score([run]).top_1) == (1.0, 0.0)


def test_all_that_is_shown_for_a_healthy_training_is_untrue():
    runs = [result("LP701", expected=("LP701",)), result("LP401"), result("LP402")]
    assert score(runs).precision == pytest.approx(1 / 3)


def test_alarms_that_were_withdrawn_count_as_alarms_at_any_time():
    runs = [result(told=("LP401",), steps=2000), *[result(steps=1000)] * 3]
    found = score(runs)
    assert (found.standing_alarms, found.alarms, found.alarmed) == (0.0, 0.25, 0.25)
    assert found.alarms_per_10_000_steps == 2.0


def test_detection_is_timed_where_the_fault_was_found():
    early = result(Call("LP701", 1.0, 0), expected=("LP701",))
    late = result(Call("LP701", 0.8, 300), expected=("LP701",))
    lost = result(expected=("LP701",), told=("LP701",))
    found = score([early, late, lost])
    assert (found.median_steps, found.slow_steps) == (150, 300)


def test_what_has_nothing_to_divide_by_is_unknown():
    assert all(math.isnan(getattr(score([]), name)) for name in ("top_1", "precision", "brier"))


def test_the_brier_score_is_the_mean_squared_error_of_the_confidence():
    runs = [
        result(Call("LP701", 1.0, 0), expected=("LP701",)),
        result(Call("LP401", 0.6, 0), expected=("LP701",)),
    ]
    assert score(runs).brier == pytest.approx(0.36 / 2)


def test_calibration_has_a_bin_for_what_is_certain():
    runs = [
        result(Call("LP701", 1.0, 0), Call("LP401", 0.95, 0), expected=("LP701",)),
        result(Call("LP402", 0.45, 0)),
    ]
    bins = {one.low: one for one in calibration(runs)}
    assert (bins[1.0].number, bins[1.0].true) == (1, 1.0)
    assert (bins[0.9].number, bins[0.9].true) == (1, 0.0)
    assert (bins[0.0].number, bins[0.8].number) == (1, 0)
    assert sum(one.number for one in bins.values()) == len(claimed(runs))


def test_the_table_has_a_row_for_each_fault_and_one_for_the_healthy():
    runs = [
        result("LP701", "LP401", expected=("LP701",)),
        result("LP401", expected=("LP701",)),
        result(),
    ]
    fault, healthy = confusion(runs)
    assert (fault.fault, fault.runs, fault.top_1) == ("LP701", 2, 0.5)
    assert fault.named == (("LP401", 2), ("LP701", 1))
    assert (healthy.fault, healthy.named) == ("", ())


def test_guessing_is_right_as_often_as_there_are_codes():
    runs = [result(expected=("LP1",)), result(expected=("LP1",)), result(expected=("LP2", "LP3"))]
    random, frequent = baselines(runs, [f"LP{n}" for n in range(10)], runs)
    assert random.top_1 == pytest.approx((0.1 + 0.1 + 0.2) / 3)
    assert random.top_3 == pytest.approx((0.3 + 0.3 + 1 - 56 / 120) / 3)
    assert frequent.top_1 == pytest.approx(2 / 3)
    assert frequent.top_3 == 1.0


def test_results_survive_a_file(tmp_path):
    runs = [result(Call("LP701", 1.0, 3), expected=("LP701",)), result()]
    save(runs, tmp_path / "results.json")
    assert load(tmp_path / "results.json") == runs


def test_the_page_tells_the_parts_apart_and_how_it_is_made():
    runs = [result("LP701", expected=("LP701",)), result(part="validation", told=("LP401",))]
    written = page(runs, "python -m tests.faults.matrix --seeds 1")
    assert "`python -m tests.faults.matrix --seeds 1`" in written
    assert written.count("\n## ") == 2
    assert "| healthy | 0 | healthy | nothing | LP401 |" in written


def test_tables_are_markdown():
    assert table(["a"], [["1"]]).splitlines() == ["| a |", "| --- |", "| 1 |"]


def test_a_name_that_fits_no_program_is_refused():
    with pytest.raises(SystemExit, match="no-such-program"):
        chosen("all", ["no-such-program"])


def test_every_program_says_what_is_special_about_it():
    assert [one.name for one in programs() if not one.story.endswith(".")] == []
