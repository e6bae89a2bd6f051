"""dropout: leave out part of what enters a layer while it trains."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import nn
from torch.nn import functional as F

from lightning_plateau.core.remedy import Change, Remedy, Safety
from lightning_plateau.core.signal import VALIDATION_LOSS, Signal
from lightning_plateau.core.stages import stages
from lightning_plateau.training.training_input import TrainingInput

MOST = 0.5
KINDS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


@dataclass(frozen=True)
class Dropout(Remedy):
    """Raise the rate of the network's dropout, or put one before its last layer.

    Args:
        add: What is added to the rates that there are, at most up to 0.5; also the rate before the
            last layer where there are none. Above 0, at most 0.5.

    What it changes:
        ``p`` of the dropout layers that are trained with; in a network without any, what enters
        the last layer is dropped out in training mode. Parameters, their names and evaluation stay
        as they are, so checkpoints and predictions need nothing.

    When it helps:
        Where training goes on improving and validation does not (LP801). It is judged by the
        validation loss.

    Safety:
        The training loss rises, as it should. Random numbers are drawn that were not drawn before.
        It lasts over a resume; without this library a resumed run goes on without it. Refused in
        compiled modules and without validation.

    How to undo:
        It is reverted by itself where it does not help. To keep it, write it into the network.

    Example:
        >>> Dropout(add=0.3).add
        0.3

    References:
        Srivastava et al., 2014, "Dropout: A Simple Way to Prevent Neural Networks from
        Overfitting".
    """

    name: ClassVar[str] = "dropout"
    safety: ClassVar[Safety] = Safety.UNSAFE
    lasting: ClassVar[bool] = True
    watched: ClassVar[Signal] = VALIDATION_LOSS
    levels: ClassVar = ({"add": 0.2}, {"add": 0.4})

    add: float = 0.2

    def __post_init__(self) -> None:
        if not 0.0 < self.add <= MOST:
            raise ValueError(f"add must be above 0 and at most {MOST}, but is {self.add}")

    def obstacle(self, run: Any) -> str | None:
        """Return why nothing can be dropped out; None where something can."""
        if run.history.last_tape is None:
            return f"{run.untaped}, so that the layers are not known"
        if VALIDATION_LOSS not in run.history:
            return "there is no validation to judge it by"
        rates = _rates(run.module)
        if rates and all(rate >= MOST for rate in rates.values()):
            return f"every dropout has a rate of {MOST} already"
        return None if rates or _head(run) else "the last layer is not a module that is called once"

    def apply(self, run: Any) -> Change:
        """Raise the rates."""
        rates = _rates(run.module)
        if rates:
            after = {name: max(p, min(MOST, p + self.add)) for name, p in rates.items()}
        else:
            head = _head(run)
            rates, after = {head: 0.0}, {head: self.add}
        change = Change(rates, after, {"rates": rates})
        self.resume(run, change)
        return change

    def revert(self, run: Any, change: Change) -> None:
        """Put the old rates back."""
        run.detach(self.name)
        for name, rate in change.undo["rates"].items():
            module = run.module.get_submodule(name)
            if isinstance(module, KINDS):
                module.p = rate

    def resume(self, run: Any, change: Change) -> None:
        """Drop out at the new rates."""
        for name in change.undo["rates"]:
            module, rate = run.module.get_submodule(name), float(change.after[name] or 0.0)
            if isinstance(module, KINDS):
                module.p = rate
            else:
                run.attach(self.name, TrainingInput(module, partial(F.dropout, p=rate)))


def _rates(module: nn.Module) -> dict[str, float]:
    return {name: m.p for name, m in module.named_modules() if isinstance(m, KINDS) and m.training}


def _head(run: Any) -> str:
    """Return the name of the last layer; ``""`` where it is no module or is called twice."""
    tape = run.history.last_tape
    last = [stage.operation for stage in stages(tape) if stage.activation is None][-1:]
    if not last or sum(o.layer == last[0].layer for o in tape) != 1:
        return ""
    module = dict(run.module.named_modules()).get(last[0].layer)
    plain = isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
    return last[0].layer if plain else ""
