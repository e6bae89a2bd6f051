"""average-weights: validate and end with a running average of the weights."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

from lightning_plateau.core.remedy import Change, Remedy, Safety
from lightning_plateau.core.signal import VALIDATION_LOSS, Signal

KIND = "EMAWeightAveraging"


@dataclass(frozen=True)
class AverageWeights(Remedy):
    """Keep an exponential moving average of the weights, through Lightning's own callback.

    Args:
        decay: Weight of the past in the average, above 0 and below 1.

    What it changes:
        ``EMAWeightAveraging`` joins the callbacks of the Trainer. Training goes on as before;
        validation, checkpoints and the end of training take the average.

    When it helps:
        Where the loss swings around a minimum (LP403), or the steps are long to the end: the
        average is lower than every point of the swing. It is judged by the validation loss.

    Safety:
        A copy of the network is kept in memory. In checkpoints ``state_dict`` is the average, and
        loads anywhere; a resumed run averages anew from there. Refused where this version of
        Lightning has no such callback, where weights are averaged already, for sharded parameters
        and without validation.

    How to undo:
        It is reverted by itself where it does not help. To keep it, pass the callback yourself.

    Example:
        >>> AverageWeights(decay=0.99).decay
        0.99

    References:
        Polyak and Juditsky, 1992, "Acceleration of Stochastic Approximation by Averaging".
        Izmailov et al., 2018, "Averaging Weights Leads to Wider Optima and Better Generalization".
    """

    name: ClassVar[str] = "average-weights"
    safety: ClassVar[Safety] = Safety.UNSAFE
    lasting: ClassVar[bool] = True
    watched: ClassVar[Signal] = VALIDATION_LOSS

    decay: float = 0.98

    def __post_init__(self) -> None:
        if not 0.0 < self.decay < 1.0:
            raise ValueError(f"decay must be between 0 and 1, but is {self.decay}")

    def obstacle(self, run: Any) -> str | None:
        """Return why the weights cannot be averaged; None where they can."""
        if _callback_class(run.trainer) is None:
            return f"this version of Lightning has no {KIND}"
        if any("Averaging" in c.__name__ for o in run.trainer.callbacks for c in type(o).__mro__):
            return "the weights are averaged already"
        if VALIDATION_LOSS not in run.history:
            return "there is no validation to judge it by"
        if not run.adapters:
            return "there is no optimizer"
        reasons = [adapter.obstacle("roll-back") for adapter in run.adapters]
        return next((reason for reason in reasons if reason is not None), None)

    def apply(self, run: Any) -> Change:
        """Begin to average."""
        change = Change({"average_decay": None}, {"average_decay": self.decay})
        self.resume(run, change)
        return change

    def revert(self, run: Any, change: Change) -> None:
        """Do without the average again."""
        run.detach(self.name)

    def resume(self, run: Any, change: Change) -> None:
        """Average from here on."""
        run.attach(self.name, Averaging(run.trainer, run.module, self.decay))


class Averaging:
    """Lightning's callback among those of a Trainer.

    Args:
        trainer: The Trainer.
        module: The LightningModule.
        decay: Weight of the past.
    """

    def __init__(self, trainer: Any, module: Any, decay: float) -> None:
        kind = _callback_class(trainer)
        if kind is None:
            raise ValueError(f"expected a Lightning with {KIND}, but it has none: upgrade")
        self._trainer, self._module = trainer, module
        self._callback = kind(decay=decay)
        self._callback.setup(trainer, module, "fit")
        # A new list: the old one may be walked through at this moment.
        trainer.callbacks = [self._callback, *trainer.callbacks]

    def close(self) -> None:
        """Take the callback off; the weights are those that were trained."""
        self._trainer.callbacks = [c for c in self._trainer.callbacks if c is not self._callback]

    def finish(self) -> None:
        """End with the average."""
        self._callback.on_train_end(self._trainer, self._module)
        self.close()


def _callback_class(trainer: Any) -> Any:
    # Of the package that the Trainer comes from: there are two, and their classes do not mix.
    package = type(trainer).__module__.partition(".trainer")[0]
    return getattr(import_module(f"{package}.callbacks"), KIND, None)
