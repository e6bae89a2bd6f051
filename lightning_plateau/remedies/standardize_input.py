"""standardize-input: give the first layer inputs of mean 0 and standard deviation 1."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lightning_plateau.core.remedy import Change, Remedy, Safety
from lightning_plateau.core.roles import Entry, entries
from lightning_plateau.core.tape import SHAPE_OPERATIONS, Tape
from lightning_plateau.recording.batch import leaves
from lightning_plateau.training.standardizer import Layer, Standardizer, moments

LEAST_SAMPLES = 4
FAR, SMALLEST, LARGEST, UNEVEN = 3.0, 0.05, 5.0, 30.0
MOVING = frozenset(
    ["transpose", "permute", "t", "movedim", "swapaxes", "getitem", "select", "narrow"]
)
"""Operations after which a feature is no longer where the batch has it."""


@dataclass(frozen=True)
class StandardizeInput(Remedy):
    """Standardize what enters the first layers, feature by feature.

    What it changes:
        From then on the inputs of the first linear or convolutional layers pass through
        (x − mean)/scale, with numbers for each feature or channel that are taken once, from the
        batch under way. In front of padding with zeros and where there is no bias, they are divided
        only. The network begins again from its first weights.

    When it helps:
        With raw pixels from 0 to 255, and with features in units of their own: one that is a
        thousand times as large as the others decides where every step goes (LP101, LP706).

    Safety:
        Validation and prediction get the same treatment, and **what is saved needs none**: in state
        dicts, checkpoints and after training, mean and scale are folded into the weights of the
        layer, so that the plain network computes the same, with this library or without it. It
        is refused where the network has learned something already, where the input is not taken
        straight from the batch, for recurrent and for grouped layers, and where inputs are standard
        anyway.

    How to undo:
        It is reverted by itself where it does not help: the hook is taken off, and the state before
        it restored. To keep it, standardize in the data set.

    Example:
        >>> StandardizeInput().renews
        True

    References:
        LeCun et al., 1998, "Efficient BackProp". Schoop et al., 2021, "UMLAUT" (CHI).
    """

    name: ClassVar[str] = "standardize-input"
    safety: ClassVar[Safety] = Safety.UNSAFE
    renews: ClassVar[bool] = True
    lasting: ClassVar[bool] = True

    def obstacle(self, run: Any) -> str | None:
        """Return why no input can be standardized; None where one can."""
        reasons = [adapter.obstacle("roll-back") for adapter in run.adapters]
        reason = next((reason for reason in reasons if reason is not None), None)
        if reason is not None:
            return str(reason)
        if run.history.last_tape is None:
            return f"{run.untaped}, so that the first layer is not known"
        if not run.worthless:
            return "the network has learned from its inputs as they are"
        if run.batch is not None and not _found(run):
            return "no first layer takes an input that is not standard straight from the batch"
        return None

    def apply(self, run: Any) -> Change:
        """Hang the standardization on the first layers."""
        found = run.trainer.strategy.broadcast(_found(run))
        change = Change(
            dict.fromkeys(found, "as it is"),
            {name: f"divided by {float(scale.median()):.3g}" for name, (_, scale) in found.items()},
            {"moments": {name: list(pair) for name, pair in found.items()}},
        )
        self._attach(run, change)
        return change

    def revert(self, run: Any, change: Change) -> None:
        """Take it off."""
        for name in change.undo["moments"]:
            run.detach(f"{self.name} {name}")

    def resume(self, run: Any, change: Change) -> None:
        """Hang it on again: a checkpoint holds the plain network."""
        for standardizer in self._attach(run, change):
            standardizer.unfold()

    def _attach(self, run: Any, change: Change) -> list[Standardizer]:
        made = []
        for name, (mean, scale) in change.undo["moments"].items():
            made.append(Standardizer(run.module.get_submodule(name), mean, scale))
            run.attach(f"{self.name} {name}", made[-1])
        return made


def _found(run: Any) -> dict[str, tuple[Tensor, Tensor]]:
    """Return mean and scale of the inputs that are not standard, by the name of their layer."""
    tape, batch = run.history.last_tape, dict(leaves(run.batch))
    modules = dict(run.module.named_modules())
    found = {}
    for entry in entries(tape):
        layer = modules.get(entry.operation.layer)
        leaf = batch.get(entry.leaf)
        if leaf is None or not _suits(layer, entry, tape):
            continue
        values = _by_feature(layer, entry, leaf)
        if values is None or len(values) < LEAST_SAMPLES or not bool(torch.isfinite(values).all()):
            continue
        mean, scale = moments(values)
        if not _shifts(layer):
            mean, scale = torch.zeros_like(mean), (mean.square() + scale.square()).sqrt()
        if not _is_standard(mean, scale):
            found[entry.operation.layer] = (mean.cpu(), scale.cpu())
    return found


def _suits(layer: nn.Module | None, entry: Entry, tape: Tape) -> bool:
    """Whether the layer is a plain one, called once, on the batch's tensor but for its shape."""
    if not isinstance(layer, Layer) or nn.utils.parametrize.is_parametrized(layer):
        return False
    calls = [operation for operation in tape if operation.layer == entry.operation.layer]
    operand, moved = entry.operand, False
    while operand.source == "operation":
        operation = tape.operations[operand.index]
        moved |= operation.name in MOVING or operation.name not in SHAPE_OPERATIONS
        operand = operation.operands[0]
    grouped = not isinstance(layer, nn.Linear) and layer.groups != 1
    return len(calls) == 1 and not moved and not grouped


def _by_feature(layer: Any, entry: Entry, leaf: Tensor) -> Tensor | None:
    """Return what enters the layer as ``[n, features]``; None where the shapes do not tell."""
    features = layer.weight.shape[1]
    expected = (len(leaf), *entry.operand.shape[1:])
    if leaf.numel() != prod(expected):
        return None
    values = leaf.detach().to(torch.float64).reshape(expected)
    if isinstance(layer, nn.Linear):
        return values.reshape(-1, features) if values.shape[-1] == features else None
    if values.dim() != layer.weight.dim() or values.shape[1] != features:
        return None
    return values.transpose(0, 1).flatten(1).T


def _shifts(layer: Any) -> bool:
    """Whether a shift of the input can be folded into the layer exactly."""
    if layer.bias is None:
        return False
    if isinstance(layer, nn.Linear):
        return True
    padded = layer.padding not in (0, "valid") and any(layer.padding)
    return not padded or layer.padding_mode != "zeros"


def _is_standard(mean: Tensor, scale: Tensor) -> bool:
    """Whether no feature lies far from zero for its size, nor is far larger than another."""
    smallest, largest = float(scale.min()), float(scale.max())
    centred = bool((mean.abs() <= FAR * scale.clamp_min(float(scale.median()))).all())
    return centred and smallest > SMALLEST and largest < LARGEST and largest < UNEVEN * smallest
