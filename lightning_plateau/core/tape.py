"""The tape: the forward pass of one sampled step as a list of operations in call order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

from lightning_plateau.core.derived import Derivable, derived
from lightning_plateau.core.profile import Value

Source = Literal["operation", "batch", "parameter", "buffer", "stray", "other"]

SHAPE_OPERATIONS = frozenset(
    [
        "view",
        "reshape",
        "flatten",
        "unflatten",
        "squeeze",
        "unsqueeze",
        "transpose",
        "permute",
        "t",
        "contiguous",
        "expand",
        "expand_as",
        "view_as",
        "reshape_as",
        "getitem",
        "get",
        "movedim",
        "swapaxes",
        "to",
        "float",
        "double",
        "half",
        "bfloat16",
        "type",
        "type_as",
        "clone",
        "detach",
        "narrow",
        "select",
        "chunk",
        "split",
        "unbind",
        "ravel",
        "as_tensor",
        "cpu",
        "cuda",
    ]
)
"""Operations that move or recast values and leave each value what it was."""

PASSING_OPERATIONS = SHAPE_OPERATIONS | frozenset(
    ["dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout"]
)
"""Operations that a search for the layer before another one walks through."""

RECTIFIERS = frozenset(
    [
        "relu",
        "relu6",
        "leaky_relu",
        "elu",
        "selu",
        "celu",
        "gelu",
        "silu",
        "mish",
        "softplus",
        "threshold",
        "hardswish",
    ]
)
SQUASHERS = frozenset(["sigmoid", "tanh", "hardtanh", "hardsigmoid", "softsign", "expit"])
SOFTMAXES = frozenset(["softmax", "log_softmax", "softmin", "gumbel_softmax"])
ACTIVATIONS = (
    RECTIFIERS
    | SQUASHERS
    | SOFTMAXES
    | frozenset({"logsigmoid", "prelu", "rrelu", "glu", "tanhshrink"})
)

LINEAR_OPERATIONS = frozenset(
    [
        "linear",
        "bilinear",
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose1d",
        "conv_transpose2d",
        "conv_transpose3d",
        "matmul",
        "mm",
        "bmm",
        "addmm",
        "baddbmm",
        "einsum",
    ]
)
NORMALIZATIONS = frozenset(
    ["batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "local_response_norm"]
)
RECURRENCES = frozenset(
    [
        "lstm",
        "gru",
        "rnn_tanh",
        "rnn_relu",
        "lstm_cell",
        "gru_cell",
        "rnn_tanh_cell",
        "rnn_relu_cell",
    ]
)

CLASS_LOSSES = frozenset(["cross_entropy", "nll_loss"])
BINARY_LOSSES = frozenset(["binary_cross_entropy", "binary_cross_entropy_with_logits"])
REGRESSION_LOSSES = frozenset(
    ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "poisson_nll_loss", "gaussian_nll_loss"]
)
LOSSES = (
    CLASS_LOSSES
    | BINARY_LOSSES
    | REGRESSION_LOSSES
    | frozenset(
        [
            "kl_div",
            "ctc_loss",
            "hinge_embedding_loss",
            "margin_ranking_loss",
            "cosine_embedding_loss",
            "triplet_margin_loss",
            "triplet_margin_with_distance_loss",
            "multi_margin_loss",
            "multilabel_margin_loss",
            "multilabel_soft_margin_loss",
            "soft_margin_loss",
        ]
    )
)
"""Names of the loss functions of ``torch.nn.functional``."""


@dataclass(frozen=True, slots=True)
class Operand:
    """One tensor argument of an operation.

    Attributes:
        source: Where the tensor came from: another operation, the batch, a parameter, a buffer.
            ``"stray"`` is a trainable parameter that neither the module nor an optimizer holds.
        index: Position of the operation, or of the batch's tensor, that it came from; -1 otherwise.
        name: Dotted name of the parameter or buffer, path in the batch, or ``""``.
        shape: Shape of the tensor.
        dtype: Short name of the type.
        statistics: For operands of a loss, and of an operation whose domain has an edge:
            ``minimum``, ``maximum``, ``mean``, ``std``, ``row_sum_error`` (max |Σ over dim 1 − 1|),
            ``row_exponential_sum_error`` (max |Σ exp − 1|), ``column_std`` (of one output over the
            samples, the typical one), ``integer`` (1 where every value is a
            whole number), ``non_finite``, ``smallest`` (smallest magnitude).
    """

    source: Source
    index: int = -1
    name: str = ""
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    statistics: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_weight(self) -> bool:
        """Whether it is a parameter, were it one that nobody holds."""
        return self.source in ("parameter", "stray")


@dataclass(frozen=True, slots=True)
class Operation:
    """One call that made a tensor.

    Attributes:
        index: Position on the tape.
        name: Name of the function without underscores around it: ``"conv2d"``, ``"sub"``.
        layer: Dotted name of the innermost module that was being called; ``""`` in the
            ``training_step`` itself.
        operands: The tensor arguments in order.
        shape: Shape of the output (of the first, where there are several).
        dtype: Type of the output.
        attributes: Arguments that are not tensors (``dim``, ``reduction``, ``training`` …).
        requires_grad: Whether the output takes part in backward.
        statistics: ``mean``, ``std``, ``minimum``, ``maximum``, ``non_finite`` (0 or 1) and, where
            they make sense, ``dead_units``, ``saturated``. Empty for outputs of whole numbers.
        line: The innermost line of the user's own code that led to the call, ``"train.py:42"``;
            ``""`` where it is not known.
    """

    index: int
    name: str
    layer: str = ""
    operands: tuple[Operand, ...] = ()
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    attributes: Mapping[str, Value] = field(default_factory=dict)
    requires_grad: bool = True
    statistics: Mapping[str, float] = field(default_factory=dict)
    line: str = ""

    @property
    def site(self) -> str:
        """A name for people: the layer and the function, ``"net.conv1 (conv2d)"``."""
        return f"{self.layer} ({self.name})" if self.layer else self.name


@dataclass(frozen=True, slots=True)
class Tape(Derivable):
    """The operations of one sampled forward pass.

    Attributes:
        step: Optimizer step at which it was taken.
        operations: In call order.
        root: Index of the operation that made the tensor that backward started from; None where
            no backward was seen, -1 where the tensor came from no operation on the tape.
        root_requires_grad: Whether that tensor takes part in backward.
        training: Whether the module as a whole was in training mode.

    Example:
        >>> conv = Operation(0, "conv2d", "net.0", (Operand("batch", 0),))
        >>> relu = Operation(1, "relu", "net.1", (Operand("operation", 0),))
        >>> tape = Tape(0, (conv, relu), root=1)
        >>> [operation.name for operation in tape.ancestors(relu)]
        ['relu', 'conv2d']
    """

    step: int
    operations: tuple[Operation, ...] = ()
    root: int | None = None
    root_requires_grad: bool = True
    training: bool = True

    def __len__(self) -> int:
        return len(self.operations)

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    @property
    @derived
    def names(self) -> frozenset[str]:
        """The names of all operations."""
        return frozenset(_by_name(self))

    def named(self, names: Set[str]) -> tuple[Operation, ...]:
        """Return the operations that bear one of ``names``, in call order."""
        kinds = [_by_name(self)[name] for name in _by_name(self).keys() & names]
        if len(kinds) > 1:
            return tuple(sorted(chain.from_iterable(kinds), key=_position))
        return tuple(kinds[0]) if kinds else ()

    def producer(self, operand: Operand) -> Operation | None:
        """Return the operation that made ``operand``, or None."""
        return self.operations[operand.index] if operand.source == "operation" else None

    def ancestors(self, operation: Operation) -> tuple[Operation, ...]:
        """Return ``operation`` and all that it depends on, latest first."""
        known = _known_ancestors(self)
        if operation.index not in known:
            known[operation.index] = self._ancestors(operation.index)
        return known[operation.index]

    def _ancestors(self, last: int) -> tuple[Operation, ...]:
        operations, found = self.operations, bytearray(last + 1)
        found[last] = True
        for index in range(last, -1, -1):  # what an operation was made of lies before it
            if found[index]:
                for operand in operations[index].operands:
                    if operand.source == "operation" and 0 <= operand.index < index:
                        found[operand.index] = True
        return tuple(operations[index] for index in range(last, -1, -1) if found[index])

    def origin(
        self, operand: Operand, through: frozenset[str] = PASSING_OPERATIONS
    ) -> Operation | None:
        """Return the operation that gave ``operand`` its values, walking back ``through`` others.

        Returns None where the values come from the batch, a parameter or from nowhere known.
        """
        operation = self.producer(operand)
        while operation is not None and operation.name in through:
            if not operation.operands:
                return operation
            operation = self.producer(operation.operands[0])
        return operation

    def from_batch(
        self, operand: Operand, through: frozenset[str] = SHAPE_OPERATIONS
    ) -> Operand | None:
        """Return the batch's tensor that ``operand`` is, but for shape and type, or None."""
        while operand.source == "operation":
            operation = self.operations[operand.index]
            if operation.name not in through or not operation.operands:
                return None
            operand = operation.operands[0]
        return operand if operand.source == "batch" else None

    def depends_on_parameters(self, operand: Operand) -> bool:
        """Whether ``operand`` was computed with parameters of the module (a prediction)."""
        if operand.is_weight:
            return True
        operation = self.producer(operand)
        return operation is not None and any(
            o.is_weight for step in self.ancestors(operation) for o in step.operands
        )

    @property
    @derived
    def finite(self) -> bool:
        """Whether the tensor that backward started from was finite, as far as is known."""
        if self.root is None or not 0 <= self.root < len(self.operations):
            return True
        # What only moves values has no statistics of its own.
        made = self.origin(Operand("operation", self.root), SHAPE_OPERATIONS)
        return made is None or not made.statistics.get("non_finite", 0.0) > 0

    @property
    @derived
    def losses(self) -> tuple[Operation, ...]:
        """The loss functions that backward came from; all of them where that is unknown."""
        if self.root is not None and self.root >= 0:
            among: tuple[Operation, ...] = self.ancestors(self.operations[self.root])[::-1]
        else:
            among = self.operations
        return tuple(operation for operation in among if operation.name in LOSSES)


