"""LP910: no cause is left to look for; the task itself is to be reconsidered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lightning_plateau.core.along_update import along_update
from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.fitting import fitting, inputs_count, label_test
from lightning_plateau.core.history import History
from lightning_plateau.core.progress import progress
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import (
    EXPERIMENT_BATCH_MIXING,
    EXPERIMENT_OVERFIT,
    EXPERIMENT_SHUFFLED_LABELS,
    EXPERIMENT_STEP_SIZE,
    EXPERIMENT_ZERO_INPUTS,
    LOSS,
)


@dataclass(frozen=True)
class StartOver(Rule):
    """Everything that can be tested is sound, and the loss does not go down.

    What it detects:
        The run is over, or half of it is; its loss does not go down any more, no other rule names
        a cause, and at least three experiments found nothing wrong: the inputs count, samples do
        not mix, one batch can be learned by heart, an update lowers the loss of its batch.

    Why it matters:
        More of the same will not help. What is left is what no measurement of a training shows: a
        question that the inputs cannot answer, labels that mean something else, a model that is not
        made for them.

    Example:
        >>> from lightning_plateau.testing import history
        >>> import numpy as np
        >>> tried = {
        ...     EXPERIMENT_ZERO_INPUTS: {"real": [2.3], "zeroed": [2.5], "swapped": [2.4]},
        ...     EXPERIMENT_BATCH_MIXING: {"halved": [0.0], "repeated": [0.0]},
        ...     EXPERIMENT_OVERFIT: {"before": [2.3], "own": [0.2]},
        ... }
        >>> run = history(tried, loss=2.3 + 0.01 * np.sin(np.arange(300.0)), finished=True)
        >>> StartOver().check(run).message
        'the loss stays at 2.3 after 300 steps, though the inputs count, samples do not mix, and one
        batch can be learned by heart'

    Remedies:
        Advice only. Begin with the smallest thing that learns (ten samples, a linear model, one
        feature that must matter) and add one part at a time, as long as it learns.

    Known limitations:
        It rests on the experiments that were made. A fault that shows on few samples only, or late,
        escapes them.

    References:
        Karpathy, 2019, A Recipe for Training Neural Networks. Godbole et al., 2023, Deep Learning
        Tuning Playbook.
    """

    code: ClassVar[str] = "LP910"
    name: ClassVar[str] = "start-over"
    severity: ClassVar[Severity] = Severity.WARNING
    last_resort: ClassVar[bool] = True
    requires: ClassVar = (
        LOSS,
        EXPERIMENT_ZERO_INPUTS,
        EXPERIMENT_BATCH_MIXING,
        EXPERIMENT_STEP_SIZE,
        EXPERIMENT_OVERFIT,
        EXPERIMENT_SHUFFLED_LABELS,
    )
    explains: ClassVar = ("LP306", "LP401", "LP402", "LP403", "LP405", "LP807", "LP808")
    why: ClassVar[str] = "more of the same will not help"

    least_experiments: int = 3
    learned: float = 0.25
    most_fall: float = 0.05

    def check(self, history: History) -> Finding | None:
        """Return the verdict where experiments were made and none found anything wrong."""
        planned = history.profile.planned_steps
        late = history.finished or (planned is not None and 2 * history.step >= planned)
        gone, sound = progress(history[LOSS]), self._sound(history)
        if not late or gone.rows == 0 or sound is None or len(sound) < self.least_experiments:
            return None
        losses = history[LOSS].finite
        recent = progress(losses.tail(len(losses) // 2))
        if -recent.slope * recent.rows > self.most_fall:
            return None  # what still falls does not call for a new beginning
        told = ", ".join(sound[:-1]) + f", and {sound[-1]}"
        return self.finding(
            history,
            0.5,
            f"the loss stays at {gone.now:.4g} after {history.step} steps, though {told}",
            evidence=(Evidence("experiments that found nothing wrong", float(len(sound))),),
            fix=self._fix(history),
        )

    def _sound(self, history: History) -> tuple[str, ...] | None:
        """Return what experiments have shown to be sound; None where one has found a fault."""
        tried, labels, along = fitting(history), label_test(history), along_update(history)
        faulty = (
            inputs_count(history) is False,
            tried is not None and tried.learned < self.learned,
            labels is not None and labels.informative is False,
            along is not None and along.overshoots,
        )
        if any(faulty):
            return None
        shown = {
            "the inputs count": EXPERIMENT_ZERO_INPUTS in history,
            "samples do not mix": EXPERIMENT_BATCH_MIXING in history,
            "an update lowers the loss of its batch": along is not None and along.holds,
            "one batch can be learned by heart": tried is not None,
            "the labels say something of the inputs": labels is not None
            and labels.informative is True,
        }
        return tuple(text for text, known in shown.items() if known)

    def _fix(self, history: History) -> str:
        labels = label_test(history)
        if labels is not None and labels.informative:
            return (
                "the data can be learned, this model is not made for it: begin with the smallest "
                "model that learns, and add one part at a time"
            )
        return (
            "ask first whether the inputs can answer the question: let a person label twenty "
            "samples, or fit a linear model or a tree on the same data; then the data, then the "
            "architecture"
        )
