from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest

from lightning_plateau.rules import catalogue
from tests.faults.accuracy import page
from tests.faults.matrix import chosen, load, main, merged, save
from tests.faults.program import programs
from tests.faults.result import Call, Result
from tests.faults.scores import (
    baselines,
    calibration,
    claimed,
    confusion,
    interval,
    score,
    signs,
)
from tests.faults.tables import table
from tests.faults.with_and_without import comparison, pairs, uncertain


def result(*heads, expected=(), accepted=(), told=None, steps=100, seed=0, part="tuned", **more):
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
        folded=more.pop("folded", ()),
        steps=steps,
        **more,
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


def test_files_of_several_jobs_are_merged_and_the_last_word_counts(tmp_path):
    first, again = result("LP401", expected=("LP701",)), result("LP701", expected=("LP701",))
    other, apart = result(expected=("LP701",), seed=1), result(experiments="never")
    save([first, other], tmp_path / "a.json")
    save([again, apart], tmp_path / "b.json")
    found = merged([tmp_path / "a.json", tmp_path / "b.json"])
    assert sorted(map(str, found)) == sorted(map(str, [again, other, apart]))


def test_a_job_that_was_broken_off_is_taken_up_again(tmp_path, capsys):
    done = result("LP105", expected=("LP105",))
    done = type(done)(**{**vars(done), "program": "classes-from-one"})
    save([done], tmp_path / "a.json")
    main(["--only", "classes-from-one", "--json", str(tmp_path / "a.json"), "--resume"])
    assert load(tmp_path / "a.json") == [done]
    assert "1 of 1 programs" in capsys.readouterr().out


def test_intervals_narrow_with_the_number_of_programs_and_know_the_ends():
    few, many = interval(0.9, 10), interval(0.9, 1000)
    assert few[0] < many[0] < 0.9 < many[1] < few[1]
    assert interval(0.0, 50)[0] == 0.0 < interval(0.0, 50)[1] < 0.1
    assert all(math.isnan(end) for end in interval(math.nan, 0))


def test_what_a_fault_does_is_found_under_its_cause_or_among_the_remarks():
    runs = [
        result("LP406", expected=("LP406",), shows=("LP402",), folded=("LP402",)),
        result("LP406", expected=("LP406",), shows=("LP402",)),
        result(shows=("LP607",), notes=("LP607",)),
    ]
    assert [(one.code, one.runs, one.named) for one in signs(runs)] == [
        ("LP402", 2, 0.5),
        ("LP607", 1, 1.0),
    ]
    assert "| LP402 diverging-loss | 2 | 50.0 % |" in page(runs)


def test_experiments_are_judged_where_no_fact_is_certain():
    sure = result(Call("LP701", 1.0, 0), expected=("LP701",))
    blind = result("LP401", expected=("LP106",), experiments="never")
    seeing = result("LP106", expected=("LP106",), tried={"shuffled-labels": 86.0})
    runs = [sure, type(sure)(**{**vars(sure), "experiments": "never"}), blind, seeing]
    found = uncertain(pairs(runs))
    assert [pair.gain for pair in found] == [1]
    written = "\n".join(comparison(runs))
    assert "| shuffled-labels | 1 | 86 | 0.0 % | 100.0 % | 1 | 0 |" in written
    assert comparison([sure, seeing]) == []


def test_tables_are_markdown():
    assert table(["a"], [["1"]]).splitlines() == ["| a |", "| --- |", "| 1 |"]


def test_a_name_that_fits_no_program_is_refused():
    with pytest.raises(SystemExit, match="no-such-program"):
        chosen("all", ["no-such-program"])


def test_every_program_says_what_is_special_about_it():
    assert [one.name for one in programs() if not one.story.endswith(".")] == []


ELSEWHERE = {
    "LP610": "needs several devices: tests/rules/test_unsynchronized_batch_norm.py",
    "LP901": "needs several ranks: tests/test_two_processes.py",
}
"""Codes that no program in one process can show, and where they are tested."""


def test_every_rule_has_two_programs_in_which_its_fault_is_planted():
    planted = Counter(code for one in programs() for code in {*one.expected, *one.shows})
    few = {rule.code for rule in catalogue() if planted[rule.code] < 2}
    assert few == set(ELSEWHERE)
    root = Path(__file__).parents[2]
    assert all((root / where.rpartition(" ")[2]).exists() for where in ELSEWHERE.values())


def test_faults_are_planted_in_many_families_and_data_sets():
    sick = [one for one in programs() if not one.healthy]
    assert len({one.family for one in sick}) >= 8
    assert len({one.data for one in sick}) >= 6
    assert sum(one.part == "validation" for one in sick) > len(sick) / 3
