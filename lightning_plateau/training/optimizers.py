"""One adapter per optimizer: what can be done to its steps, and how."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import LBFGS, SGD, Adagrad, Adam, AdamW, Optimizer

from lightning_plateau.training import learning_rate

Action = Literal["skip", "clip", "scale-learning-rate", "roll-back"]
FUSED_CLASSES = (Adam, AdamW, SGD, Adagrad)


@dataclass(frozen=True, eq=False)
class OptimizerAdapter:
    """One optimizer of a run and what is particular about it.

    Attributes:
        optimizer: The torch optimizer.
        index: Its position in ``trainer.optimizers``.
        schedulers: The schedulers that drive it.
        fused: Whether its kernel reads ``found_inf``, so that a step can be skipped on the device.
        scaler: The gradient scaler of mixed precision; None where there is none.
        handles_unscaling: Whether a scaler leaves the unscaling to the step, so that gradients are
            still scaled in ``on_before_optimizer_step``.
        closure_repeats: Whether one step evaluates its closure several times.
        sharded: Whether parameters are spread over the ranks.
        flat_shards: Whether gradients are local shards, whose norms differ from rank to rank.
        deepspeed: Whether DeepSpeed holds gradients and optimizer state.
        manual: Whether the user steps the optimizer.
        compiled: Whether ``step`` is compiled.
    """

    optimizer: Optimizer
    index: int = 0
    schedulers: tuple[Any, ...] = ()
    fused: bool = False
    scaler: Any = field(default=None, repr=False)
    handles_unscaling: bool = False
    closure_repeats: bool = False
    sharded: bool = False
    flat_shards: bool = False
    deepspeed: bool = False
    manual: bool = False
    compiled: bool = False

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The flags that are set, as words for the profile."""
        flags = {
            "fused": self.fused,
            "scaler": self.scaler is not None,
            "handles-unscaling": self.handles_unscaling,
            "closure": self.closure_repeats,
            "sharded": self.sharded,
            "deepspeed": self.deepspeed,
            "manual": self.manual,
            "compiled": self.compiled,
        }
        return tuple(name for name, on in flags.items() if on)

    @cached_property
    def parameters(self) -> list[Tensor]:
        """The parameters in the order of the groups."""
        return list(self._parameters())

    def _parameters(self) -> Iterable[Tensor]:
        return (p for group in self.optimizer.param_groups for p in group["params"])

    @property
    def loss_scale(self) -> Tensor | None:
        """What losses are multiplied by before backward; None where by nothing."""
        # `get_scale()` would wait for the device; there is no public way that does not.
        scale: Tensor | None = None if self.scaler is None else self.scaler._get_scale_async()
        return scale

    @property
    def gradient_scale(self) -> Tensor | None:
        """What gradients are multiplied by in ``on_before_optimizer_step``; None where by nothing.

        A tensor on the device; nothing waits for it.
        """
        if self.scaler is None or not self.handles_unscaling:
            return None
        return self.loss_scale

    @property
    def accelerated(self) -> bool:
        """Whether parameters lie on an accelerator, which the host would have to wait for."""
        return any(parameter.device.type != "cpu" for parameter in self.parameters)

    @property
    def momentum_unset(self) -> bool:
        """Whether the next fused step allocates momentum, and leaves it unset if it is skipped."""
        return self.fused and isinstance(self.optimizer, SGD) and not self.optimizer.state

    def obstacle(self, action: Action) -> str | None:
        """Return why ``action`` cannot work on this optimizer; None where it can."""
        if self.deepspeed:
            return "DeepSpeed holds the gradients and the optimizer state"
        if action == "roll-back":
            return "the parameters are spread over the ranks" if self.sharded else None
        if action == "scale-learning-rate":
            return self._schedule_obstacle()
        return self._step_obstacle(action)

    def _schedule_obstacle(self) -> str | None:
        for scheduler in self.schedulers:
            if not learning_rate.keeps_scale(self.optimizer, scheduler):
                name = type(scheduler).__name__
                return f"{name} has numbers of its own, so that a factor would be lost"
        return None

    def _step_obstacle(self, action: Action) -> str | None:
        name = type(self.optimizer).__name__
        if self.closure_repeats:
            return f"{name} evaluates its closure several times a step"
        if self.flat_shards:
            return "each rank holds a shard of the gradients only, and would decide for itself"
        ignores_found_inf = self.handles_unscaling and not self.fused
        if action == "skip" and self.scaler is not None and ignores_found_inf:
            return f"{name} leaves unscaling to its step but does not read found_inf as torch's do"
        return None

    def drop_gradients(self) -> None:
        """Take the gradients away, so that the step changes nothing at all."""
        for parameter in self._parameters():
            parameter.grad = None

    @property
    def gradient_groups(self) -> list[int]:
        """The parameter group of each gradient that is present, in order."""
        return [
            place
            for place, group in enumerate(self.optimizer.param_groups)
            for parameter in group["params"]
            if parameter.grad is not None
        ]

    def scale_gradients(self, factors: Tensor | float | Sequence[float]) -> None:
        """Multiply the gradients by ``factors`` in place.

        Args:
            factors: One number for all, or one for each gradient that is present: a sequence, or a
                tensor on the device (0-d or ``[k]``), which is not waited for.
        """
        several: list[Any] | None = list(factors) if isinstance(factors, Sequence) else None
        if isinstance(factors, Tensor) and factors.dim() == 1:
            several = list(factors.unbind())
        buckets: dict[tuple[torch.device, torch.dtype], list[tuple[Tensor, Any]]] = {}
        for position, gradient in enumerate(self._gradients()):
            factor = factors if several is None else several[position]
            buckets.setdefault((gradient.device, gradient.dtype), []).append((gradient, factor))
        for (device, dtype), pairs in buckets.items():
            gradients, own = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
            if isinstance(own[0], Tensor):
                own = [factor.to(device, dtype, non_blocking=True) for factor in own]
            if several is None:
                torch._foreach_mul_(gradients, own[0])
            else:
                torch._foreach_mul_(gradients, own)

    def clip_elements(self, limit: float) -> None:
        """Cut off what is larger than ``limit`` in the unscaled gradients, in place."""
        scale = self.gradient_scale
        for gradient in self._gradients():
            if scale is None:
                gradient.clamp_(-limit, limit)
            else:
                bound = (limit * scale).to(gradient)
                torch.maximum(torch.minimum(gradient, bound), -bound, out=gradient)

    def replace_non_finite(self) -> None:
        """Set what is NaN or infinite in the gradients to zero, in place."""
        for gradient in self._gradients():
            gradient.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)

    def _gradients(self) -> Iterable[Tensor]:
        """The tensors that hold the values of the gradients that are present."""
        return (_values(p.grad) for p in self._parameters() if p.grad is not None)

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """Learning rate of each group."""
        return learning_rate.rates(self.optimizer)

    def scale_learning_rate(self, factor: float) -> dict[str, Any]:
        """Multiply the learning rate and all its schedule is made of; return how to undo it."""
        return learning_rate.scale(self.optimizer, self.schedulers, factor)

    def restore_learning_rate(self, undo: Mapping[str, Any]) -> None:
        """Take back what ``scale_learning_rate`` did."""
        learning_rate.restore(self.optimizer, self.schedulers, undo)


