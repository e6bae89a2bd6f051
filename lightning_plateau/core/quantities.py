"""What was measured, in words: a reader of a finding knows no signal by its tag."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from lightning_plateau.core import signal

WORDS: Mapping[str, str] = MappingProxyType(
    {
        signal.LOSS.tag: "training loss",
        signal.VALIDATION_LOSS.tag: "validation loss",
        signal.LOSS_PER_OPTIMIZER.tag: "training loss of the optimizer",
        signal.LOSS_SCALE.tag: "scale of the loss",
        signal.GRADIENT_NORM.tag: "gradient norm",
        signal.GRADIENT_NORMS.tag: "gradient norm of the parameter",
        signal.GRADIENTS_LEFT_OVER.tag: "gradient norm left over from earlier steps",
        signal.GRADIENT_AGREEMENT.tag: "agreement of successive gradients (cosine)",
        signal.CLIP_COEFFICIENT.tag: "share of the gradient that clipping leaves",
        signal.INITIAL_NORMS.tag: "norm before the first step",
        signal.UNIT_DIFFERENCES.tag: "largest difference between two units",
        signal.UPDATE_RATIOS.tag: "update, relative to the weights",
        signal.UPDATE_DESCENT.tag: "cosine of update and descent",
        signal.REPLICA_DIFFERENCES.tag: "difference between the ranks",
        signal.LEARNING_RATES.tag: "learning rate",
        signal.ACTIVATION_DEAD.tag: "share of dead units",
        signal.ACTIVATION_SATURATED.tag: "share of saturated inputs",
        signal.NORMALIZATION_VALUES.tag: "values that each channel is normalized by",
        signal.NORMALIZATION_BATCH_VARIANCE.tag: "variance in the batch",
        signal.NORMALIZATION_RUNNING_VARIANCE.tag: "running variance",
        signal.DATA_NON_FINITE.tag: "NaN or infinite values",
        signal.DATA_CONSTANT.tag: "share of constant features",
        signal.DATA_WAIT.tag: "wait for a batch",
        signal.VALIDATION_SHIFT.tag: "shift of the validation inputs, in standard deviations",
        signal.VALIDATION_SPREAD.tag: "spread of the validation inputs over that of training",
        signal.VALIDATION_LIKENESS.tag: "correlation of the mean inputs",
        signal.BATCH_SIZE.tag: "samples of a batch",
        signal.EXPERIMENT_STEP_SIZE.tag: "loss along an update, on a copy",
    }
)
"""Signals whose tag stands in findings, and what to call them there."""
_HELP: Mapping[str, str] = MappingProxyType({one.tag: one.help for one in signal.STANDARD})


def one_digit(value: float) -> str:
    """Write a number to set something to: one digit that counts, as people write it.

    Example:
        >>> one_digit(17.3), one_digit(0.00123), one_digit(0.4)
        ('20', '0.001', '0.4')
    """
    return f"{float(f'{value:.1g}'):.6g}"


def quantity(name: str) -> str:
    """Return what to call a measured quantity: words for a signal's tag, other words as they are.

    Example:
        >>> quantity("gradient/norm"), quantity("level of the loss now"), quantity("metric/val_acc")
        ('gradient norm', 'level of the loss now', 'val_acc')
    """
    for prefix in ("metric/", "user/"):
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return WORDS.get(name) or _HELP.get(name, name)
