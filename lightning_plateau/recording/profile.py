"""Taking the profile: the facts of a run that do not change from step to step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from lightning_plateau.core.profile import (
    GroupFact,
    ModuleFact,
    MonitorFact,
    OptimizerFact,
    ParameterFact,
    Profile,
    SchedulerFact,
    Value,
)
from lightning_plateau.recording.caller import method_lines


@dataclass(frozen=True)
class Hints:
    """What the user says about the task; None where nothing was said."""

    classes: int | None = None
    task: str | None = None
    monitor: str | None = None


def clean_name(name: str) -> str:
    """Return a dotted name without the parts that compilation puts in.

    Example:
        >>> clean_name("net._orig_mod.fc.weight")
        'net.fc.weight'
    """
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def nearest_kind(thing: object, package: str) -> str:
    """Return the name of the nearest class of ``package`` among the classes of ``thing``.

    Example:
        >>> class Mine(nn.ReLU): ...
        >>> nearest_kind(Mine(), "torch.nn")
        'ReLU'
    """
    return next(
        (c.__name__ for c in type(thing).__mro__ if c.__module__.startswith(package)), "unknown"
    )


def _scalars(settings: Mapping[str, Any]) -> dict[str, Value]:
    """Return the plain settings; pairs of numbers (betas) become ``name_0`` and ``name_1``."""
    plain: dict[str, Value] = {}
    for name, value in settings.items():
        if name.startswith("_") or name in ("params", "training"):
            continue
        if value is None or isinstance(value, bool | int | float | str):
            plain[name] = value
        elif isinstance(value, tuple | list) and all(
            isinstance(item, int | float) for item in value
        ):
            plain.update({f"{name}_{index}": item for index, item in enumerate(value)})
        elif (
            isinstance(value, torch.Tensor) and value.numel() == 1 and name in ("lr", "initial_lr")
        ):
            plain[name] = float(value)
    return plain


def parameter_facts(trainer: Any, module: nn.Module) -> tuple[ParameterFact, ...]:
    """Return what each parameter is: trainable or frozen, and whether an optimizer holds it."""
    optimized = {id(p) for o in trainer.optimizers for g in o.param_groups for p in g["params"]}
    return tuple(
        ParameterFact(
            clean_name(name),
            clean_name(name).rpartition(".")[0],
            _shape(parameter),
            str(parameter.dtype).removeprefix("torch."),
            parameter.requires_grad,
            id(parameter) in optimized,
        )
        for name, parameter in module.named_parameters()
    )


def thawed(profile: Profile, module: nn.Module) -> bool:
    """Whether a parameter that was frozen when the profile was taken is trainable now."""
    frozen = profile.frozen
    return bool(frozen) and any(
        parameter.requires_grad and clean_name(name) in frozen
        for name, parameter in module.named_parameters()
    )


def take_profile(
    trainer: Any, module: nn.Module, capabilities: list[tuple[str, ...]], hints: Hints
) -> Profile:
    """Return the profile of a run whose optimizers and loaders are set up.

    Args:
        trainer: The Trainer.
        module: The LightningModule.
        capabilities: The capability flags of each optimizer, in Lightning's order.
        hints: What the user says about the task.
    """
    names = {id(p): clean_name(n) for n, p in module.named_parameters()}
    loader = trainer.train_dataloader
    batches = trainer.num_training_batches
    return Profile(
        parameters=parameter_facts(trainer, module),
        modules=tuple(_module_fact(clean_name(n), m) for n, m in module.named_modules()),
        optimizers=tuple(
            OptimizerFact(
                nearest_kind(optimizer, "torch.optim"),
                tuple(
                    GroupFact(tuple(names.get(id(p), "") for p in group["params"]), _scalars(group))
                    for group in optimizer.param_groups
                ),
                flags,
            )
            for optimizer, flags in zip(trainer.optimizers, capabilities, strict=True)
        ),
        schedulers=tuple(
            _scheduler_fact(config, trainer.optimizers) for config in trainer.lr_scheduler_configs
        ),
        precision=str(trainer.precision),
        strategy=type(trainer.strategy).__name__,
        world_size=trainer.world_size,
        manual_optimization=not module.automatic_optimization,
        accumulate_grad_batches=trainer.accumulate_grad_batches,
        gradient_clip_val=trainer.gradient_clip_val,
        gradient_clip_algorithm=None
        if trainer.gradient_clip_algorithm is None
        else str(trainer.gradient_clip_algorithm.value),
        batches_per_epoch=None if math.isinf(batches) else int(batches),
        planned_steps=_planned_steps(trainer),
        planned_epochs=None if trainer.max_epochs in (None, -1) else trainer.max_epochs,
        has_validation=bool(trainer.enable_validation),
        dataset_size=_length(getattr(loader, "dataset", None)),
        shuffled=_shuffles(loader),
        classes=hints.classes,
        task=hints.task,
        monitor=hints.monitor,
        monitors=tuple(_monitors(trainer)),
        unshaped=any(is_lazy(p) for p in module.parameters()),
        lines=method_lines(module),
    )


def _shape(parameter: Any) -> tuple[int, ...]:
    return () if is_lazy(parameter) else tuple(parameter.shape)


def _module_fact(name: str, module: nn.Module) -> ModuleFact:
    kind = nearest_kind(module, "torch.nn")
    settings = _scalars(vars(module)) if kind != "Module" else {}
    return ModuleFact(name, kind, module.training, settings)


def _scheduler_fact(config: Any, optimizers: list[Any]) -> SchedulerFact:
    of = getattr(config.scheduler, "optimizer", None)
    index = next((i for i, optimizer in enumerate(optimizers) if optimizer is of), 0)
    return SchedulerFact(
        nearest_kind(config.scheduler, "torch.optim"),
        config.interval,
        config.frequency,
        index,
        config.monitor,
        _scalars(vars(config.scheduler)),
    )


_WATCHERS = ("EarlyStopping", "ModelCheckpoint")


def _monitors(trainer: Any) -> Iterator[MonitorFact]:
    for callback in trainer.callbacks:
        bases = [cls.__name__ for cls in type(callback).__mro__]
        kind = next((name for name in _WATCHERS if name in bases), None)
        if kind is not None and isinstance(getattr(callback, "monitor", None), str):
            yield MonitorFact(kind, callback.monitor, str(getattr(callback, "mode", "min")))
    for config in trainer.lr_scheduler_configs:
        if isinstance(config.scheduler, ReduceLROnPlateau) and config.monitor is not None:
            yield MonitorFact("ReduceLROnPlateau", config.monitor, config.scheduler.mode)


def _planned_steps(trainer: Any) -> int | None:
    limits = []
    if trainer.max_steps != -1:
        limits.append(trainer.max_steps)
    if trainer.max_epochs not in (None, -1) and not math.isinf(trainer.num_training_batches):
        per_epoch = -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
        limits.append(trainer.max_epochs * per_epoch)
    return min(limits) if limits else None


def _length(dataset: Any) -> int | None:
    try:
        return len(dataset)
    except (TypeError, NotImplementedError):  # what datasets without a length raise
        return None


def _shuffles(loader: Any) -> bool | None:
    """Return whether a loader shuffles; None where its order is the user's own affair."""
    if type(getattr(loader, "batch_sampler", None)) is not BatchSampler:
        return None
    if isinstance(loader.sampler, DistributedSampler):
        return bool(loader.sampler.shuffle)
    if isinstance(loader.sampler, RandomSampler | SubsetRandomSampler | WeightedRandomSampler):
        return True
    return False if isinstance(loader.sampler, SequentialSampler) else None
