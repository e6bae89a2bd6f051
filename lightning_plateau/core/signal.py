"""Signals: the named series that a training is recorded as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Cadence = Literal["step", "sampled", "validation", "event"]
Axis = Literal[
    "",
    "parameter",
    "buffer",
    "operation",
    "normalization",
    "group",
    "batch",
    "optimizer",
    "class",
    "condition",
]


@dataclass(frozen=True, slots=True)
class Signal:
    """One named series of a training.

    Attributes:
        tag: Unique name in the manner of a logger tag, ``"gradient/norm"``.
        help: One line that says what a value of the signal is.
        unit: Unit of a value; empty for a pure number.
        axis: What the columns of a row enumerate; empty for a scalar signal. ``"condition"``:
            the conditions that an experiment compares.
        cadence: ``"step"`` is recorded on every optimizer step, ``"sampled"`` on sampled steps,
            ``"validation"`` once a validation, ``"event"`` when it happens.

    Example:
        >>> Signal("user/entropy", "entropy of the policy", unit="nat").tag
        'user/entropy'
    """

    tag: str
    help: str
    unit: str = ""
    axis: Axis = ""
    cadence: Cadence = "step"

    def __str__(self) -> str:
        return self.tag


LOSS = Signal("loss/train", "training loss of an optimizer step, accumulation and scaling undone")
LOSS_PER_OPTIMIZER = Signal(
    "loss/optimizer", "training loss that each optimizer stepped on", axis="optimizer"
)
VALIDATION_LOSS = Signal("loss/validation", "mean loss of one validation", cadence="validation")

GRADIENT_NORM = Signal("gradient/norm", "L2 norm of all gradients before clipping")
GRADIENT_NORMS = Signal(
    "gradient/norm_per_parameter", "L2 norm of each gradient before clipping", axis="parameter"
)
GRADIENTS_LEFT_OVER = Signal(
    "gradient/left_over",
    "L2 norm of the gradients of earlier steps that a step still holds, 0 where they were cleared",
    "",
    "optimizer",
    "sampled",
)
GRADIENT_AGREEMENT = Signal(
    "gradient/agreement",
    "cosine between the gradients of a sampled step and of the next one",
    cadence="sampled",
)
CLIP_COEFFICIENT = Signal(
    "gradient/clip_coefficient",
    "L2 norm of all gradients after clipping over that before",
    cadence="sampled",
)

PARAMETER_NORMS = Signal("parameter/norm", "L2 norm of each parameter", "", "parameter", "sampled")
UNANSWERED_BACKWARDS = Signal(
    "optimizer/unanswered_backwards",
    "backward passes of a run in which no optimizer step was seen",
    cadence="event",
)
INITIAL_NORMS = Signal(
    "parameter/initial_norm",
    "L2 norm of each parameter before the first step",
    "",
    "parameter",
    "event",
)
UNIT_DIFFERENCES = Signal(
    "parameter/unit_difference",
    "largest difference between two units of each weight over its largest magnitude; 0 where all "
    "units are the same",
    "",
    "parameter",
    "sampled",
)
UPDATE_RATIOS = Signal(
    "parameter/update_ratio",
    "L2 norm of the last update of each parameter over the norm of the parameter",
    "",
    "parameter",
    "sampled",
)
UPDATE_DESCENT = Signal(
    "parameter/update_descent",
    "cosine between the last update of all parameters and the negative of its gradients",
    cadence="sampled",
)
REPLICA_DIFFERENCES = Signal(
    "parameter/replica_difference",
    "by how much the L2 norm of each parameter differs between the ranks, as a share of it",
    "",
    "parameter",
    "event",
)
BUFFER_NORMS = Signal(
    "buffer/norm", "L2 norm of each floating-point buffer", "", "buffer", "sampled"
)

LEARNING_RATES = Signal(
    "optimizer/learning_rate",
    "learning rate of each group, where it changed",
    axis="group",
    cadence="event",
)
SKIPPED_STEPS = Signal("optimizer/skipped", "1 where the step was skipped", cadence="step")
LOSS_SCALE = Signal(
    "optimizer/loss_scale", "scale of the loss under a gradient scaler", cadence="sampled"
)

ACTIVATION_MEAN = Signal("activation/mean", "mean output", "", "operation", "sampled")
ACTIVATION_STD = Signal(
    "activation/std", "standard deviation of the output", "", "operation", "sampled"
)
ACTIVATION_MAXIMUM = Signal("activation/maximum", "largest |output|", "", "operation", "sampled")
ACTIVATION_DEAD = Signal(
    "activation/dead_units",
    "share of units below 1e-5 in the whole batch",
    "",
    "operation",
    "sampled",
)
ACTIVATION_SATURATED = Signal(
    "activation/saturated",
    "share of inputs of a squashing function outside ±5",
    "",
    "operation",
    "sampled",
)
ACTIVATION_NON_FINITE = Signal(
    "activation/non_finite", "1 where an output holds NaN or infinity", "", "operation", "sampled"
)

NORMALIZATION_RUNNING_MEAN = Signal(
    "normalization/running_mean",
    "root mean square of the running means",
    "",
    "normalization",
    "sampled",
)
NORMALIZATION_RUNNING_VARIANCE = Signal(
    "normalization/running_variance",
    "mean of the running variances",
    "",
    "normalization",
    "sampled",
)
NORMALIZATION_BATCH_MEAN = Signal(
    "normalization/batch_mean",
    "root mean square of the batch's means",
    "",
    "normalization",
    "sampled",
)
NORMALIZATION_BATCH_VARIANCE = Signal(
    "normalization/batch_variance", "mean of the batch's variances", "", "normalization", "sampled"
)
NORMALIZATION_VALUES = Signal(
    "normalization/values_per_channel",
    "values that each channel's statistics rest on",
    "",
    "normalization",
    "sampled",
)

DATA_MEAN = Signal("data/mean", "mean of each tensor of the batch", "", "batch", "sampled")
DATA_STD = Signal(
    "data/std", "standard deviation of each tensor of the batch", "", "batch", "sampled"
)
DATA_MINIMUM = Signal(
    "data/minimum", "smallest value of each tensor of the batch", "", "batch", "sampled"
)
DATA_MAXIMUM = Signal(
    "data/maximum", "largest value of each tensor of the batch", "", "batch", "sampled"
)
DATA_NON_FINITE = Signal(
    "data/non_finite",
    "number of NaN or infinite values in each tensor of the batch",
    "",
    "batch",
    "sampled",
)
DATA_CONSTANT = Signal(
    "data/constant_features",
    "share of features that are constant in the batch",
    "",
    "batch",
    "sampled",
)
BATCH_SIZE = Signal(
    "data/batch_size", "samples of the optimizer step's last batch", cadence="sampled"
)
DATA_WAIT = Signal(
    "data/wait",
    "mean time from the end of a batch to the start of the next, and from start to start",
    "s",
    "condition",
    "event",
)
LABEL_COUNTS = Signal(
    "data/label_count",
    "samples of each class in the batches of the step, on the first steps and on sampled ones",
    "",
    "class",
    "sampled",
)
TARGETS = Signal(
    "data/targets",
    "variance of the targets about the mean of each output, over the batches so far, and how many "
    "samples it rests on",
    axis="condition",
    cadence="sampled",
)
FINGERPRINTED = Signal(
    "data/fingerprinted",
    "samples of the first epoch that were fingerprinted so far",
    cadence="sampled",
)
REPEATED = Signal(
    "data/repeated",
    "fingerprinted samples of the first epoch that had come before",
    cadence="sampled",
)
VALIDATION_FINGERPRINTED = Signal(
    "data/validation_fingerprinted",
    "samples of a validation that were fingerprinted",
    cadence="validation",
)
VALIDATION_REPEATED = Signal(
    "data/validation_repeated",
    "samples among them that training had been given before",
    cadence="validation",
)
VALIDATION_SHIFT = Signal(
    "data/validation_shift",
    "distance between what a first layer is given in training and in validation, root mean square "
    "over the means of its features, in standard deviations of the narrower of the two",
    "",
    "operation",
    "validation",
)
VALIDATION_SPREAD = Signal(
    "data/validation_spread",
    "standard deviation of what a first layer is given in validation over that in training",
    "",
    "operation",
    "validation",
)
VALIDATION_LIKENESS = Signal(
    "data/validation_likeness",
    "correlation, over the features, of the means of what a first layer is given in training and "
    "in validation",
    "",
    "operation",
    "validation",
)

EXPERIMENT_OVERFIT = Signal(
    "experiment/overfit_one_batch",
    "loss of one batch before, and after it was repeated to the run's own optimizer and to Adam",
    axis="condition",
    cadence="event",
)
EXPERIMENT_STEP_SIZE = Signal(
    "experiment/step_size",
    "loss of a batch after so many times the update that it leads to; a row for each batch",
    axis="condition",
    cadence="event",
)
EXPERIMENT_SHUFFLED_LABELS = Signal(
    "experiment/shuffled_labels",
    "loss before and after a short training, with true and with shuffled labels, on batches that "
    "were trained on and on others",
    axis="condition",
    cadence="event",
)
EXPERIMENT_ZERO_INPUTS = Signal(
    "experiment/zero_inputs",
    "loss of a batch as it is, with zeros for inputs, and with inputs that belong to other labels",
    axis="condition",
    cadence="event",
)
EXPERIMENT_BATCH_MIXING = Signal(
    "experiment/batch_mixing",
    "by how much the predictions of a batch differ where half of the batch is left out, and where "
    "nothing is, as a share of their size",
    axis="condition",
    cadence="event",
)
EXPERIMENT_TRAIN_AGAINST_EVAL = Signal(
    "experiment/train_against_eval",
    "loss of a batch in training mode and in evaluation mode; a row for each batch",
    axis="condition",
    cadence="event",
)
EXPERIMENT_REPLAY_BATCH = Signal(
    "experiment/replay_batch",
    "1 for the first operation, forward or backward, that makes a value that is not finite",
    axis="condition",
    cadence="event",
)
EXPERIMENT_GRADIENT_FLOW = Signal(
    "experiment/gradient_flow",
    "root mean square of the gradient of each layer's output, first layer first",
    axis="condition",
    cadence="event",
)
EXPERIMENT_GRADIENT_THROUGH_TIME = Signal(
    "experiment/gradient_through_time",
    "steps of each recurrent layer's input, and the root mean square of its gradient at the first "
    "tenth of them and where it is largest",
    axis="condition",
    cadence="event",
)
EXPERIMENT_LEARNING_RATES = Signal(
    "experiment/learning_rate_range",
    "loss while the learning rate grows, by its multiple of the run's own",
    axis="condition",
    cadence="event",
)
EXPERIMENT_LEARNING_CURVE = Signal(
    "experiment/learning_curve",
    "loss of unseen batches after a short training on a share of the others",
    axis="condition",
    cadence="event",
)

STANDARD: tuple[Signal, ...] = tuple(v for v in list(globals().values()) if isinstance(v, Signal))
"""Every signal that the library itself records."""


def metric(name: str) -> Signal:
    """Return the signal of a metric that the user logs.

    Example:
        >>> metric("val_acc").tag
        'metric/val_acc'
    """
    return Signal(f"metric/{name}", f"the logged metric {name}", cadence="event")


def user(name: str) -> Signal:
    """Return the signal of a value recorded through ``self.plateau.record``.

    Example:
        >>> user("entropy").tag
        'user/entropy'
    """
    return Signal(f"user/{name}", f"recorded by the user as {name}", cadence="event")
