"""Why trials died: a row for each reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from lightning_plateau.report.phrases import number
from lightning_plateau.tuning.fault import ENDED, FAULT
from lightning_plateau.tuning.worker import ERROR, SURPLUS

PRUNED, LOST = "given up by the pruner", "lost with its worker"


@dataclass(frozen=True)
class Death:
    """One reason for which trials were ended.

    Attributes:
        reason: Code and name of the fault, the error, or who gave the trials up.
        trials: Numbers of the trials.
        values: Settings that these trials had: lowest and highest, or which.
        fix: What the diagnosis advises; empty where it was none.
    """

    reason: str
    trials: tuple[int, ...]
    values: str
    fix: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the row in plain types."""
        return {"reason": self.reason, "trials": list(self.trials), "values": self.values}


def deaths(trials: Sequence[FrozenTrial]) -> tuple[Death, ...]:
    """Return why trials died, the most frequent reason first."""
    by_reason: dict[str, list[FrozenTrial]] = {}
    for trial in trials:
        reason = reason_of(trial)
        if reason:
            by_reason.setdefault(reason, []).append(trial)
    rows = [
        Death(
            reason,
            tuple(one.number for one in dead),
            _values(dead),
            str((dead[0].user_attrs.get(FAULT) or {}).get("fix", "")),
        )
        for reason, dead in by_reason.items()
    ]
    return tuple(sorted(rows, key=lambda row: -len(row.trials)))


def reason_of(trial: FrozenTrial) -> str:
    """Return why a trial was ended; empty where it was trained to its end, or goes on."""
    if SURPLUS in trial.user_attrs:
        return ""
    if trial.state is TrialState.FAIL:
        return str(trial.user_attrs.get(ERROR, LOST))
    if trial.state is not TrialState.PRUNED:
        return ""
    ended = trial.user_attrs.get(ENDED, "pruner")
    fault = trial.user_attrs.get(FAULT) or {}
    if fault and ended == fault["code"]:
        return f"{fault['code']} {fault['name']}"
    return PRUNED if ended == "pruner" else str(ended)


def _values(trials: Sequence[FrozenTrial]) -> str:
    """Write what the settings of the trials were."""
    written = []
    for name in trials[0].params:
        seen = [one.params[name] for one in trials if name in one.params]
        if all(isinstance(one, int | float) for one in seen):
            low, high = number(min(seen)), number(max(seen))
            written.append(f"{name} {low}" if low == high else f"{name} {low} … {high}")
        else:
            written.append(f"{name} {', '.join(sorted({str(one) for one in seen}))}")
    return "; ".join(written)