@derived
def _by_name(tape: Tape) -> Mapping[str, list[Operation]]:
    """Return the operations of each name; most rules begin with a few names, and often end so."""
    found: dict[str, list[Operation]] = {}
    for operation in tape.operations:
        found.setdefault(operation.name, []).append(operation)
    return found


def _position(operation: Operation) -> int:
    return operation.index


@derived
def _known_ancestors(tape: Tape) -> dict[int, tuple[Operation, ...]]:
    """Return where the tape keeps what operations depend on, once it was asked."""
    return {}


LATEST_KEPT = 2
"""Tapes that are kept beside the first one and those of a breakdown."""


def kept(tapes: tuple[Tape, ...]) -> tuple[Tape, ...]:
    """Return the tapes that are worth keeping: the first, the latest two, and a breakdown's two.

    Where the loss ceases to be finite, the tape of that step and the one before it tell why; all
    later ones only show that everything is NaN.

    Example:
        >>> broken = Operation(0, "log", statistics={"non_finite": 1.0})
        >>> run = [Tape(step, (Operation(0, "log"),), root=0) for step in range(4)]
        >>> run += [Tape(step, (broken,), root=0) for step in range(4, 8)]
        >>> [tape.step for tape in kept(tuple(run))]
        [0, 3, 4, 6, 7]
    """
    broken = next((index for index, tape in enumerate(tapes) if not tape.finite), None)
    wanted = {0, *range(max(0, len(tapes) - LATEST_KEPT), len(tapes))}
    if broken is not None:
        wanted |= {max(0, broken - 1), broken}
    return tuple(tape for index, tape in enumerate(tapes) if index in wanted)
