from __future__ import annotations

from pathlib import Path

from lightning_plateau.report.comparison import compare, comparison
from lightning_plateau.report.comparison_page import comparison_page
from lightning_plateau.report.panels import compared_panels
from lightning_plateau.report.saved_run import SavedRun
from lightning_plateau.testing import history
from tests.report.runs import recorded, treated_journal

FLAT = SavedRun(Path("runs/flat"), history(loss=[2.303] * 300))
TREATED = SavedRun(Path("runs/treated"), recorded(), treated_journal())


def test_what_differs_is_marked_and_what_nobody_recorded_left_out():
    rows = {row.name: row for row in compare([FLAT, TREATED])}
    assert rows["verdict"].values == ("sick", "treated")
    assert rows["findings"].values[0] == "LP401 flat-loss"
    assert rows["steps"].values == ("300", "400")
    assert rows["learning rate"].values == ("–", "5 → 0.5")
    assert "precision" not in rows
    assert not [row for row in compare([FLAT, FLAT]) if row.differs]


def test_the_table_keeps_its_width_and_names_the_runs():
    lines = comparison(["flat", "treated"], [FLAT, TREATED], width=90).splitlines()
    assert lines[0].split() == ["1.", "flat", "2.", "treated"]
    assert lines[1].startswith("≠ verdict")
    assert max(map(len, lines)) <= 90


def test_on_the_page_each_run_has_a_line_and_a_column():
    page = comparison_page(["same", "same"], [FLAT, TREATED])
    assert "<title>1. same · 2. same · lightning-plateau</title>" in page
    assert "<caption>Different</caption>" in page
    assert "<caption>The same</caption>" in comparison_page(["a", "b"], [FLAT, FLAT])
    first, *_ = compared_panels({"a": FLAT.history, "b": TREATED.history})
    assert [line.name for line in first.lines] == ["a", "b"]
    assert first.broken == 8


def test_names_on_the_page_stay_text():
    assert "<script>alert" not in comparison_page(["<script>alert(1)</script>"] * 2, [FLAT, FLAT])
