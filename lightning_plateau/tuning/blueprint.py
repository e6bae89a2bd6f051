"""The user's training as a search sees it: where a setting belongs, and how a trial is made."""

from __future__ import annotations

import copy
import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

from optuna.distributions import CategoricalDistribution

from lightning_plateau.framework import LightningDataModule, LightningModule, Trainer
from lightning_plateau.tuning.configuration import (
    Configuration,
    instantiated,
    nested,
    optimizer_of,
    optimizer_settings,
    schedule_settings,
)
from lightning_plateau.tuning.space import Dimension, Space, Values

ALSO_CALLED: Mapping[str, tuple[str, ...]] = {
    "learning_rate": ("learning_rate", "lr"),
    "weight_decay": ("weight_decay", "wd"),
    "dropout": ("dropout", "dropout_rate", "drop_rate"),
}
"""Names that modules give to the same setting."""

OF_THE_OPTIMIZER = {"learning_rate": "lr", "weight_decay": "weight_decay"}
PLACES = {
    "optimizer": "optimizer",
    "schedule": "lr_scheduler",
    "epochs": "trainer.max_epochs",
}
"""Words for settings that are the same in every training."""
SECTIONS = ("model", "data", "trainer", "optimizer", "lr_scheduler")


@dataclass(frozen=True)
class Made:
    """What a trial trains."""

    module: LightningModule
    data: Mapping[str, Any]
    trainer: Mapping[str, Any]


@dataclass(frozen=True)
class Blueprint:
    """What is trained, as the user gave it.

    Attributes:
        module: Class or function that makes the LightningModule, or one to be copied.
        data: The same of the datamodule; None where loaders are given or the module brings them.
        loaders: Training and validation loaders.
        trainer: Settings of the Trainer.
        fixed: Settings by path that every trial has, ``{"model.width": 64}``.
    """

    module: Any
    data: Any = None
    loaders: tuple[Any, Any] = (None, None)
    trainer: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not callable(self.module):
            raise TypeError(f"module must be a LightningModule or make one, but is {self.module!r}")

    # -- where a setting belongs ----------------------------------------------------------------

    def place(self, name: str, beside: Sequence[str] = ()) -> str | None:
        """Return the path of a setting in a configuration; None where the training has none.

        Args:
            name: Name or path of the setting.
            beside: Names that are searched with it.
        """
        if "." in name:
            return name if name.partition(".")[0] in SECTIONS else None
        if name in PLACES:
            return PLACES[name]
        if name in OF_THE_OPTIMIZER and "optimizer" in {*beside, *self.fixed}:
            return f"optimizer.{OF_THE_OPTIMIZER[name]}"
        return self._argument(name) or (
            f"optimizer.{OF_THE_OPTIMIZER[name]}" if name in OF_THE_OPTIMIZER else None
        )

    def _argument(self, name: str) -> str | None:
        """Return the path of an argument of the module, of its data or of the Trainer."""
        for section, made in (("model", self.module), ("data", self.data)):
            for known in ALSO_CALLED.get(name, (name,)):
                if known in _arguments(made):
                    return f"{section}.{known}"
        return f"trainer.{name}" if name in inspect.signature(Trainer).parameters else None

    def fitted(self, space: Space) -> Space:
        """Return ``space`` without optional settings that this training does not have.

        Those that are words, such as ``activation``, take the words that the module lists.

        Raises:
            ValueError: If another setting has no place; the message names those that have one.
        """
        kept: dict[str, Dimension] = {}
        for name, dimension in space.dimensions.items():
            if dimension.optional and _is_of_words(dimension):
                kept |= self._listed(name)
            elif self.place(name, list(space.dimensions)) is not None:
                kept[name] = dimension
            elif not dimension.optional:
                raise ValueError(self._unknown(name))
        if not kept:
            raise ValueError(f"this training has none of {', '.join(space.dimensions)}")
        return Space(kept)

    def _unknown(self, name: str) -> str:
        known = [*_arguments(self.module), *_arguments(self.data)]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return (
            f"{name!r} is no argument of the module, of its data or of the Trainer{hint} Known "
            f"are {', '.join(known) or 'no arguments'}, and paths such as model.width"
        )

    def _listed(self, name: str) -> dict[str, Dimension]:
        """Return the words that the module's annotation lists (``Literal[...]``) for an argument.

        Other modules may have other words for the same thing: they are not guessed.
        """
        hint = _annotation(self.module, name)
        if get_origin(hint) is not Literal:
            return {}
        words = CategoricalDistribution(list(get_args(hint)))
        return {name: Dimension(words, optional=True)}

    # -- one trial ------------------------------------------------------------------------------

    def configuration(self, values: Values) -> Configuration:
        """Return the configuration of a trial as ``LightningCLI`` reads it.

        Optimizer and schedule are written out, those that the module makes itself included.
        """
        placed: dict[str, Any] = {f"trainer.{name}": one for name, one in self.trainer.items()}
        placed |= dict(self.fixed)
        placed |= {self.place(name, list(values)) or name: one for name, one in values.items()}
        schedule = placed.pop("lr_scheduler", "constant")
        chosen = placed.pop("optimizer", None)
        made = nested(placed)
        settings = made.pop("optimizer", {})
        for section, maker in (("model", self.module), ("data", self.data)):
            given = made.pop(section, {})
            if maker is not None:
                made[section] = {"class_path": path_of(maker), "init_args": given}
        if chosen is None and not settings and schedule == "constant":
            return made
        base = copy.deepcopy(chosen) if isinstance(chosen, dict) else None
        if base is None:
            base = optimizer_settings(chosen) if chosen else optimizer_of(self._module(made))
        base["init_args"] = {**base.get("init_args", {}), **settings}
        made["optimizer"] = base
        course = schedule
        if isinstance(schedule, str):
            epochs = int(made.get("trainer", {}).get("max_epochs", 1))
            rate = float(base["init_args"].get("lr", 1e-3))
            course = schedule_settings(schedule, epochs, rate)
        return made | ({} if course is None else {"lr_scheduler": course})

    def make(self, configuration: Configuration) -> Made:
        """Return module, data and settings of the Trainer for a trial."""
        module = self._module(configuration)
        if "optimizer" in configuration:
            _give_optimizer(module, configuration)
        data: dict[str, Any] = {}
        if self.data is not None:
            given = configuration.get("data", {}).get("init_args", {})
            data["datamodule"] = _made(self.data, given)
        elif self.loaders[0] is not None:
            data["train_dataloaders"], data["val_dataloaders"] = self.loaders
        return Made(module, data, configuration.get("trainer", {}))

    def _module(self, configuration: Configuration) -> LightningModule:
        given = configuration.get("model", {}).get("init_args", {})
        module = _made(self.module, given)
        if not isinstance(module, LightningModule):
            raise TypeError(f"expected a LightningModule, but {self.module!r} made {module!r}")
        return module


