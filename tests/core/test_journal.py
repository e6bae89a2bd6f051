from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.journal import Journal, Note
from lightning_plateau.core.remedy import Intervention, Outcome, Verdict

FINDING = Finding(
    "LP301",
    "exploding-gradients",
    120,
    Severity.ERROR,
    0.8,
    "the gradient norm grew from 1 to inf",
    evidence=(Evidence("gradient/norm", float("inf"), 10.0),),
)
INTERVENTION = Intervention(
    1, 120, "clip-gradients", "LP301", {"gradient_clip_val": None}, {"gradient_clip_val": 1.5}
)
OUTCOME = Outcome(
    1, 220, "clip-gradients", "LP301", Verdict.KEPT, "the loss fell", {"loss": float("nan")}
)
RECORDS = (Note(0, "training started"), FINDING, INTERVENTION, OUTCOME)


def filled(path: Path | None = None) -> Journal:
    journal = Journal(path)
    for record in RECORDS:
        journal.append(record)
    return journal


def records(journal: Journal) -> list[str]:
    return [repr(entry.record) for entry in journal]  # NaN equals itself in words


def test_keeps_the_order_and_the_kinds() -> None:
    journal = filled()
    assert [entry.kind for entry in journal] == ["note", "finding", "intervention", "outcome"]
    assert journal.findings == (FINDING,)
    assert journal.interventions == (INTERVENTION,)
    assert len(journal.outcomes) == len(journal.notes) == 1
    times = [entry.time_s for entry in journal]
    assert times == sorted(times)


def test_each_line_is_on_disk_when_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal.jsonl"
    journal = Journal(path)
    for count, record in enumerate(RECORDS, start=1):
        journal.append(record)
        assert len(path.read_text(encoding="utf-8").splitlines()) == count
    journal.close()


def test_lines_are_strict_json(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    filled(path).close()

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    for line in path.read_text(encoding="utf-8").splitlines():
        assert json.loads(line, parse_constant=refuse)["kind"]


def test_reads_back_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = filled(path)
    journal.close()
    assert records(Journal.read(path)) == records(journal)


def test_a_new_journal_appends_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    filled(path).close()
    filled(path).close()
    assert len(Journal.read(path)) == 2 * len(RECORDS)


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_a_last_line_that_a_crash_cut_off_is_left_out(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "journal.jsonl"
    filled(path).close()
    path.write_bytes(path.read_bytes()[: -1 - cut])
    assert len(Journal.read(path)) == len(RECORDS) - 1


def test_a_resumed_run_after_a_crash_begins_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    filled(path).close()
    path.write_bytes(path.read_bytes()[:-20])
    journal = Journal(path)
    journal.append(Note(300, "resumed"))
    journal.close()
    read = Journal.read(path)
    assert [note.text for note in read.notes] == ["training started", "resumed"]
    assert len(read) == len(RECORDS)


def test_a_last_line_that_lacks_only_its_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    filled(path).close()
    path.write_bytes(path.read_bytes()[:-1])
    journal = Journal(path)
    journal.append(Note(300, "resumed"))
    journal.close()
    assert len(Journal.read(path)) == len(RECORDS) + 1


def test_a_broken_line_in_the_middle_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    filled(path).close()
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[1] = '{"kind": "dream", "time_s": 0}'
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 2"):
        Journal.read(path)


def test_state_round_trip_in_plain_types() -> None:
    journal = filled()
    state = journal.state_dict()
    assert all(type(line) is str for line in state["entries"])
    resumed = Journal()
    resumed.append(Note(9, "to be replaced"))
    resumed.load_state_dict(state)
    assert records(resumed) == records(journal)


def test_opening_writes_what_is_already_in_memory(tmp_path: Path) -> None:
    journal = filled()
    journal.open(tmp_path / "late.jsonl")
    journal.close()
    assert len(Journal.read(tmp_path / "late.jsonl")) == len(RECORDS)


def test_a_disk_that_cannot_be_written_does_not_stop_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    journal = filled(tmp_path / "file" / "journal.jsonl")
    assert isinstance(journal.failure, OSError)
    assert len(journal) == len(RECORDS)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_fills_up_does_not_stop_it() -> None:
    journal = filled(Path("/dev/full"))
    assert isinstance(journal.failure, OSError)
    assert len(journal) == len(RECORDS)
