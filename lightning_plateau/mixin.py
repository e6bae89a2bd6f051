"""PlateauMixin: inherit it, and the training is watched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lightning_plateau.callback import PlateauCallback
from lightning_plateau.recording.profile import Hints

_LIGHTNING = ("lightning", "pytorch_lightning")


class Plateau:
    """What a module says to the watcher of its training; silent where nobody watches."""

    def __init__(self, callback: PlateauCallback | None) -> None:
        self._callback = callback

    def record(self, name: str, value: Tensor | float) -> None:
        """Record a value of your own as the signal ``user/<name>`` at the current step.

        Args:
            name: Name of the signal.
            value: A number, or a tensor of any shape whose mean is taken. It is not read from its
                device before the next drain.
        """
        if self._callback is not None:
            self._callback.record(name, value)

    @property
    def callback(self) -> PlateauCallback | None:
        """The callback that watches this module, or None."""
        return self._callback


class PlateauMixin:
    """Brings the callback along and lets the module speak to it.

    Inherit it before ``LightningModule``; nothing else is needed. A ``PlateauCallback`` that was
    passed to the Trainer wins over the one that the mixin brings. Nothing on the path of an
    optimizer step is overridden.

    Attributes:
        plateau_hints: What you know about the task: number of classes, task, metric to watch.

    Raises:
        TypeError: If the mixin comes after ``LightningModule`` among the bases.

    Example:
        >>> from lightning_plateau.framework import LightningModule
        >>> class Lit(PlateauMixin, LightningModule):
        ...     plateau_hints = Hints(classes=10, task="classification", monitor="val_loss")
        >>> Lit().plateau.record("entropy", 0.5)  # outside a training: nothing happens
    """

    plateau_hints: Hints = Hints()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check that the mixin's hooks are not hidden by those of LightningModule."""
        super().__init_subclass__(**kwargs)
        before = cls.__mro__[: cls.__mro__.index(PlateauMixin)]
        if any(base.__module__.partition(".")[0] in _LIGHTNING for base in before):
            raise TypeError(
                f"{cls.__name__} must name PlateauMixin before LightningModule among its bases: "
                f"class {cls.__name__}(PlateauMixin, LightningModule)"
            )

    def configure_callbacks(self) -> Sequence[Any]:
        """Return the callbacks of the module, and ours unless the Trainer has one."""
        inherited = list(super().configure_callbacks())  # type: ignore[misc]
        watched = any(isinstance(callback, PlateauCallback) for callback in self.trainer.callbacks)  # type: ignore[attr-defined]
        return inherited if watched else [*inherited, PlateauCallback()]

    @property
    def plateau(self) -> Plateau:
        """Speak to the watcher of this training."""
        trainer = getattr(self, "_trainer", None)
        callbacks = trainer.callbacks if trainer is not None else ()
        return Plateau(next((c for c in callbacks if isinstance(c, PlateauCallback)), None))
