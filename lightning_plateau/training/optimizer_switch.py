"""Putting one optimizer of torch in the place of another, groups and schedules carried over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

from lightning_plateau.training.learning_rate import GROUP_KEYS
from lightning_plateau.training.optimizers import FUSED_CLASSES

KINDS: dict[str, Callable[..., Optimizer]] = {
    "sgd": SGD,
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
}
SETTINGS: dict[str, dict[str, float]] = {"sgd": {"momentum": 0.9}}
"""What is set where torch's default is not what is customary."""
CARRIED = (*GROUP_KEYS, "weight_decay", "maximize", "foreach", "capturable", "differentiable")


def kind_of(optimizer: Any) -> str | None:
    """Return the kind of an optimizer of torch; None for any other, subclasses included."""
    return next((name for name, cls in KINDS.items() if type(optimizer) is cls), None)


def published_settings(optimizer: Any, kind: str) -> dict[str, Any]:
    """Return the settings that torch gives an optimizer of that kind by default."""
    settings: dict[str, Any] = KINDS[kind]([next(_parameters(optimizer))], lr=1e-3).defaults
    return settings


def successor(old: Any, kind: str) -> Optimizer:
    """Return an optimizer of that kind for the parameters of ``old``, in the same groups.

    Learning rates, weight decay and what the kinds have in common are carried over.
    """
    cls = KINDS[kind]
    known = set(published_settings(old, kind))
    carried = set(CARRIED) & (known | set(GROUP_KEYS))
    if cls in FUSED_CLASSES:
        carried.add("fused")
    groups = [
        {
            "params": list(group["params"]),
            **SETTINGS.get(kind, {}),
            **{key: value for key, value in group.items() if key in carried},
        }
        for group in old.param_groups
    ]
    new = cls(groups, lr=float(old.param_groups[0]["lr"]))
    new._optimizer_step_pre_hooks.update(old._optimizer_step_pre_hooks)
    new._optimizer_step_post_hooks.update(old._optimizer_step_post_hooks)
    return new


def put(trainer: Any, old: Any, new: Optimizer) -> None:
    """Let the Trainer and its schedulers step ``new`` in the place of ``old``."""
    schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
    trainer.optimizers = [
        new if optimizer is old else optimizer for optimizer in trainer.optimizers
    ]
    _repoint(schedulers, old, new)


def cycles_momentum(schedulers: Sequence[Any]) -> bool:
    """Whether a schedule moves the momentum too, which another optimizer has under another name."""
    return any(
        vars(scheduler).get("cycle_momentum")
        or cycles_momentum(vars(scheduler).get("_schedulers", ()))
        for scheduler in schedulers
    )


def _parameters(optimizer: Any) -> Any:
    return (p for group in optimizer.param_groups for p in group["params"])


def _repoint(schedulers: Sequence[Any], old: Any, new: Optimizer) -> None:
    for scheduler in schedulers:
        if vars(scheduler).get("optimizer") is old:
            scheduler.optimizer = new
            _track(new)
        _repoint(vars(scheduler).get("_schedulers", ()), old, new)


def _track(optimizer: Any) -> None:
    """Let schedulers see that the optimizer steps; otherwise they warn that it does not."""

    def step(*args: Any, **kwargs: Any) -> Any:
        return type(optimizer).step(optimizer, *args, **kwargs)

    vars(step)["_wrapped_by_lr_sched"] = True
    optimizer.step = step
    optimizer._opt_called = True
