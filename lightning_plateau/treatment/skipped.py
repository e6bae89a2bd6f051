"""Skipped steps: those that were left out since, told as a remedy that was kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lightning_plateau.core.finding import Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.remedy import Intervention
from lightning_plateau.core.signal import SKIPPED_STEPS
from lightning_plateau.remedies.skip_step import SkipStep

DAMAGED = "LP102"
"""Code of data that are not finite."""
NON_FINITE_CODES = (DAMAGED, "LP201", "LP202")
"""Codes that a skipped step answers, the most telling first."""


class SkippedSteps:
    """The skipped steps that were told of.

    Attributes:
        steps: Their numbers, ascending.

    Example:
        >>> from lightning_plateau.testing import history
        >>> SkippedSteps().since(history({SKIPPED_STEPS: [0.0, 1.0, 0.0]}))
        (1,)
    """

    def __init__(self) -> None:
        self.steps: tuple[int, ...] = ()

    def since(self, history: History) -> tuple[int, ...]:
        """Return those that were not told of yet."""
        series = history[SKIPPED_STEPS]
        steps = series.steps[np.nan_to_num(series.values) > 0]
        known = set(self.steps)
        return tuple(int(step) for step in steps if int(step) not in known)

    def tell(self, new: Sequence[int], code: str, number: int) -> Intervention:
        """Take them for told, and return the record of them.

        Args:
            new: What ``since`` returned; at least one.
            code: The finding that they answer.
            number: Number of the intervention.
        """
        before, self.steps = len(self.steps), (*self.steps, *new)
        return Intervention(
            number,
            new[0],
            SkipStep.name,
            code,
            {"skipped_steps": before},
            {"skipped_steps": len(self.steps)},
        )


def answered(findings: Sequence[Finding]) -> str | None:
    """Return the code of a finding that a skipped step answers; None for none."""
    codes = {finding.code for finding in findings}
    return next((code for code in NON_FINITE_CODES if code in codes), None)
