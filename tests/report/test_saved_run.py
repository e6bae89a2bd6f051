from __future__ import annotations

import pytest

from lightning_plateau.core.journal import Journal
from lightning_plateau.report.saved_run import read_run
from tests.report.runs import FLAT, recorded


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "version_0" / "plateau"
    place.mkdir(parents=True)
    recorded().save(place / "history.npz")
    return place


def test_a_run_is_found_by_its_folder_its_log_folder_or_either_file(folder):
    with_journal = Journal(folder / "journal.jsonl")
    with_journal.append(FLAT)
    with_journal.close()
    for path in (folder, folder.parent, folder / "history.npz", folder / "journal.jsonl"):
        run = read_run(path)
        assert (run.folder, run.history.step, run.journal.findings) == (folder, 400, (FLAT,))
        assert [file.name for file in run.files] == ["journal.jsonl", "history.npz"]


def test_a_history_alone_will_do(folder):
    run = read_run(folder)
    assert (len(run.journal), [file.name for file in run.files]) == (0, ["history.npz"])


def test_what_is_missing_is_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no"):
        read_run(tmp_path / "nowhere")
    (folder / "history.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected history\.npz in"):
        read_run(folder)


def test_a_file_of_another_kind_is_refused(tmp_path):
    stranger = tmp_path / "weights.npz"
    stranger.write_bytes(b"not ours")
    with pytest.raises(ValueError, match="expected a history written by lightning_plateau"):
        read_run(stranger)


def test_a_folder_of_several_runs_names_them(tmp_path):
    for version in range(6):
        folder = tmp_path / "lightning_logs" / f"version_{version}"
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text("step,train_loss\n0,1.0\n")
    for place in (tmp_path, tmp_path / "lightning_logs"):
        with pytest.raises(FileNotFoundError, match=r"version_0, .*version_3 and 2 more"):
            read_run(place)
