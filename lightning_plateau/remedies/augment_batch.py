"""augment-batch: show each image a little differently every time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from lightning_plateau.core.objective import comparisons
from lightning_plateau.core.remedy import Change, Remedy, Safety
from lightning_plateau.core.roles import entries
from lightning_plateau.core.signal import VALIDATION_LOSS, Signal
from lightning_plateau.core.tape import Tape
from lightning_plateau.training.training_input import Jitter, TrainingInput


@dataclass(frozen=True)
class AugmentBatch(Remedy):
    """Shift the images of each batch a little, and add a little noise.

    Args:
        mirror: Whether to mirror half of the images too: right for photographs, wrong for letters.

    What it changes:
        While it trains, the first convolution gets each image shifted by up to an eighth of its
        size, the rest black, with noise of a twentieth of the batch's standard deviation. It is
        computed on the device of the batch. Evaluation and prediction see the images as they are,
        and checkpoints need nothing.

    When it helps:
        Where training goes on improving and validation does not (LP801), and there are few images.
        It is judged by the validation loss.

    Safety:
        A shift must not change the target: it is refused where targets are images or boxes, and
        where the first convolution does not take the batch's images as they are. The training loss
        rises, as it should. Random numbers are drawn that were not drawn before. It lasts over a
        resume; without this library a resumed run goes on without it.

    How to undo:
        It is reverted by itself where it does not help. To keep it, augment in the data set.

    Example:
        >>> AugmentBatch().mirror
        False

    References:
        Shorten and Khoshgoftaar, 2019, "A survey on Image Data Augmentation for Deep Learning".
    """

    name: ClassVar[str] = "augment-batch"
    safety: ClassVar[Safety] = Safety.UNSAFE
    lasting: ClassVar[bool] = True
    watched: ClassVar[Signal] = VALIDATION_LOSS

    mirror: bool = False

    def obstacle(self, run: Any) -> str | None:
        """Return why the images cannot or must not be changed; None where they may."""
        tape = run.history.last_tape
        if tape is None:
            return f"{run.untaped}, so that the input is not known"
        if VALIDATION_LOSS not in run.history:
            return "there is no validation to judge it by"
        if not _entrance(run, tape):
            return "no convolution takes images straight from the batch"
        found = comparisons(tape)
        labelled = found and all(len(one.target.shape) <= 2 for one in found)
        return None if labelled else "the targets may have to move with the images"

    def apply(self, run: Any) -> Change:
        """Begin to augment."""
        name = _entrance(run, run.history.last_tape)
        change = Change({"augmented": ""}, {"augmented": name}, {"layer": name})
        self.resume(run, change)
        return change

    def revert(self, run: Any, change: Change) -> None:
        """Show the images as they are again."""
        run.detach(self.name)

    def resume(self, run: Any, change: Change) -> None:
        """Go on augmenting."""
        layer = run.module.get_submodule(change.undo["layer"])
        run.attach(self.name, TrainingInput(layer, Jitter(self.mirror)))


def _entrance(run: Any, tape: Tape) -> str:
    """Return the name of the convolution that takes the batch's images; ``""`` for none."""
    modules = dict(run.module.named_modules())
    for entry in entries(tape):
        layer, operation = modules.get(entry.operation.layer), entry.operation
        once = sum(o.layer == operation.layer for o in tape) == 1
        if once and entry.leaf and isinstance(layer, nn.Conv2d):
            return operation.layer
    return ""
