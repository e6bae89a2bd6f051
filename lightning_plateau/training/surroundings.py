"""What surrounds a training: how its module and its Trainer are set up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn


def is_compiled(module: nn.Module) -> bool:
    """Whether a part of the module is compiled: no tape may be active in a compiled region."""
    return getattr(module, "_compiler_ctx", None) is not None or any(
        child._compiled_call_impl is not None or "_orig_mod" in child._modules
        for child in module.modules()
    )


def holds_replicas(trainer: Any) -> bool:
    """Whether each rank holds the whole network, and the same one at each step."""
    kinds = {cls.__name__ for cls in type(trainer.strategy).__mro__}
    # With local SGD replicas go their own ways from one averaging to the next.
    averaged = getattr(trainer.strategy, "_model_averaging_period", None) is not None
    return "DDPStrategy" in kinds and not averaged


def log_folder(trainer: Any) -> Path:
    """Return where files of the run belong: beside those of its logger. Every rank must ask."""
    return Path(trainer.log_dir or trainer.default_root_dir) / "plateau"


def is_last_epoch(trainer: Any) -> bool:
    """Whether the training ends with this epoch because that is how long it was planned."""
    return trainer.current_epoch + 1 == trainer.max_epochs and not trainer.should_stop


def is_fast_dev_run(trainer: Any) -> bool:
    """Whether a few batches are only run to see whether the program works."""
    return bool(getattr(trainer, "fast_dev_run", False))
