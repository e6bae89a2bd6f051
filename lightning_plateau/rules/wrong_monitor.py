"""LP416: what stops, saves or lowers the learning rate watches the wrong thing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.metrics import better
from lightning_plateau.core.profile import MonitorFact
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import LOSS, VALIDATION_LOSS, metric

_CONSEQUENCES = {
    "EarlyStopping": "it stops a training that gets better and lets one that gets worse go on",
    "ModelCheckpoint": "it keeps the worst model in place of the best",
    "ReduceLROnPlateau": "it lowers the learning rate because the training gets better",
}
_ALWAYS_THERE = frozenset({"epoch", "step"})
"""What ``ModelCheckpoint`` may watch though nobody logs it."""


@dataclass(frozen=True)
class WrongMonitor(Rule):
    """What stops, saves or lowers the learning rate watches the wrong thing.

    What it detects:
        ``EarlyStopping``, ``ModelCheckpoint`` or ``ReduceLROnPlateau`` that takes small values of
        an accuracy for good ones, or large values of a loss, by the name of the metric; one whose
        metric was logged in no validation and no epoch; and one whose loss stayed the same to the
        last digit for four epochs while training went on.

    Why it matters:
        ``mode="min"`` is the default. With an accuracy it stops the training, or takes the learning
        rate away, because the training gets better.

    Example:
        >>> from lightning_plateau.core.profile import Profile
        >>> from lightning_plateau.testing import history
        >>> profile = Profile(monitors=(MonitorFact("EarlyStopping", "val_acc", "min"),))
        >>> run = history({metric("val_acc"): [0.4, 0.9]}, loss=[2.0, 1.0], profile=profile)
        >>> WrongMonitor().check(run).message
        "EarlyStopping takes small values of 'val_acc' for better (mode='min'; its best was 0.9)"

    Remedies:
        Advice only: pass ``mode``, and the name that the metric is logged under.

    Known limitations:
        Which way a metric of another name is better is not known. Where Lightning itself refuses a
        metric that is missing, its message says enough.

    References:
        Prechelt, 1998, Early Stopping – But When? The PyTorch Lightning documentation: Early
        stopping.
    """

    code: ClassVar[str] = "LP416"
    name: ClassVar[str] = "wrong-monitor"
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (LOSS, VALIDATION_LOSS)
    explains: ClassVar = (
        "LP306",
        "LP401",
        "LP405",
        "LP407",
        "LP408",
        "LP414",
        "LP802",
        "LP807",
        "LP808",
    )
    why: ClassVar[str] = "what is done because of the metric is done at the wrong time"

    stale_epochs: int = 4
    minimum_looks: int = 2

    def check(self, history: History) -> Finding | None:
        """Return the fault of the first monitor that has one, those that do harm first."""
        judges: tuple[Callable[[History, MonitorFact], Finding | None], ...] = (
            self._reversed,
            self._missing,
            self._stale,
        )
        found = [
            finding
            for fact in sorted(history.profile.monitors, key=_is_harmless)
            for judge in judges
            if (finding := judge(history, fact)) is not None
        ]
        return next(iter(found), None)

    def _reversed(self, history: History, fact: MonitorFact) -> Finding | None:
        right = better(fact.metric)
        if right is None or fact.mode not in ("min", "max") or right == fact.mode:
            return None
        size = "small" if fact.mode == "min" else "large"
        values = history[metric(fact.metric)].finite.values
        best = float(values.min() if right == "min" else values.max()) if len(values) else np.nan
        known = f"in {history.step} steps it was never a finite number"
        known = f"its best was {best:.4g}" if np.isfinite(best) else known
        return self._report(
            history,
            fact,
            0.95,
            f"{fact.kind} takes {size} values of '{fact.metric}' for better "
            f"(mode='{fact.mode}'; {known})",
            f"{fact.kind}(…, mode='{right}'): as it is, {_CONSEQUENCES.get(fact.kind, '')}",
        )

    def _missing(self, history: History, fact: MonitorFact) -> Finding | None:
        if metric(fact.metric) in history or fact.metric in _ALWAYS_THERE:
            return None
        validated = history.profile.has_validation
        looks = len(history[VALIDATION_LOSS]) if validated else len(history.epoch_ends)
        if looks < (1 if history.finished else self.minimum_looks):
            return None
        logged = sorted(s.tag.removeprefix("metric/") for s in history if _is_metric(s.tag))
        return self._report(
            history,
            fact,
            0.9,
            f"{fact.kind} watches '{fact.metric}', which was logged in none of {looks} "
            + ("validations" if validated else "epochs"),
            f"log it: self.log('{fact.metric}', …, on_epoch=True); logged so far: "
            + (", ".join(logged[:8]) or "nothing"),
        )

    def _stale(self, history: History, fact: MonitorFact) -> Finding | None:
        series = history[metric(fact.metric)]
        ends = [end for end in history.epoch_ends if len(series.until(end + 1))]
        values = np.array([series.until(end + 1).last for end in ends[-self.stale_epochs :]])
        if better(fact.metric) != "min" or len(values) < self.stale_epochs or values[0] == 0.0:
            return None
        losses = history[LOSS].since(ends[-self.stale_epochs]).finite.values
        if not np.isfinite(values).all() or np.ptp(values) or len(set(losses.tolist())) < 2:
            return None
        return self._report(
            history,
            fact,
            0.7,
            f"'{fact.metric}', which {fact.kind} watches, has been {values[0]:.6g} for "
            f"{self.stale_epochs} epochs, to the last digit",
            "is it computed anew from the weights in each epoch, and is its state reset?",
        )

    def _report(
        self, history: History, fact: MonitorFact, sure: float, message: str, fix: str
    ) -> Finding:
        finding = self.finding(
            history,
            sure,
            message,
            evidence=(Evidence("metrics that are watched amiss", 1.0, 0.0, fact.metric),),
            fix=fix,
            where=fact.kind,
        )
        if _is_harmless(fact):
            return replace(finding, severity=Severity.WARNING, explains=())
        return finding


def _is_harmless(fact: MonitorFact) -> bool:
    """Whether the training itself goes on as if there were no monitor."""
    return fact.kind == "ModelCheckpoint"


def _is_metric(tag: str) -> bool:
    return tag.startswith("metric/")
