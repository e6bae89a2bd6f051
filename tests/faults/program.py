"""A program of the zoo: what a user hands to ``Trainer.fit``, and what is wrong with it."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any, Literal

Part = Literal["tuned", "validation"]


@dataclass(frozen=True)
class Training:
    """What a user hands to ``Trainer`` and ``fit``.

    Attributes:
        module: The LightningModule.
        train: Loader of the training batches, or whatever else ``fit`` takes.
        validation: Loader of the validation batches; None for none.
        settings: Arguments of the Trainer, ``{"max_epochs": 10}``.
        learned: Asked after ``fit``: whether the module can do its task. Healthy programs answer.
    """

    module: Any
    train: Any
    validation: Any = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    learned: Callable[[], bool] | None = None


@dataclass(frozen=True)
class Program:
    """A training that can be built again and again, and the truth about it.

    Attributes:
        build: Makes the training; seed the generators first.
        expected: Codes of which one should be ranked first; empty for a healthy program.
        accepted: Codes that may stand beside it and are no false alarm: they are true as well.
        shows: Codes that the diagnosis is to name as well: what the fault does to the training, as
            a rule under its cause (the loss is NaN), or a remark that a healthy one deserves.
        family: Kind of model: ``"mlp"``, ``"cnn"``, ``"rnn"``, ``"transformer"`` …
        data: Which real data it is trained on: ``"digits"``, ``"wine"`` …
        part: ``"tuned"`` if thresholds may be chosen by it; ``"validation"`` if never.
    """

    build: Callable[[], Training]
    expected: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()
    shows: tuple[str, ...] = ()
    family: str = "mlp"
    data: str = "digits"
    part: Part = "tuned"

    @property
    def name(self) -> str:
        """The program in kebab case."""
        return self.build.__name__.replace("_", "-")

    @property
    def story(self) -> str:
        """What is wrong, or what is special, in a sentence."""
        return (self.build.__doc__ or "").strip()

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not self.expected


def program(
    *expected: str,
    accepted: tuple[str, ...] = (),
    shows: tuple[str, ...] = (),
    family: str = "mlp",
    data: str = "digits",
    part: Part = "tuned",
) -> Callable[[Callable[[], Training]], Program]:
    """Make a program of a function that builds a training.

    Example:
        >>> @program("LP701", family="mlp")
        ... def probabilities_into_the_loss() -> Training:
        ...     "The network ends in a softmax."
        ...     return Training(None, None)
        >>> probabilities_into_the_loss.name, probabilities_into_the_loss.expected
        ('probabilities-into-the-loss', ('LP701',))
    """
    return lambda build: Program(build, expected, accepted, shows, family, data, part)


@cache
def programs() -> tuple[Program, ...]:
    """Return every program of ``tests.faults``, in order of module and of appearance.

    Raises:
        ValueError: If two programs bear the same name.
    """
    package = import_module("tests.faults")
    found = [
        member
        for module in sorted(entry.name for entry in pkgutil.walk_packages(package.__path__))
        if not module.startswith(("test_", "__"))
        for member in vars(import_module(f"tests.faults.{module}")).values()
        if isinstance(member, Program)
    ]
    names = [one.name for one in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"each program needs a name of its own, but {twice} are taken twice")
    return tuple(found)