def adapt(trainer: Any) -> tuple[OptimizerAdapter, ...]:
    """Return an adapter for every optimizer of a Trainer whose optimizers are set up."""
    strategies = {cls.__name__ for cls in type(trainer.strategy).__mro__}
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    flat_shards = "FSDPStrategy" in strategies
    return tuple(
        OptimizerAdapter(
            optimizer=optimizer,
            index=index,
            schedulers=tuple(
                config.scheduler
                for config in trainer.lr_scheduler_configs
                if _drives(config.scheduler, optimizer)
            ),
            fused=_reads_found_inf(optimizer),
            scaler=scaler,
            handles_unscaling=bool(getattr(optimizer, "_step_supports_amp_scaling", False)),
            closure_repeats=isinstance(optimizer, LBFGS),
            sharded=flat_shards or _has_shards(optimizer),
            flat_shards=flat_shards,
            deepspeed="DeepSpeedStrategy" in strategies,
            manual=not trainer.lightning_module.automatic_optimization,
            compiled="_torchdynamo_orig_callable" in vars(vars(optimizer).get("step", _nothing)),
        )
        for index, optimizer in enumerate(trainer.optimizers)
    )


def adapter_of(
    adapters: Iterable[OptimizerAdapter], optimizer: Optimizer
) -> OptimizerAdapter | None:
    """Return the adapter of ``optimizer``; None where there is none, as after it was replaced."""
    return next((adapter for adapter in adapters if adapter.optimizer is optimizer), None)


def _nothing() -> None:
    """Stand for a ``step`` that nobody has set on the instance."""


def _drives(scheduler: Any, optimizer: Optimizer) -> bool:
    return getattr(scheduler, "optimizer", None) is optimizer


def _reads_found_inf(optimizer: Optimizer) -> bool:
    """Whether the step is torch's fused one; a subclass with a step of its own may ignore it."""
    if not isinstance(optimizer, FUSED_CLASSES):
        return False
    defined = next(cls for cls in type(optimizer).__mro__ if "step" in vars(cls))
    return defined.__module__.startswith("torch.optim") and all(
        bool(group.get("fused")) for group in optimizer.param_groups
    )


def _has_shards(optimizer: Optimizer) -> bool:
    # A DTensor; plain tensors have no mesh.
    return any(
        hasattr(p, "device_mesh") for group in optimizer.param_groups for p in group["params"]
    )


def _values(gradient: Tensor) -> Tensor:
    """Return the tensor that holds the values of a gradient, for work element by element."""
    if hasattr(gradient, "to_local"):  # a DTensor
        local: Tensor = gradient.to_local()
        return local
    return gradient._values() if gradient.is_sparse else gradient
