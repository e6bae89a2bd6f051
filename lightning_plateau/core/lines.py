"""Lines: where in the user's code a finding is to be mended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import History
from lightning_plateau.core.tape import Operation, Tape


def line_of(history: History, where: str, method: str = "") -> str:
    """Return the line that calls what a finding names, ``"train.py:42"``; ``""`` where unknown.

    Args:
        history: What was recorded.
        where: Operation, layer or parameter at fault, as findings name them.
        method: Method of the user's module that it has to do with otherwise.

    Example:
        >>> from lightning_plateau.testing import history
        >>> fc = Operation(0, "linear", "net.fc", line="nets.py:31")
        >>> run = history(tapes=[Tape(0, (fc,))])
        >>> line_of(run, "net.fc (linear)"), line_of(run, "net.fc.weight"), line_of(run, "net.fd")
        ('nets.py:31', 'nets.py:31', '')
    """
    for tape in (history.last_tape, history.first_tape) if where else ():
        lines = {} if tape is None else _lines(tape)
        # A layer that was called for a loss, an operation or a parameter may be named.
        for name in (where, where.rpartition(".")[0]):
            if name in lines:
                return lines[name]
    return history.profile.lines.get(method, "")


@derived
def _lines(tape: Tape) -> Mapping[str, str]:
    """Return the line of the first call of each operation, layer and parameter, by name."""
    lines: dict[str, str] = {}
    for operation in tape:
        if operation.line:
            for name in _names(operation):
                lines.setdefault(name, operation.line)
    return lines


def _names(operation: Operation) -> Iterator[str]:
    yield operation.site
    yield from (operand.name for operand in operation.operands if operand.is_weight)
    if operation.layer:
        yield operation.layer
