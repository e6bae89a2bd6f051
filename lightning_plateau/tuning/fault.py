"""Which finding ends a trial, and which no search can mend."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.diagnosis import all_rules
from lightning_plateau.tuning.space import Space

FAULT, ENDED = "fault", "ended_by"
"""Attributes of a trial: the fault that it has, and what ended it."""

OF_THE_CODE = frozenset(
    ["LP305", "LP308", "LP410", "LP411", "LP412", "LP503", "LP505", "LP603", "LP901", "LP902"]
)
"""Faults of the wiring, which are there whatever the settings."""
OF_THE_DATA_OR_OBJECTIVE = ("LP1", "LP7")
OF_THE_SETTINGS = (
    *("LP201", "LP202", "LP203", "LP205", "LP301", "LP302"),
    *("LP401", "LP402", "LP403", "LP406", "LP407", "LP409", "LP412", "LP413"),
    *("LP501", "LP502", "LP504", "LP801", "LP807", "LP808"),
)
"""Faults that the settings of a trial bring about; all others show in the first trials."""
ENOUGH = 3
"""Trials that must die of one likely fault of data or code, none having been well."""


def fatal(
    findings: Iterable[Finding], suspected: Container[str] = (), *, others_do_better: bool = False
) -> Finding | None:
    """Return the finding that ends a trial: the first that is an error and likely or certain.

    A symptom without its cause must have shown in the diagnosis before as well: a loss may rise for
    a moment. Where other trials of the search did better in the same time, once is enough.

    Args:
        findings: What is wrong, the most probable cause first.
        suspected: Codes of what was found the time before.
        others_do_better: Whether most other trials were better at the same validation.

    Example:
        >>> at = Finding("LP406", "learning-rate-too-high", 40, Severity.ERROR, 0.9, "…")
        >>> fatal([at]) is at
        True
        >>> fatal([Finding("LP406", "learning-rate-too-high", 40, Severity.ERROR, 0.5, "…")])
    """
    for finding in findings:
        sure = finding.certainty != "possible"
        if finding.severity is not Severity.ERROR or not sure or finding.explained_by:
            continue
        if finding.code not in _symptoms() or finding.code in suspected or others_do_better:
            return finding
    return None


def cause(findings: Iterable[Finding]) -> Finding | None:
    """Return why a trial that has no prospects is as it is; None where no cause is likely.

    Example:
        >>> low = Finding("LP407", "learning-rate-too-low", 9, Severity.ERROR, 0.9, "…")
        >>> cause([low]) is low, cause([])
        (True, None)
    """
    for finding in findings:
        likely = finding.certainty != "possible" and finding.severity is not Severity.INFO
        if likely and not finding.explained_by and finding.code not in _symptoms():
            return finding
    return None


@cache
def _symptoms() -> frozenset[str]:
    return frozenset(rule.code for rule in all_rules() if rule.symptom)


def described(finding: Finding) -> dict[str, Any]:
    """Return what is kept of a finding with its trial, in plain types."""
    return {
        "code": finding.code,
        "name": finding.name,
        "step": finding.step,
        "certain": finding.certain,
        "message": finding.message,
        "fix": finding.fix,
    }


def beyond_search(code: str) -> bool:
    """Whether a fault lies in data or code, so that no setting of the training mends it.

    Example:
        >>> beyond_search("LP701"), beyond_search("LP406")
        (True, False)
    """
    return code.startswith(OF_THE_DATA_OR_OBJECTIVE) or code in OF_THE_CODE


def shared_fault(trials: Sequence[FrozenTrial], space: Space) -> Mapping[str, Any] | None:
    """Return the fault of data or code for which the search is stopped; None while there is none.

    One that is certain stops it at once, unless settings of the module itself are searched: then,
    and where it is only likely, several trials must have died of it and none have been well.
    """
    well = any(one.state is TrialState.COMPLETE for one in trials)
    dead: dict[str, int] = {}
    for trial in trials:
        fault = trial.user_attrs.get(FAULT) or {}
        code = fault.get("code", "")
        if trial.state is not TrialState.PRUNED or not beyond_search(code):
            continue
        dead[code] = dead.get(code, 0) + 1
        if fault["certain"] and not _changes_the_module(space):
            return fault
        if dead[code] >= ENOUGH and not well:
            return fault
    return None


_OF_THE_TRAINING = frozenset(
    [
        "accumulate_grad_batches",
        "batch_size",
        "epochs",
        "gradient_clip_val",
        "learning_rate",
        "lr",
        "optimizer",
        "schedule",
        "weight_decay",
        "dropout",
    ]
)


def _changes_the_module(space: Space) -> bool:
    return any(
        name not in _OF_THE_TRAINING and not name.startswith(("optimizer.", "trainer.", "data."))
        for name in space.dimensions
    )
