"""replace-activation: put a rectifier with slopes everywhere in place of what blocks gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import nn

from lightning_plateau.core.remedy import Change, Remedy, Safety
from lightning_plateau.core.stages import hidden_activations
from lightning_plateau.core.tape import Tape
from lightning_plateau.remedies.reinitialize import fresh_values, may_be_drawn, pretrained
from lightning_plateau.training.rewriting import restore, rewrite

REPLACEMENTS: dict[str, type[nn.Module]] = {
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
}
REPLACEABLE = (
    nn.Sigmoid,
    nn.Tanh,
    nn.ReLU,
    nn.ReLU6,
    nn.Hardtanh,
    nn.Hardsigmoid,
    nn.Softsign,
    nn.LogSigmoid,
)
"""Activations without parameters, whose modules hold nothing that a checkpoint would carry."""


@dataclass(frozen=True)
class ReplaceActivation(Remedy):
    """Replace the hidden activations by one that lets gradients pass, and draw the weights anew.

    Args:
        to: The new activation: ``"leaky_relu"``, ``"elu"`` or ``"gelu"``.
        rate: What the learning rates are multiplied by, above 0. Through a stack of sigmoids hardly
            any gradient comes; a rate that was raised for its sake is too high for a rectifier.

    What it changes:
        Every activation *module* without parameters (sigmoid, tanh, ReLU …) whose values all go
        into further layers is replaced in the module that holds it. Activations of the output and
        gates stay. The weights of the layers are drawn anew for the new activation, as reinitialize
        does: those that suit a sigmoid do not suit a rectifier. With ``rate`` the learning rates,
        and the schedule with them, as decay-learning-rate does.

    When it helps:
        In deep stacks of sigmoid or tanh, where gradients vanish on their way to the first layers
        (LP302), and where rectifiers are dead (LP501).

    Safety:
        It makes another network of yours, so it is tried only where nothing was learned yet and
        nothing looks pretrained. Parameters keep their names and shapes: a checkpoint loads without
        this library too. But a checkpoint holds no activations: **write the new one into your
        code** before you use the weights elsewhere. Activations called as functions
        (``torch.sigmoid``) cannot be replaced, and nothing can in a compiled module.

    How to undo:
        It is reverted by itself where it does not help: the same modules are put back, and the
        weights, bit for bit, and the learning rates.

    Example:
        >>> ReplaceActivation(to="elu").lasting
        True

    References:
        Maas et al., 2013, "Rectifier Nonlinearities Improve Neural Network Acoustic Models".
        Zhang et al., 2021, "AutoTrainer" (ICSE).
    """

    name: ClassVar[str] = "replace-activation"
    safety: ClassVar[Safety] = Safety.UNSAFE
    renews: ClassVar[bool] = True
    lasting: ClassVar[bool] = True
    levels: ClassVar = (
        {"to": "leaky_relu"},
        {"to": "leaky_relu", "rate": 0.1},
        {"to": "elu", "rate": 0.1},
    )

    to: Literal["leaky_relu", "elu", "gelu"] = "leaky_relu"
    rate: float = 1.0

    def __post_init__(self) -> None:
        if self.to not in REPLACEMENTS:
            raise ValueError(f"to must be one of {', '.join(REPLACEMENTS)}, but is {self.to!r}")
        if not 0.0 < self.rate < float("inf"):
            raise ValueError(f"rate must be a positive finite number, but is {self.rate}")

    def obstacle(self, run: Any) -> str | None:
        """Return why the activations must stay; None where they need not."""
        needs = ("roll-back", *(("scale-learning-rate",) if self.rate != 1.0 else ()))
        reasons = [adapter.obstacle(need) for need in needs for adapter in run.adapters]
        reason = next((reason for reason in reasons if reason is not None), None)
        if reason is not None:
            return str(reason)
        tape = run.history.last_tape
        if tape is None:
            return f"{run.untaped}, so that the activations are not known"
        if not self._sites(run, tape):
            return "no hidden activation is a module of its own without parameters"
        if not run.worthless:
            return "the network has learned something with its activations"
        return pretrained(run, [stage.weight for stage in may_be_drawn(run)])

    def apply(self, run: Any) -> Change:
        """Put the new activations in place, and draw the weights anew."""
        sites = self._sites(run, run.history.last_tape)
        kinds = {name: type(run.module.get_submodule(name)).__name__ for name in sites}
        instead = dict.fromkeys(sites.values(), self.to)
        undo = rewrite(run.module, run.adapters, fresh_values(run, may_be_drawn(run), instead))
        before: dict[str, Any] = dict(kinds)
        after: dict[str, Any] = dict.fromkeys(kinds, REPLACEMENTS[self.to].__name__)
        if self.rate != 1.0:
            before |= run.learning_rates
            scaled = [adapter.scale_learning_rate(self.rate) for adapter in run.adapters]
            undo = {**undo, "learning_rates": scaled}
            after |= run.learning_rates
        change = Change(before, after, undo)
        self.resume(run, change)
        return change

    def revert(self, run: Any, change: Change) -> None:
        """Put the old activations back, and the weights."""
        run.detach(f"{self.name} {self.to}")
        scaled = change.undo.get("learning_rates", ())
        for adapter, undo in zip(run.adapters, scaled, strict=False):
            adapter.restore_learning_rate(undo)
        restore(run.module, run.adapters, change.undo)

    def resume(self, run: Any, change: Change) -> None:
        """Put the new activations in place: a checkpoint holds none."""
        new = REPLACEMENTS[self.to].__name__
        replaced = [name for name, now in change.after.items() if now == new]
        old = [run.module.get_submodule(name) for name in replaced]
        run.attach(f"{self.name} {self.to}", Replaced(run.module, old, REPLACEMENTS[self.to]))

    def _sites(self, run: Any, tape: Tape) -> dict[str, str]:
        """Return the sites of the activations to replace, by the name of their module.

        A module that is called in several places is among them only if all of them are hidden.
        """
        hidden = {operation.index for operation in hidden_activations(tape)}
        modules = dict(run.module.named_modules())
        found: dict[str, str] = {}
        for name, module in modules.items():
            calls = [operation for operation in tape if operation.layer == name]
            replaceable = isinstance(module, REPLACEABLE) and not module._forward_hooks
            suits = replaceable and not isinstance(module, REPLACEMENTS[self.to])
            if suits and calls and all(call.index in hidden for call in calls):
                found[name] = calls[0].site
        return found


class Replaced:
    """Modules that are replaced, wherever they are held.

    Args:
        root: The module that holds them.
        old: The modules to replace.
        by: What takes their place.
    """

    def __init__(
        self, root: nn.Module, old: Sequence[nn.Module], by: Callable[[], nn.Module]
    ) -> None:
        self._root = root
        self._pairs = [(module, by().train(module.training)) for module in old]
        for module, new in self._pairs:
            self._put(new, module)

    def _put(self, new: nn.Module, old: nn.Module) -> None:
        for holder in list(self._root.modules()):
            for name, child in list(holder._modules.items()):
                if child is old:
                    setattr(holder, name, new)

    def close(self) -> None:
        """Put the old modules back."""
        for old, new in self._pairs:
            old.train(new.training)
            self._put(old, new)

    def finish(self) -> None:
        """Leave the new ones: the weights were trained with them."""
