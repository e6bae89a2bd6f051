"""LP406: the steps are too long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.along_update import AlongUpdate, along_update, best_multiple
from lightning_plateau.core.breakdown import breakdown, broke_suddenly
from lightning_plateau.core.chance import chance_loss
from lightning_plateau.core.dying import units_died
from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.oscillation import oscillation
from lightning_plateau.core.quantities import one_digit
from lightning_plateau.core.rise import Rise, rise
from lightning_plateau.core.roles import entries
from lightning_plateau.core.rule import Method, Rule
from lightning_plateau.core.signal import (
    ACTIVATION_DEAD,
    DATA_MEAN,
    DATA_STD,
    EXPERIMENT_STEP_SIZE,
    GRADIENT_NORMS,
    LEARNING_RATES,
    LOSS,
    PARAMETER_NORMS,
    UPDATE_RATIOS,
)
from lightning_plateau.core.spoilt import HUGE_UPDATE, spoilt
from lightning_plateau.core.tape import Tape
from lightning_plateau.core.updates import Updates, adaptive, weight_updates


@dataclass(frozen=True)
class LearningRateTooHigh(Rule):
    """The learning rate is too high.

    What it detects:
        Updates that change the weights of a typical layer by a tenth or more at once, measured
        against the weights that training started with, so that weights which grew with the loss
        hide nothing; or weights that grew tenfold; or a loss that swings to and fro under updates
        of a hundredth. For optimizers whose steps grow with the gradient the learning rate is
        only one suspect: the finding is less sure where the inputs are not normalized, the first
        loss was far above that of guessing, or the gradients of the first step already were huge
        or uneven over the layers; and for all where the loss had come down by half when it ceased
        to be finite all at once, which too long steps do not do. Where the step-size experiment was
        made, it decides: a loss that falls at the beginning of an update and rises over the whole
        of it speaks for the fault, a loss that falls all along against it, unless most units of a
        rectifier died meanwhile. Where they died under an update of half the weights, and the loss
        has come to rest above a fifth of that of guessing, the network is spoilt: no other symptom
        is asked for.

    Why it matters:
        A step is right only as far as the gradient holds. Longer ones overshoot: the loss rises,
        swings, or the units die.

    Example:
        >>> from lightning_plateau.testing import history
        >>> run = history({UPDATE_RATIOS: {"fc.weight": [2.0, 1.5]}}, loss=[2.3, 40.0, 70.0])
        >>> finding = LearningRateTooHigh().check(run)
        >>> finding.message
        'an update changed the weights by 200 % (at step 0, the typical layer)'

    Remedies:
        decay-learning-rate, or roll-back where the weights are spoilt already.

    Known limitations:
        Layers that start at zero have no relative update. It is one of several suspects wherever
        the loss does not go down, and speaks only then, or of a network that is spoilt: healthy
        runs of Adam begin with updates of a tenth.

    References:
        Bottou et al., 2018, Optimization Methods for Large-Scale Machine Learning. Wardat et al.,
        2022, DeepDiagnosis (ICSE). Godbole et al., 2023, Deep Learning Tuning Playbook.
    """

    code: ClassVar[str] = "LP406"
    name: ClassVar[str] = "learning-rate-too-high"
    requires: ClassVar = (
        LOSS,
        UPDATE_RATIOS,
        PARAMETER_NORMS,
        GRADIENT_NORMS,
        LEARNING_RATES,
        DATA_MEAN,
        DATA_STD,
        EXPERIMENT_STEP_SIZE,
        ACTIVATION_DEAD,
    )
    explains: ClassVar = (
        "LP104",
        "LP106",
        "LP201",
        "LP202",
        "LP203",
        "LP204",
        "LP205",
        "LP206",
        "LP207",
        "LP301",
        "LP303",
        "LP304",
        "LP306",
        "LP307",
        "LP401",
        "LP402",
        "LP403",
        "LP404",
        "LP414",
        "LP501",
        "LP502",
        "LP602",
        "LP605",
        "LP707",
        "LP802",
        "LP803",
        "LP807",
        "LP808",
    )
    remedies: ClassVar = ("decay-learning-rate", "warm-up", "roll-back", "clip-gradients")
    method: ClassVar[Method] = "configure_optimizers"
    why: ClassVar[str] = "a step longer than the gradient holds for overshoots the minimum"

    large_update: float = 0.1
    huge_update: float = HUGE_UPDATE
    swinging_update: float = 0.01
    growth: float = 10.0
    ordinary_update: float = 0.01
    most_left: float = 0.5

    def check(self, history: History) -> Finding | None:
        """Return the fault where updates are longer than the weights allow."""
        moved = weight_updates(history)
        if moved is None:
            return None
        up, along = rise(history), along_update(history)
        killed = moved.peak >= self.large_update and units_died(history)
        strength = self._strength(history, moved, up)
        strength = max(strength, 0.7) if killed else self._confirmed(strength, moved, along)
        if strength == 0.0:
            return None
        doubts = self._doubts(history, moved, up)
        step, size = moved.first_beyond(self.large_update)
        doubt = f"; but {doubts[0]}" if doubts else ""
        return self.finding(
            history,
            strength * (0.6 if doubts else 1.0),
            self._seen(moved, along) + doubt,
            evidence=(
                Evidence(UPDATE_RATIOS.tag, moved.peak, self.large_update, "median over layers"),
                Evidence("growth of the weights", moved.growth, self.growth),
                *(() if along is None else (_change(along),)),
            ),
            fix=self._fix(history, size),
            step=step,
        )

    def stands(self, finding: Finding, history: History) -> bool:
        """Whether the fault shows by itself: the first steps have spoilt the network for good."""
        return spoilt(history)

    def _seen(self, moved: Updates, along: AlongUpdate | None) -> str:
        step, size = moved.first_beyond(self.large_update)
        if size < self.large_update and along is not None and along.overshoots:
            return (
                f"the loss of a batch rises by {100 * along.whole:.3g} % over the update that the "
                f"batch leads to, and changes by {100 * along.tenth:.2g} % at its beginning"
            )
        grew = f", and they grew {moved.growth:.3g}-fold" if moved.growth >= self.growth else ""
        return (
            f"an update changed the weights by {100 * size:.3g} % (at step {step}, the typical "
            f"layer){grew}"
        )

    def _confirmed(self, strength: float, moved: Updates, along: AlongUpdate | None) -> float:
        """Return ``strength`` in the light of the experiment, where it was made."""
        if along is None:
            return strength
        if along.overshoots:
            return max(strength, 0.85)
        # Where the weights are spoilt already, later steps may well be sound.
        spoilt = moved.peak >= self.huge_update or moved.growth >= self.growth
        return 0.5 * strength if along.holds and not spoilt else strength

    def _strength(self, history: History, moved: Updates, up: Rise) -> float:
        """Return the confidence that the updates alone give, 0.0 for none."""
        exploded = up.explosion_step is not None or up.broke
        if moved.peak >= self.huge_update or moved.growth >= self.growth:
            return 0.95 if exploded or moved.typical >= self.large_update else 0.85
        if moved.peak >= self.large_update:
            return 0.8 if exploded or moved.typical >= self.large_update else 0.55
        if moved.typical >= self.swinging_update and oscillation(history).to_and_fro:
            return 0.7
        return 0.0

    def _doubts(self, history: History, moved: Updates, up: Rise) -> tuple[str, ...]:
        """Return what else may have made the updates long, in words."""
        chance = chance_loss(history)
        found = []
        if _raw_input(history):
            found.append("the inputs are not normalized")
        last = _last_before_breaking(history)
        if last is not None and up.rows and last < self.most_left * up.start:
            found.append(f"the loss had come down to {last:.3g} when it broke all at once")
        if not adaptive(history):
            if chance is not None and up.rows and up.start > 3 * chance:
                found.append(f"the first loss was {up.start:.3g} where guessing gives {chance:.3g}")
            if moved.disparity > 1e3:
                found.append(f"gradients differ {moved.disparity:.0e}-fold between layers")
            if moved.gradient > 10:
                found.append(f"the first gradient was {moved.gradient:.3g} times the weights")
        return tuple(found)

    def _fix(self, history: History, size: float) -> str:
        rates = history[LEARNING_RATES].since(0)
        now = rates.values[0].max() if len(rates) and rates.labels else float("nan")
        tried = best_multiple(history)
        factor = tried if tried is not None and tried < 1.0 else self.ordinary_update / size
        factor = min(0.5, factor)
        if not np.isfinite(now) or now <= 0:
            return f"multiply the learning rate by about {one_digit(factor)}"
        return f"lower the learning rate: lr={one_digit(now * factor)} in place of {now:.3g}"


def _change(along: AlongUpdate) -> Evidence:
    return Evidence(EXPERIMENT_STEP_SIZE.tag, along.whole, 0.0, "change of the loss by an update")


def _last_before_breaking(history: History) -> float | None:
    """Return the loss before the one that broke, where all was sound until then; else None."""
    if not broke_suddenly(history):
        return None
    before = history[LOSS].until(breakdown(history).loss or 0).finite
    return float(before.last) if len(before) else None


def _raw_input(history: History) -> bool:
    """Whether floating-point input has |mean| > 3·std or a standard deviation beyond 10."""
    means, spreads = history[DATA_MEAN], history[DATA_STD]
    for name in _inputs(history.first_tape):
        mean, spread = means.column(name).finite, spreads.column(name).finite
        if len(mean) and len(spread):
            level, width = abs(float(mean.values[0])), float(spread.values[0])
            if width > 10 or (level > 3 * width and level > 1):
                return True
    return False


def _inputs(tape: Tape | None) -> tuple[str, ...]:
    return () if tape is None else tuple(e.leaf for e in entries(tape) if e.leaf)
