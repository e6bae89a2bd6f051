"""Several runs on one page: their curves on one axis, and what differs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning_plateau.report.comparison import compare
from lightning_plateau.report.html import page_data, render, write
from lightning_plateau.report.panels import compared_panels, numbers
from lightning_plateau.report.saved_run import SavedRun


def comparison_page(names: Sequence[str], runs: Sequence[SavedRun]) -> str:
    """Write several runs as one HTML page.

    Args:
        names: What to call each run.
        runs: The runs.

    Raises:
        ImportError: If Jinja2 is not installed; the message names the extra.
    """
    rows = compare(runs)
    verdicts = next(row.values for row in rows if row.name == "verdict")
    # Two runs of one name are two runs.
    called = {f"{i}. {name}": run.history for i, (name, run) in enumerate(_pairs(names, runs), 1)}
    drawn = compared_panels(called)
    steps = max(run.history.step for run in runs)
    return render(
        "comparison.html.j2",
        names=list(called),
        verdicts=verdicts,
        rows=rows,
        panels=[(panel, numbers(panel)) for panel in drawn],
        steps=max(1, steps),
        data=page_data(drawn, (), steps),
    )


def save_comparison(path: Path, names: Sequence[str], runs: Sequence[SavedRun]) -> Path:
    """Write the page to ``path``, whole or not at all, and return its path."""
    return write(path, comparison_page(names, runs))


def _pairs(names: Sequence[str], runs: Sequence[SavedRun]) -> list[tuple[str, SavedRun]]:
    return list(zip(names, runs, strict=True))
