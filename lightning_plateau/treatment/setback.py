"""A setback: whether a loss that has risen is due to the weights, or to what is trained on.

A loss rises where the weights have become worse. It rises as well where the task has changed under
them: other data, other labels, a curriculum. Weights of before the rise tell the two apart: given
the batch under way, they are better in the first case, and no better in the second. There nothing
is to be gained by going back, and the loss says nothing of the remedies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from lightning_plateau.core.rise import LATEST, chance_rise, rise_since
from lightning_plateau.core.signal import Signal
from lightning_plateau.experiments.experiment import Bench, Experiment, Row, conduct
from lightning_plateau.experiments.sandbox import seed
from lightning_plateau.training.run import Run
from lightning_plateau.training.snapshot import Snapshot

RECOVERED = 0.5
"""Share of a rise that earlier weights must take back for the weights to be to blame."""
EARLIER_WEIGHTS = Signal(
    "experiment/earlier_weights",
    "loss of a batch with the present weights, and with those of an earlier step",
    axis="condition",
    cadence="event",
)


@dataclass(frozen=True)
class EarlierWeights(Experiment):
    """The loss of a batch with the weights of now, and with those of an earlier step.

    Attributes:
        tensors: Parameters and buffers of the earlier step by name.
    """

    name: ClassVar[str] = "earlier-weights"
    signal: ClassVar[Signal] = EARLIER_WEIGHTS
    cost: ClassVar[float] = 2 / 3

    tensors: Mapping[str, Tensor] = field(default_factory=dict, repr=False)

    def run(self, bench: Bench) -> tuple[Row, ...]:
        """Return both losses, under the same randomness."""
        [batch] = bench.take(1)
        sandbox = bench.sandbox()
        seed(1)
        now = sandbox.loss(batch)
        _write(sandbox.module, self.tensors)
        seed(1)
        return ({"now": now, "earlier": sandbox.loss(batch)},)


@dataclass(frozen=True, slots=True)
class Setback:
    """A rise of the loss, and what the weights of before it are worth now.

    Attributes:
        step: Optimizer step of the earlier weights.
        rise: By how much the loss has risen since.
        now: Loss of the batch under way with the present weights.
        earlier: Its loss with the earlier ones.

    Example:
        >>> Setback(100, rise=1.5, now=1.7, earlier=6.7).elsewhere
        True
        >>> Setback(100, rise=1.5, now=1.7, earlier=0.3).elsewhere
        False
    """

    step: int
    rise: float
    now: float
    earlier: float

    @property
    def elsewhere(self) -> bool:
        """Whether the weights are not to blame for the rise.

        Earlier ones take neither half of it back nor, on a batch that is an easy one, half of the
        loss.
        """
        if not math.isfinite(self.now):
            return False
        least = RECOVERED * (min(self.rise, self.now) if self.earlier > 0.0 else self.rise)
        return not self.now - self.earlier >= least

    def __str__(self) -> str:
        return (
            f"on this batch the loss is {self.now:.4g}, and {self.earlier:.4g} with the weights of "
            f"step {self.step}, when it was lower: what is trained on has changed, not the weights"
        )


def setback(run: Run, earlier: Snapshot | None, rows: int = LATEST) -> Setback | None:
    """Return what became of a run since ``earlier``; None where the loss has not risen for good.

    The run is left bit for bit as it is. None too where nothing can be measured.

    Args:
        run: The run, with the batch under way; on several ranks all of them ask at the same step.
        earlier: The state of a time when the run was well.
        rows: Losses that tell where the loss is now.
    """
    if earlier is None or run.batch is None or any(a.sharded or a.deepspeed for a in run.adapters):
        return None
    rise = rise_since(run.history, earlier.step, rows)
    # Weights that nothing was learned with tell nothing, nor does a rise that chance explains.
    if earlier.step == 0 or not rise > chance_rise(run.history, earlier.step, rows):
        return None
    experiment = EarlierWeights(earlier.state["module"])
    result = conduct(experiment, Bench(run.trainer, run.module, (run.batch,)))
    if not result.rows:
        return None
    [row] = result.rows
    return Setback(earlier.step, rise, row["now"], row["earlier"])


def since_well(run: Run) -> Setback | None:
    """Return what became of a run since the last state that was well, as ``setback`` does.

    A state that was taken at the brink is no better than what came after it, though one before it
    is. It is given up for that one.
    """
    last = None
    for state in run.snapshots.before(run.step):
        found = setback(run, state)
        if found is None:
            break
        if not found.elsewhere:
            run.snapshots.forget_after(state)
            return found
        last = last or found
    return last


def _write(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    # The copy holds compiled parts as what they were compiled from.
    plain = {name.replace("_orig_mod.", ""): tensor for name, tensor in tensors.items()}
    buffers = dict(module.named_buffers())
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            # What is frozen is part of the task (the slow copy that a value is compared with).
            if tensor.requires_grad or name in buffers:
                tensor.copy_(plain[name])
