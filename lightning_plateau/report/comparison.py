"""Several runs side by side: what differs in verdicts, signals, findings and actions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lightning_plateau.core.history import History, Series
from lightning_plateau.core.signal import GRADIENT_NORM, LEARNING_RATES, VALIDATION_LOSS
from lightning_plateau.core.trend import loss_trend
from lightning_plateau.report.assessment import Assessment, assess
from lightning_plateau.report.panels import typical_update
from lightning_plateau.report.phrases import number, wrapped
from lightning_plateau.report.saved_run import SavedRun

SAME, DIFFERENT = " ", "≠"
NARROWEST = 16


@dataclass(frozen=True, slots=True)
class Row:
    """One thing to compare: its name, and what it is in each run."""

    name: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether the runs are not alike in it."""
        return len(set(self.values)) > 1


def compare(runs: Sequence[SavedRun]) -> tuple[Row, ...]:
    """Return what there is to compare, in the order in which to read it.

    Example:
        >>> from pathlib import Path
        >>> from lightning_plateau.testing import history
        >>> made = [SavedRun(Path(n), history(loss=[2.0, v])) for n, v in (("a", 1.0), ("b", 0.5))]
        >>> [(row.name, row.values) for row in compare(made) if row.differs]
        [('loss', ('2 → 1', '2 → 0.5'))]
    """
    described = [_described(run) for run in runs]
    names = dict.fromkeys(name for one in described for name in one)
    rows = (Row(name, tuple(one.get(name, "–") for one in described)) for name in names)
    return tuple(row for row in rows if set(row.values) != {"–"})


def comparison(names: Sequence[str], runs: Sequence[SavedRun], *, width: int = 100) -> str:
    """Write the comparison as a table; what differs is marked."""
    rows = compare(runs)
    left = 4 + max(len(row.name) for row in rows)
    column = max(NARROWEST, (width - left) // len(runs) - 2)
    lines = _cells("", [f"{i}. {name}" for i, name in enumerate(names, start=1)], left, column)
    for row in rows:
        mark = DIFFERENT if row.differs else SAME
        lines += _cells(f"{mark} {row.name}", row.values, left, column)
    return "\n".join(lines)


def _cells(label: str, values: Sequence[str], left: int, column: int) -> list[str]:
    broken = [wrapped(value, column) or [""] for value in values]
    height = max(map(len, broken))
    lines = []
    for line in range(height):
        cells = [part[line] if line < len(part) else "" for part in broken]
        padded = "  ".join(f"{cell:<{column}}" for cell in cells)
        lines.append(f"{label if line == 0 else '':<{left}}{padded}".rstrip())
    return lines


def _described(run: SavedRun) -> dict[str, str]:
    history, profile = run.history, run.history.profile
    state = assess(run.findings, run.journal, history)
    groups = [group for optimizer in profile.optimizers for group in optimizer.groups]
    decay = {number(g.settings["weight_decay"]) for g in groups if "weight_decay" in g.settings}
    known = {
        "verdict": str(state.health),
        "findings": _findings(state),
        "had": ", ".join(f"{f.code} {f.name}" for f in state.passed),
        "tried": ", ".join(f"{t.intervention.remedy} ({t.verdict})" for t in state.treatments),
        "steps": number(history.step),
        "loss": _loss(history),
        "validation loss": _extremes(history[VALIDATION_LOSS]),
        "gradient norm": _middle(history[GRADIENT_NORM]),
        "update ratio": _middle(typical_update(history)),
        "learning rate": _rates(history[LEARNING_RATES]),
        "optimizer": ", ".join(optimizer.kind for optimizer in profile.optimizers),
        "weight decay": ", ".join(sorted(decay)),
        "scheduler": ", ".join(scheduler.kind for scheduler in profile.schedulers),
        "trained weights": f"{profile.trainable_size:,}" if profile.parameters else "",
        "precision": profile.precision if profile.parameters else "",
    }
    return {name: value or "–" for name, value in known.items()}


def _findings(state: Assessment) -> str:
    return ", ".join(f"{c.finding.code} {c.finding.name}" for c in state.causes)


def _loss(history: History) -> str:
    trend = loss_trend(history)
    return f"{number(trend.first)} → {number(trend.last)}" if trend.rows else ""


def _extremes(series: Series) -> str:
    known = series.values[np.isfinite(series.values)]
    if not len(known):
        return ""
    return f"{number(float(known[-1]))}, at best {number(float(known.min()))}"


def _middle(series: Series) -> str:
    known = series.values[np.isfinite(series.values)]
    return f"median {number(float(np.median(known)))}" if len(known) else ""


def _rates(rates: Series) -> str:
    known = rates.values[:, 0] if len(rates) and rates.labels else np.empty(0)
    known = known[np.isfinite(known)]
    if not len(known):
        return ""
    first, last = number(float(known[0])), number(float(known[-1]))
    return first if first == last else f"{first} → {last}"
