"""LP106: the labels say nothing of the inputs; what is learned is memorized."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from lightning_plateau.core.chance import guessing_by_frequency
from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.fitting import LabelTest, inputs_count, label_test
from lightning_plateau.core.generalization import generalization
from lightning_plateau.core.history import Floats, History
from lightning_plateau.core.labels import labels
from lightning_plateau.core.objective import comparisons
from lightning_plateau.core.patience import patience
from lightning_plateau.core.progress import progress
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import (
    EXPERIMENT_SHUFFLED_LABELS,
    LABEL_COUNTS,
    LOSS,
    VALIDATION_LOSS,
)
from lightning_plateau.core.tape import CLASS_LOSSES, Tape


@dataclass(frozen=True)
class LabelsUninformative(Rule):
    """The labels say nothing of the inputs; what is learned is memorized.

    What it detects:
        No validation was ever better than guessing, and in the first epoch, while each sample was
        new, training was not either; yet later the training loss fell below that of guessing, or
        it stayed there in spite of some epochs of training. What helps only on samples that were
        seen before is memory. While validation is still getting better nothing is said. Where the
        experiment with shuffled labels was made, it decides: the labels as they are were learned no
        faster than shuffled ones, and helped no more on batches that were not trained on, and the
        run learned nothing while its samples were new. Or every label that was counted in two
        epochs is the same, though the loss tells several classes apart.

    Why it matters:
        Labels that were shuffled, joined to the wrong rows or drawn at random cannot be learned by
        any model: no setting of the training mends them.

    Example:
        >>> from lightning_plateau.core.profile import Profile
        >>> from lightning_plateau.core.tape import Operand, Operation, Tape
        >>> from lightning_plateau.testing import history
        >>> fc = Operation(0, "linear", "fc", (Operand("parameter", name="fc.weight"),), (8, 10))
        >>> sides = (Operand("operation", 0, shape=(8, 10)), Operand("batch", 1, "1", (8,)))
        >>> tape = Tape(0, (fc, Operation(1, "cross_entropy", "", sides)), root=1)
        >>> run = history(
        ...     {VALIDATION_LOSS: [2.32, 2.35, 2.4, 2.5, 2.6]},
        ...     loss=np.linspace(2.6, 1.4, 200),
        ...     every=40,
        ...     tapes=[tape],
        ...     profile=Profile(batches_per_epoch=40),
        ... )
        >>> LabelsUninformative().check(run).certainty
        'likely'

    Remedies:
        Advice only: look at some inputs beside their labels as the loader gives them; find the
        place where they are sorted, filtered or joined apart.

    Known limitations:
        It waits for four validations and a sixth of the run; a network that understands later than
        that is misjudged until then. Where the validation data is prepared in another way than the
        training data it may look the same, unless training was better than guessing in the first
        epoch already. Where the loss of guessing is unknown nothing is said.

    References:
        Zhang et al., 2017, Understanding Deep Learning Requires Rethinking Generalization (ICLR).
        Arpit et al., 2017, A Closer Look at Memorization in Deep Networks (ICML).
    """

    code: ClassVar[str] = "LP106"
    name: ClassVar[str] = "labels-uninformative"
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (LOSS, VALIDATION_LOSS, LABEL_COUNTS, EXPERIMENT_SHUFFLED_LABELS)
    explains: ClassVar = ("LP104", "LP306", "LP401", "LP801", "LP802", "LP807", "LP808")
    why: ClassVar[str] = "no model can learn labels that do not depend on the inputs"

    least_validations: int = 4
    near_chance: float = 0.98
    near_chance_elsewhere: float = 0.75
    memorized: float = 0.9
    least_batches: int = 8
    fewest_samples: int = 200
    far: float = 2.0
    least_steps: int = 40
    most_fall: float = 0.05

    def check(self, history: History) -> Finding | None:
        """Return the fault where only samples seen before are predicted better than by guessing."""
        constant = self._constant(history)
        return self._memorized(history) if constant is None else constant

    def _constant(self, history: History) -> Finding | None:
        """Return the fault where each label that was counted is the same."""
        counted, epoch = labels(history), history.profile.steps_per_epoch
        tape = history.last_tape
        if counted is None or len(counted.names) > 1 or epoch is None or tape is None:
            return None
        seen = float(counted.totals.sum())
        long = history.step >= 2 * epoch and len(counted.steps) >= self.least_batches
        if not long or seen < self.fewest_samples or not _classifies(tape):
            return None
        found = self.finding(
            history,
            0.9,
            f"each of {seen:.0f} labels that were counted in {len(counted.steps)} batches is "
            f"{counted.names[0]}: the same answer for every input is all there is to learn",
            evidence=(Evidence("classes that occur", 1.0, 2.0),),
            fix="print the labels of a few samples as the data set makes them: a mapping that "
            "finds no key, a path cut off in the wrong place, a division that rounds down to 0",
        )
        return replace(found, explains=(*found.explains, "LP602"))  # what validation says is right

    def _memorized(self, history: History) -> Finding | None:
        """Return the fault where an experiment or the validation tells."""
        tried = label_test(history)
        if tried is not None and tried.informative is not None:
            found = None if tried.informative else self._tested(history, tried)
            if found is not None or tried.informative:
                return found
        guess, beside = guessing_by_frequency(history), generalization(history)
        chance = None if guess is None else guess.loss
        young = len(beside) < self.least_validations or history.step < patience(history)
        if chance is None or chance <= 0 or young:
            return None
        best, now = float(beside.validation.min()), float(beside.training[-1])
        # Where no validation comes near to a constant answer, it is not knowledge that is wanting.
        without_gain = self.near_chance * chance <= best <= self.far * chance
        if not without_gain or now > self.memorized * chance:
            return None
        if self._improves(beside.validation):
            return None
        new = self._first_epoch(history)
        if new is None or (first := float(np.median(new))) < self.near_chance * chance:
            return None
        return self.finding(
            history,
            0.75,
            f"the training loss fell to {now:.3g}, but none of {len(beside)} validations was "
            f"better than guessing (the best has {best:.3g}, guessing {chance:.3g})",
            evidence=(
                Evidence(VALIDATION_LOSS.tag, best, chance, "best, and that of guessing"),
                Evidence(LOSS.tag, first, chance, "end of the first epoch, and that of guessing"),
                Evidence(LOSS.tag, now, chance, "now, and that of guessing"),
            ),
            fix=_FIX,
        )

    def _improves(self, validation: Floats) -> bool:
        """Whether validation is at its best now: it may be better than guessing before long.

        Where memory is all that is learned, validation gets worse with it.
        """
        latest = len(validation) - max(1, len(validation) // 4)
        return int(np.argmin(validation)) >= latest

    def _tested(self, history: History, tried: LabelTest) -> Finding | None:
        """Return the fault where the experiment with shuffled labels showed it."""
        if inputs_count(history) is False or not self._learned_nothing(history):
            return None
        return self.finding(
            history,
            0.55,
            f"a short training lowered the loss by {100 * tried.true:.0f} % with the labels as "
            f"they are and by {100 * tried.shuffled:.0f} % with shuffled ones, and unseen batches "
            f"gained nothing from either",
            evidence=(
                Evidence("fall with the labels as they are", tried.true, tried.shuffled),
                Evidence("gain of unseen batches over shuffled labels", tried.gained, 0.02),
            ),
            fix=_FIX,
        )

    def _learned_nothing(self, history: History) -> bool:
        """Whether the loss was no better than guessing while samples were new, or did not fall.

        Nor may a validation have been better than guessing, or training where there is none.
        """
        known, gone = guessing_by_frequency(history), progress(history[LOSS])
        if gone.rows < self.least_steps:
            return False
        chance = None if known is None else known.loss
        new, beside = self._first_epoch(history), generalization(history)
        flat = gone.fall < self.most_fall and gone.slope >= 0
        # What targets spread is only known of those that were seen, and no batch is like another.
        if chance is None or new is None or (flat and known is not None and not known.classes):
            return flat
        if float(np.mean(new)) + 2.0 * _error(new) < self.near_chance * chance:
            return False
        if not len(beside):
            return gone.now >= self.near_chance * chance
        # A constant number scores otherwise on other samples, the fewer they are: what it scores
        # there is what validation was after the first epoch, if that was near to it.
        start, best = float(beside.validation[0]), float(beside.validation.min())
        elsewhere = known is not None and not known.classes
        near = elsewhere and start >= self.near_chance_elsewhere * chance
        return best >= self.near_chance * (min(start, chance) if near else chance)

    def _first_epoch(self, history: History) -> Floats | None:
        """Return the training losses at the end of the first epoch, if there are more.

        Before it ended, no sample was seen twice.
        """
        steps = history.profile.steps_per_epoch
        losses = history[LOSS].finite
        if steps is None or not len(losses) or int(losses.steps[-1]) < 2 * steps:
            return None
        new = losses.until(steps).values
        return new[-max(1, len(new) // 4) :] if len(new) else None


def _classifies(tape: Tape) -> bool:
    """Whether every loss function compares scores of several classes with labels of the batch."""
    compared = comparisons(tape)
    return bool(compared) and all(
        one.operation.name in CLASS_LOSSES
        and one.prediction.shape[1:2] > (1,)
        and tape.from_batch(one.target) is not None
        for one in compared
    )


def _error(values: Floats) -> float:
    """Return the standard error of the mean of ``values``; 0.0 of a single one."""
    return float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0


_FIX = (
    "print some inputs beside their labels, as the loader gives them: they must belong together "
    "(sorted, filtered, shuffled or joined apart?)"
)
