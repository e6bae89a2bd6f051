"""Trackers that user code calls by name, silent while it runs on a copy."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_TRACKERS: dict[str, tuple[str, ...]] = {
    "wandb": ("log", "Run.log"),
    "mlflow": (
        "log_metric",
        "log_metrics",
        "log_param",
        "log_params",
        "log_artifact",
        "log_figure",
    ),
    "tensorboardX": (
        "SummaryWriter.add_scalar",
        "SummaryWriter.add_scalars",
        "SummaryWriter.add_histogram",
        "SummaryWriter.add_image",
        "SummaryWriter.add_figure",
        "SummaryWriter.add_text",
    ),
    "torch.utils.tensorboard": (
        "SummaryWriter.add_scalar",
        "SummaryWriter.add_scalars",
        "SummaryWriter.add_histogram",
        "SummaryWriter.add_image",
        "SummaryWriter.add_images",
        "SummaryWriter.add_figure",
        "SummaryWriter.add_text",
    ),
}
"""By module, what writes to a tracker, whoever calls it."""


@contextmanager
def silence() -> Iterator[None]:
    """Let nothing that is called inside write to an experiment tracker.

    Only trackers that are imported already are touched, and put back as they were.

    Example:
        >>> with silence():
        ...     pass
    """
    replaced: list[tuple[Any, str, Any]] = []
    try:
        for module, paths in _TRACKERS.items():
            for path in paths if module in sys.modules else ():
                owner, name = _found(sys.modules[module], path)
                if owner is not None and name in vars(owner):
                    replaced.append((owner, name, vars(owner)[name]))
                    setattr(owner, name, _nothing)
        yield
    finally:
        for owner, name, real in reversed(replaced):
            setattr(owner, name, real)


def _found(module: Any, path: str) -> tuple[Any, str]:
    """Return the owner of what ``path`` names, None where there is none, and its name there."""
    *above, name = path.split(".")
    owner = module
    for part in above:
        owner = getattr(owner, part, None)
    return owner, name


def _nothing(*_: Any, **__: Any) -> None:
    """Write nothing."""