def _is_of_words(dimension: Dimension) -> bool:
    choices = getattr(dimension.distribution, "choices", ())
    return any(isinstance(one, str) for one in choices)


def path_of(maker: Any) -> str:
    """Return the import path of a class or function, or of the class of an instance."""
    named = maker if hasattr(maker, "__qualname__") else type(maker)
    return f"{named.__module__}.{named.__qualname__}"


def _is_instance(maker: Any) -> bool:
    return isinstance(maker, LightningModule | LightningDataModule)


def _arguments(maker: Any) -> list[str]:
    """Return the names of the arguments that make the module or its data."""
    if maker is None or _is_instance(maker) or not callable(maker):
        return []
    named = inspect.signature(maker).parameters.values()
    return [one.name for one in named if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]


def _annotation(maker: Any, name: str) -> Any:
    """Return the annotation of an argument; None where it has none, or one that is not known."""
    if _is_instance(maker) or name not in _arguments(maker):
        return None
    made_by = (maker, *getattr(maker, "__mro__", ()))
    function = next((vars(one)["__init__"] for one in made_by if "__init__" in vars(one)), maker)
    try:
        return get_type_hints(function).get(name)
    except NameError:  # imported for the type checker alone
        return None


def _made(maker: Any, given: Mapping[str, Any]) -> Any:
    if _is_instance(maker):
        return copy.deepcopy(maker)
    return maker(**{name: _resolved(value) for name, value in given.items()})


def _resolved(value: Any) -> Any:
    """Return the object that a nested ``class_path`` describes, as LightningCLI would make it."""
    if not isinstance(value, Mapping) or "class_path" not in value:
        return value
    given = {name: _resolved(one) for name, one in value.get("init_args", {}).items()}
    return instantiated({**value, "init_args": given})


def _give_optimizer(module: LightningModule, configuration: Configuration) -> None:
    """Let the module use the optimizer and schedule of the configuration, as LightningCLI does."""
    settings, course = configuration["optimizer"], configuration.get("lr_scheduler")

    def configure_optimizers() -> Any:
        optimizer = instantiated(settings, module.parameters())
        return optimizer if course is None else ([optimizer], [instantiated(course, optimizer)])

    replaced: Callable[[], Any] = configure_optimizers
    module.__dict__["configure_optimizers"] = replaced
