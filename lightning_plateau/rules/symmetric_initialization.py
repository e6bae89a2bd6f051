"""LP505: the units of a layer are identical and stay so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.layers import weights_by_depth
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import (
    GRADIENT_NORMS,
    PARAMETER_NORMS,
    UNIT_DIFFERENCES,
    UPDATE_RATIOS,
)


@dataclass(frozen=True)
class SymmetricInitialization(Rule):
    """The units of a layer began identical and remain identical.

    What it detects:
        A linear or convolutional layer all of whose units have the same weights, though updates
        have moved them; or whose weights are all zero and get a gradient of exactly zero. Weights
        that begin equal and grow apart are well: output layers, adapters and residual branches
        that start at zero, while the layers around them do not.

    Why it matters:
        Units with the same weights in and out get the same gradient: the layer is worth one unit,
        however wide it is, and no training changes that.

    Example:
        >>> from lightning_plateau.core.profile import ParameterFact, Profile
        >>> from lightning_plateau.testing import history
        >>> facts = Profile((ParameterFact("fc.weight", "fc", (32, 8)),))
        >>> series = {
        ...     UNIT_DIFFERENCES: {"fc.weight": [0.0, 0.0, 0.0]},
        ...     UPDATE_RATIOS: {"fc.weight": [0.01, 0.01, 0.01]},
        ... }
        >>> SymmetricInitialization().check(history(series, profile=facts)).message
        'all units of fc.weight have the same weights after 3 steps'

    Remedies:
        reinitialize draws the weights at random. In code: leave torch's own initialization, or
        ``nn.init.kaiming_normal_``.

    Known limitations:
        Up to 16 units of a layer are compared. Units are taken along the first dimension, as
        torch's layers have them; other layouts are seen where all weights of a layer are equal.

    References:
        Goodfellow et al., 2016, Deep Learning, section 8.4. Ben Braiek and Khomh, 2023, Testing
        Feedforward Neural Networks Training Programs (TOSEM): unbroken symmetry.
    """

    code: ClassVar[str] = "LP505"
    name: ClassVar[str] = "symmetric-initialization"
    requires: ClassVar = (UNIT_DIFFERENCES, UPDATE_RATIOS, PARAMETER_NORMS, GRADIENT_NORMS)
    explains: ClassVar = (
        "LP302",
        "LP304",
        "LP306",
        "LP401",
        "LP405",
        "LP407",
        "LP414",
        "LP501",
        "LP504",
        "LP706",
        "LP802",
        "LP803",
        "LP807",
        "LP808",
    )
    remedies: ClassVar = ("reinitialize",)
    why: ClassVar[str] = "identical units get identical gradients: the layer is worth one unit"

    most_difference: float = 1e-5
    share_of_movement: float = 0.01
    rows_to_be_certain: int = 3
    least_rows: int = 2

    def check(self, history: History) -> Finding | None:
        """Return the fault at the first layer whose units are the same."""
        rows = len(history[UNIT_DIFFERENCES])
        if rows < self.least_rows:
            return None
        on_path = weights_by_depth(history)
        alike, zero = self._alike(history), _zero(history)
        same = [name for name in on_path if name in alike and self._moves_as_one(history, name)]
        stuck = [name for name in on_path if name in zero and self._stuck_at_zero(history, name)]
        layers = [name for name in on_path if name in (*same, *stuck)]
        if not layers:
            return None
        first = layers[0]
        how = (
            "all weights of {} are still 0"
            if first in stuck
            else "all units of {} have the same weights"
        )
        others = f", and {len(layers) - 1} more of its kind" if len(layers) > 1 else ""
        return self.finding(
            history,
            1.0 if rows >= self.rows_to_be_certain else 0.9,
            f"{how.format(first)} after {history.step} steps{others}",
            evidence=(
                Evidence(UNIT_DIFFERENCES.tag, 0.0, self.most_difference, first),
                Evidence("layers of identical units", float(len(layers)), 0.0),
            ),
            fix="initialize the weights at random: leave torch's own initialization, or "
            "nn.init.kaiming_normal_(layer.weight); only biases start at a constant",
            where=first,
        )

    def _alike(self, history: History) -> frozenset[str]:
        """Return the weights whose units are the same now: most runs have none to look into."""
        apart = history[UNIT_DIFFERENCES]
        # NaN is no small difference.
        columns = np.flatnonzero(apart.last_row <= self.most_difference)
        return frozenset(apart.labels[column] for column in columns)

    def _moves_as_one(self, history: History, name: str) -> bool:
        """Whether the units of a weight are the same although it has been moved."""
        apart = history[UNIT_DIFFERENCES].column(name).values
        moved = np.nan_to_num(history[UPDATE_RATIOS].column(name).values, nan=0.0, posinf=1.0)
        if not len(moved) or not np.isfinite(apart[-1]):
            return False
        limit = min(self.most_difference, self.share_of_movement * float(moved.max()))
        return bool(moved.max() > 0.0 and apart[-1] <= limit)

    def _stuck_at_zero(self, history: History, name: str) -> bool:
        """Whether a weight is zero and always got a gradient of zero."""
        norms = history[PARAMETER_NORMS].column(name).values
        if norms.any():
            return False
        gradients = history[GRADIENT_NORMS].column(name).finite.values
        if len(norms) < self.least_rows or len(gradients) < self.least_rows:
            return False
        return not gradients.any()


def _zero(history: History) -> frozenset[str]:
    """Return the parameters that are zero now."""
    norms = history[PARAMETER_NORMS]
    return frozenset(norms.labels[column] for column in np.flatnonzero(norms.last_row == 0.0))
