"""LP711: a reshape stands where dimensions were to be transposed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.layers import called
from lightning_plateau.core.reshaping import straddles, transposed
from lightning_plateau.core.rule import Remark, Rule
from lightning_plateau.core.tape import CLASS_LOSSES, Operand, Operation, Tape

_CONVOLUTIONS = frozenset(f"conv{way}{n}d" for way in ("", "_transpose") for n in (1, 2, 3))
_SAME = frozenset({"contiguous", "float", "to", "squeeze", "log_softmax"})
_RESHAPES = frozenset({"view", "reshape", "view_as", "reshape_as"})


@dataclass(frozen=True)
class ReshapedNotTransposed(Rule):
    """A reshape stands where dimensions were to be transposed.

    What it detects:
        A ``view`` or ``reshape`` on the way to the loss whose new shape is that of the old
        dimensions in another order, merged or not, while no way of merging neighbours and splitting
        single dimensions leads there: ``(32, 10, 8)`` to ``(10, 32, 8)``, masks that were permuted
        and reshaped back. And scores of a convolution, ``(16, 3, 8, 8)``, that become rows of as
        many numbers as there are classes, ``(1024, 3)``, with no transposition on the way; or
        scores of a linear layer, classes last, ``(32, 10, 5)``, that a reshape makes
        ``(32, 5, 10)`` for a loss that wants the classes second.

    Why it matters:
        A reshape keeps the elements in their order and only counts them anew. What were the steps
        of a sequence, or the scores of one pixel, is then a cut across several of them.

    Example:
        >>> from lightning_plateau.core.tape import Operand
        >>> from lightning_plateau.testing import history
        >>> x, weight = Operand("batch", 0, "0", (32, 10, 8)), Operand("parameter", name="rnn.w")
        >>> view = Operation(0, "view", "", (x,), (10, 32, 8))
        >>> rnn = Operation(1, "gru", "rnn", (Operand("operation", 0), weight), (10, 32, 4))
        >>> finding = ReshapedNotTransposed().check(history(tapes=[Tape(0, (view, rnn), root=1)]))
        >>> finding.message
        'view makes (10, 32, 8) of (32, 10, 8): elements are counted anew, not transposed'
        >>> finding.fix
        'transpose in place of it: .permute(1, 0, 2)'

    Remedies:
        Advice only: ``permute`` or ``transpose``, and a reshape only after that.

    Known limitations:
        Where sizes divide each other (powers of two) and no loss says which dimension is which, the
        same mistake may be meant, and nothing is said: whether samples mix is LP708's question. A
        reshape that undoes another one made by the data set looks the same.

    References:
        Humbatova et al., 2020, Taxonomy of Real Faults in Deep Learning Systems (ICSE): wrong
        tensor shape. Karpathy, 2018, most common neural net mistakes (view in place of permute).
    """

    code: ClassVar[str] = "LP711"
    name: ClassVar[str] = "reshaped-not-transposed"
    remark: ClassVar[Remark] = "while-falling"
    explains: ClassVar = (
        "LP104",
        "LP106",
        "LP306",
        "LP401",
        "LP405",
        "LP407",
        "LP414",
        "LP602",
        "LP707",
        "LP708",
        "LP801",
        "LP802",
        "LP803",
        "LP807",
        "LP808",
    )
    why: ClassVar[str] = "what belongs together is cut apart, and what does not is put together"

    confidence: float = 0.9

    def check(self, history: History) -> Finding | None:
        """Return the fault at the first reshape that cuts across dimensions."""
        found = next(
            (
                one
                for tape in history.tapes
                for one in (*_scrambling(tape), *_flattened(tape), *_moved(tape))
            ),
            None,
        )
        if found is None:
            return None
        tape, reshape, order = found
        before = reshape.operands[0].shape
        counted = f", over the dimensions {_larger(before)}" if len(order) < len(before) else ""
        return self.finding(
            history,
            self.confidence,
            f"{reshape.site} makes {reshape.shape} of {before}: elements are counted anew, not "
            "transposed",
            evidence=(Evidence("dimensions of more than one place", float(len(order))),),
            fix=f"transpose in place of it: .permute{order}" + counted,
            where=reshape.site,
            step=tape.step,
        )


def _scrambling(tape: Tape) -> Iterator[tuple[Tape, Operation, tuple[int, ...]]]:
    """Yield each reshape that cuts across dimensions, with the order that was meant."""
    for reshape in called(tape, _RESHAPES):
        before = reshape.operands[0].shape if reshape.operands else ()
        if not before or not straddles(before, reshape.shape):
            continue
        order = transposed(before, reshape.shape)
        if order is not None:
            yield tape, reshape, order


def _flattened(tape: Tape) -> Iterator[tuple[Tape, Operation, tuple[int, ...]]]:
    """Yield each reshape of a convolution's scores to rows that are not one place's."""
    for loss in tape.losses:
        rows = loss.operands[0].shape if loss.name in CLASS_LOSSES and loss.operands else ()
        reshape = _reshape_of(tape, loss.operands[0]) if len(rows) == 2 else None
        if reshape is None:
            continue
        before = reshape.operands[0].shape
        made = tape.origin(reshape.operands[0])
        if made is None or made.name not in _CONVOLUTIONS or made.shape != before:
            continue
        if len(before) > 2 and before[1] == rows[1] > 1 and prod(before[2:]) > 1:
            yield tape, reshape, (0, *range(2, len(before)), 1)


def _moved(tape: Tape) -> Iterator[tuple[Tape, Operation, tuple[int, ...]]]:
    """Yield each reshape of a layer's scores, classes last, to classes in front of the places.

    A layer that makes as many numbers as there are classes, for each of several places, has them
    last: where the loss wants them second, no reshape brings them there.
    """
    for loss in tape.losses:
        wanted = loss.operands[0].shape if loss.name in CLASS_LOSSES and loss.operands else ()
        reshape = _reshape_of(tape, loss.operands[0]) if len(wanted) > 2 else None
        if reshape is None:
            continue
        before, classes = reshape.operands[0].shape, wanted[1]
        made = tape.origin(reshape.operands[0])
        if made is None or made.name != "linear" or made.shape != before:
            continue
        several = len(before) == len(wanted) and prod(before[1:-1]) > 1
        if several and before[-1] == classes and wanted[1:] != before[1:]:
            yield tape, reshape, (0, len(before) - 1, *range(1, len(before) - 1))


def _reshape_of(tape: Tape, scores: Operand) -> Operation | None:
    """Return the reshape that scores come from, but for what keeps their shape."""
    reshape = tape.producer(scores)
    while reshape is not None and reshape.name in _SAME and reshape.operands:
        reshape = tape.producer(reshape.operands[0])
    return reshape if reshape and reshape.name in _RESHAPES and reshape.operands else None


def _larger(shape: tuple[int, ...]) -> str:
    return str(tuple(size for size in shape if size != 1))
