"""The report in plain types, for programs: what `--json` prints."""

from __future__ import annotations

from typing import Any

from lightning_plateau.core.plain import to_plain
from lightning_plateau.report.assessment import assess
from lightning_plateau.report.saved_run import SavedRun
from lightning_plateau.report.verdict import advice


def document(run: SavedRun) -> dict[str, Any]:
    """Return a run's report as what strict JSON can hold.

    Example:
        >>> from pathlib import Path
        >>> from lightning_plateau.testing import history
        >>> document(SavedRun(Path("run"), history(loss=[2.0, 1.0])))["health"]
        'healthy'
    """
    state = assess(run.findings, run.journal, run.history)
    return {
        "health": str(state.health),
        "steps": run.history.step,
        "finished": run.history.finished,
        "findings": to_plain(run.findings),
        "had": to_plain(state.passed),
        "advice": [{"code": one.finding.code, "text": one.text} for one in advice(state)],
        "treatments": [
            {
                "intervention": to_plain(one.intervention),
                "outcome": None if one.outcome is None else to_plain(one.outcome),
                "verdict": one.verdict,
                "times": one.times,
            }
            for one in state.treatments
        ],
        "files": [str(file) for file in run.files],
        "read_from": dict(run.names),
    }
