"""The sandbox: training steps of the user's own module that leave the training bit for bit."""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from inspect import Parameter, signature
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.optim import Optimizer

from lightning_plateau.core.tape import Tape
from lightning_plateau.experiments.budget import Budget
from lightning_plateau.experiments.replica import replicate
from lightning_plateau.experiments.silence import silence
from lightning_plateau.experiments.stand_ins import StrategyStandIn, TrainerStandIn
from lightning_plateau.recording.batch import leaves
from lightning_plateau.recording.tape import TapeRecorder
from lightning_plateau.training.snapshot import randomness_kept

FORWARD = 1 / 3
"""What a pass forward costs, in training steps."""


class InconclusiveError(RuntimeError):
    """An experiment cannot be made of this training; the message says why."""


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Leave random states, modes, trackers and the gradients of ``module`` as they are.

    Raises:
        RuntimeError: If something inside reached the parameters or buffers of ``module``: what it
            measured is of both, and one that was changed stays so.
    """
    live = [t for t in (*module.parameters(), *module.buffers()) if not t.is_inference()]
    versions = [tensor._version for tensor in live]
    # A function that still reaches the original would add to these: they are put out of its way.
    gradients = [tensor.grad for tensor in live]
    try:
        for tensor in live:
            tensor.grad = None
        with randomness_kept(), torch.enable_grad(), _eager(), silence():
            yield
    finally:
        strayed = any(tensor.grad is not None for tensor in live)
        for tensor, gradient in zip(live, gradients, strict=True):
            tensor.grad = gradient
    if versions != [tensor._version for tensor in live]:
        raise RuntimeError("training_step changed the original through a reference it kept")
    if strayed:
        raise RuntimeError("training_step uses the module by another name than self")


def _eager() -> AbstractContextManager[Any]:
    """Let compiled functions run as what they were compiled from, where torch can do that."""
    stance = getattr(torch.compiler, "set_stance", None)
    if stance is None or "torch._dynamo" not in sys.modules:
        return nullcontext()
    eager: AbstractContextManager[Any] = stance("force_eager")
    return eager


def seed(number: int) -> None:
    """Start every random generator of the process from ``number``."""
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002 - what users' augmentations draw from
    torch.manual_seed(number)


class Sandbox:
    """A copy of the module and its optimizers, on which the user's ``training_step`` can run.

    Nothing that happens here reaches the training: logging, printing and schedulers are silent, the
    Trainer can be read only. Use it within ``undisturbed``.

    Args:
        trainer: The Trainer.
        module: The LightningModule that is trained.
        budget: What steps are taken off.

    Attributes:
        updates: Steps that the optimizers of the copy have made.
    """

    def __init__(self, trainer: Any, module: nn.Module, budget: Budget) -> None:
        stand_in = TrainerStandIn(trainer)
        self.module, self.optimizers = replicate(module, trainer.optimizers, stand_in, trainer)
        self._real = trainer
        self._budget = budget
        self._manual = not module.automatic_optimization
        self._backward_from: list[Tensor] = []
        self._stepping = True
        self._calls = 0
        self.updates = 0
        self._isolate(stand_in)

    def _isolate(self, trainer: TrainerStandIn) -> None:
        for optimizer in self.optimizers:
            self._gate(optimizer, optimizer)
        trainer.attach(
            StrategyStandIn(self._real.strategy, self.module, self.optimizers, self._backward)
        )
        for part in self.module.modules():
            if "_trainer" in vars(part):  # a LightningModule
                for name in ("log", "log_dict", "print"):
                    part.__dict__[name] = _nothing

    def _gate(self, optimizer: Optimizer, acting: Optimizer) -> None:
        """Let the steps of ``optimizer`` be made by ``acting``, and only while stepping."""
        make = type(acting).step

        def step(closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
            if self._stepping:
                self.updates += 1
                return make(acting, closure, **kwargs)
            return None if closure is None else closure()

        optimizer.step = step  # type: ignore[method-assign]

    def _backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        self._backward_from.append(loss.detach())
        loss.backward(*args, **kwargs)  # type: ignore[no-untyped-call]

    # -- what experiments do --------------------------------------------------------------------

    @property
    def parameters(self) -> list[Tensor]:
        """The parameters that the optimizers move."""
        return [
            parameter
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.requires_grad
        ]

    def leave_out_dropout(self) -> None:
        """Let nothing be dropped from now on; what else training mode does stays."""
        for part in self.module.modules():
            if isinstance(part, _DropoutNd):
                part.eval()
            elif isinstance(part, nn.RNNBase | nn.MultiheadAttention):
                part.dropout = 0.0

    def use_adam(self, learning_rate: float) -> None:
        """Let a fresh Adam make the steps from now on.

        Raises:
            InconclusiveError: If there are several optimizers, which play against each other.
        """
        self._insist_on_one_optimizer()
        [optimizer] = self.optimizers
        self._gate(optimizer, torch.optim.Adam(self.parameters, lr=learning_rate))

    def _insist_on_one_optimizer(self) -> None:
        if len(self.optimizers) != 1:
            raise InconclusiveError(f"the module has {len(self.optimizers)} optimizers")

    def scale_learning_rate(self, factor: float) -> None:
        """Multiply the learning rates of the copy's own optimizers."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["lr"] * factor

    def step(self, batch: Any) -> float:
        """Make a training step on a copy of ``batch``, and return the loss before it."""
        self._budget.spend()
        self._insist_on_one_optimizer()
        if self._manual:
            return float(self._forward(batch).detach())
        [optimizer] = self.optimizers
        losses: list[Tensor] = []

        def closure() -> Tensor:
            losses.append(self._forward(batch))
            self._backward_scaled(losses[-1])
            self._clip(optimizer)
            return losses[-1]

        optimizer.step(closure)  # type: ignore[arg-type]
        return float(losses[0].detach())

    def loss(self, batch: Any) -> float:
        """Return the loss of a copy of ``batch``; no parameter moves."""
        self._budget.spend(FORWARD)
        self._stepping = False
        try:
            return float(self._forward(batch).detach())
        finally:
            self._stepping = True

    def gradients(self, batch: Any) -> float:
        """Return the loss of a copy of ``batch``, and leave its gradients on the parameters."""
        self._budget.spend()
        self._stepping = False
        try:
            loss = self._forward(batch)
            if not self._manual:
                self._backward_scaled(loss)
            return float(loss.detach())
        finally:
            self._stepping = True

    def tape(self, batch: Any) -> Tape:
        """Return the tape of a pass forward on a copy of ``batch``."""
        self._budget.spend(FORWARD)
        self._stepping = False
        batch = copied(batch)
        recorder = TapeRecorder(0, self.module, leaves(batch))
        recorder.start()
        loss: Tensor | None = None
        try:
            loss = self._forward(batch, as_it_is=True)
        finally:
            draft = recorder.stop(loss)
            self._stepping = True
        if recorder.failure is not None:
            raise InconclusiveError(f"the forward pass could not be taped: {recorder.failure}")
        return draft.tape([tensor.detach().float().cpu().numpy() for tensor in draft.tensors()])

    # -- one pass -------------------------------------------------------------------------------

    def _forward(self, batch: Any, *, as_it_is: bool = False) -> Tensor:
        """Run the user's ``training_step``; return its loss, ``[]``, with its graph."""
        self._backward_from.clear()
        self._clear_gradients()
        with self._real.precision_plugin.train_step_context():
            output = self._training_step(batch if as_it_is else copied(batch))
        loss = output.get("loss") if isinstance(output, Mapping) else output
        if isinstance(loss, Tensor):
            return loss.reshape(()) if loss.numel() == 1 else loss.mean()
        if self._backward_from:
            return torch.stack([one.reshape(()) for one in self._backward_from]).sum()
        raise InconclusiveError("training_step returned no loss")

    def _training_step(self, batch: Any) -> Any:
        step: Callable[..., Any] = self.module.training_step  # type: ignore[assignment]
        positional = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        taken = signature(step).parameters.values()
        if sum(parameter.kind in positional for parameter in taken) > 1 or any(
            parameter.kind is Parameter.VAR_POSITIONAL for parameter in taken
        ):
            # Not 0, for which users draw pictures, and not always the same: they count by it.
            self._calls += 1
            return step(batch, self._calls)
        return step(batch)

    def _clear_gradients(self) -> None:
        for parameter in self.module.parameters():
            parameter.grad = None

    def _backward_scaled(self, loss: Tensor) -> None:
        """Run backward; gradients of half precision are scaled up on their way."""
        scaler = getattr(self._real.precision_plugin, "scaler", None)
        scale = 1.0 if scaler is None else float(scaler.get_scale())
        (loss * scale).backward()  # type: ignore[no-untyped-call]
        for parameter in self.module.parameters() if scale != 1.0 else ():
            if parameter.grad is not None:
                parameter.grad /= scale

    def _clip(self, optimizer: Optimizer) -> None:
        """Clip as the user's Trainer and module do."""
        clip: Callable[..., Any] = self.module.configure_gradient_clipping  # type: ignore[assignment]
        clip(
            optimizer,
            gradient_clip_val=self._real.gradient_clip_val,
            gradient_clip_algorithm=self._real.gradient_clip_algorithm,
        )


def copied(batch: Any) -> Any:
    """Return a copy of a batch: a ``training_step`` may change what it is given."""
    return copy.deepcopy(batch)


def _nothing(*_: Any, **__: Any) -> None:
    """Stand for what must leave no trace."""
