"""Values to a configuration as ``LightningCLI`` reads it: optimizers, schedules, YAML."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch

Configuration = dict[str, Any]
"""Nested settings as ``LightningCLI`` reads them: ``model``, ``data``, ``trainer`` …"""

OPTIMIZERS: Mapping[str, Mapping[str, Any]] = {
    "SGD": {"momentum": 0.9},
    "Adam": {},
    "AdamW": {},
    "RMSprop": {},
    "Adagrad": {},
}
"""What is set of each optimizer beside its learning rate and weight decay."""

SCHEDULES = ("constant", "decay", "cosine", "warm-restarts", "one-cycle", "warm-up")
"""Courses of the learning rate, in steps of an epoch as ``LightningCLI`` takes them."""

DECAYED_TO = 0.01
WARM_UP_FROM, WARM_UP_SHARE = 0.1, 0.2
RESTARTS = 3


def nested(values: Mapping[str, Any]) -> Configuration:
    """Return settings by dotted path as nested settings.

    Example:
        >>> nested({"model.init_args.width": 32, "trainer.max_epochs": 5})
        {'model': {'init_args': {'width': 32}}, 'trainer': {'max_epochs': 5}}
    """
    made: Configuration = {}
    for path, value in values.items():
        *folders, last = path.split(".")
        place = made
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = value
    return made


def optimizer_settings(name: str) -> Configuration:
    """Return the settings of an optimizer of ``torch.optim``, without its learning rate.

    Raises:
        ValueError: If torch has no such optimizer.
    """
    if not hasattr(torch.optim, name):
        raise ValueError(f"expected an optimizer of torch.optim, but received {name!r}")
    return {"class_path": f"torch.optim.{name}", "init_args": dict(OPTIMIZERS.get(name, {}))}


def schedule_settings(name: str, epochs: int, learning_rate: float) -> Configuration | None:
    """Return the settings of a schedule over ``epochs``; None for a constant learning rate.

    Raises:
        ValueError: If there is no such schedule.
    """
    arguments: dict[str, tuple[str, dict[str, Any]]] = {
        "decay": ("ExponentialLR", {"gamma": DECAYED_TO ** (1 / epochs)}),
        "cosine": ("CosineAnnealingLR", {"T_max": epochs}),
        "warm-restarts": (
            "CosineAnnealingWarmRestarts",
            {"T_0": max(1, -(-epochs // RESTARTS))},
        ),
        # One more than there are epochs: it is stepped after the last one too. Not every optimizer
        # has a momentum to cycle.
        "one-cycle": (
            "OneCycleLR",
            {"max_lr": learning_rate, "total_steps": epochs + 1, "cycle_momentum": False},
        ),
        "warm-up": (
            "LinearLR",
            {"start_factor": WARM_UP_FROM, "total_iters": max(1, round(WARM_UP_SHARE * epochs))},
        ),
    }
    if name == "constant":
        return None
    if name not in arguments:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, but is {name!r}")
    kind, given = arguments[name]
    return {"class_path": f"torch.optim.lr_scheduler.{kind}", "init_args": given}


def optimizer_of(module: Any) -> Configuration:
    """Return the settings of the optimizer that ``module`` makes itself.

    Raises:
        ValueError: If it makes several, several groups or a schedule: a search over
            ``learning_rate`` would have to guess what becomes of them.
    """
    made = module.configure_optimizers()
    if isinstance(made, list | tuple) and len(made) == 1:
        made = made[0]
    if not isinstance(made, torch.optim.Optimizer) or len(made.param_groups) != 1:
        raise ValueError(
            "expected a module with one optimizer of one group and no schedule, or one with a "
            "constructor argument for what is searched (learning_rate, weight_decay), but "
            f"configure_optimizers returned {_shown(made)}; add the argument, or search the "
            "optimizer and the schedule too"
        )
    kind = type(made)
    known = inspect.signature(kind).parameters
    plain = (int, float, bool, str, tuple, list)
    arguments = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in made.defaults.items()
        if name in known and isinstance(value, plain) and value != known[name].default
    }
    package = "torch.optim" if kind.__name__ in dir(torch.optim) else kind.__module__
    return {"class_path": f"{package}.{kind.__name__}", "init_args": arguments}


def _shown(made: Any) -> str:
    if isinstance(made, torch.optim.Optimizer):
        return f"{type(made).__name__} with {len(made.param_groups)} groups"
    return type(made).__name__


def instantiated(settings: Mapping[str, Any], *first: Any) -> Any:
    """Return the object that ``class_path`` and ``init_args`` describe, made of ``first`` too."""
    package, _, name = str(settings["class_path"]).rpartition(".")
    return getattr(import_module(package), name)(*first, **settings.get("init_args", {}))


def to_yaml(configuration: Mapping[str, Any], remarks: tuple[str, ...] = ()) -> str:
    """Write a configuration as YAML, remarks above it.

    Example:
        >>> print(to_yaml({"trainer": {"max_epochs": 5}}, ("the best of 8 trials",)))
        # the best of 8 trials
        trainer:
          max_epochs: 5
    """
    yaml = import_module("yaml")
    written = yaml.safe_dump(_plain(configuration), sort_keys=False, default_flow_style=False)
    return "\n".join([*(f"# {remark}" for remark in remarks), written.strip()])


def _plain(value: Any) -> Any:
    match value:
        case Mapping():
            return {str(name): _plain(one) for name, one in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
        case bool() | int() | float() | str() | None:
            return value
    return str(value)
