"""The phrases that every report is made of: numbers, changes, one line for each event."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from functools import singledispatch

from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.journal import Note
from lightning_plateau.core.profile import Value
from lightning_plateau.core.quantities import quantity
from lightning_plateau.core.remedy import Intervention, Outcome


def number(value: Value) -> str:
    """Write a value for people: four digits, NaN and infinity by name.

    Example:
        >>> number(0.000123456), number(12.0), number(float("nan")), number(None), number(True)
        ('0.0001235', '12', 'NaN', 'none', 'true')
    """
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        if math.isinf(value):
            return "infinity" if value > 0 else "−infinity"
        return f"{value:.4g}"
    return str(value)


def counted(count: int, noun: str) -> str:
    """Write a count with its noun.

    Example:
        >>> counted(1, "fault"), counted(2, "remedy")
        ('1 fault', '2 remedies')
    """
    if count == 1:
        return f"1 {noun}"
    if noun.endswith("y"):
        return f"{count} {noun[:-1]}ies"
    return f"{count} {noun}es" if noun.endswith("s") else f"{count} {noun}s"


_SPOKEN = {"state_of_step": "weights back to those of step", "begun_again": "begun again"}
"""Names that read better in other words."""


def change(before: Mapping[str, Value], after: Mapping[str, Value]) -> str:
    """Write what changed, ``name before → after``; many that changed alike are counted.

    What is the same before and after is left out, and so is the value of what is simply true.

    Example:
        >>> change({"learning_rate": 1.0, "finite": 1.0}, {"learning_rate": 0.5, "finite": 1.0})
        'learning_rate 1 → 0.5'
        >>> layers = [f"net.{place}" for place in range(4)]
        >>> change(dict.fromkeys(layers, "Tanh"), dict.fromkeys(layers, "ELU"))
        'net.0 and 3 more Tanh → ELU'
        >>> change({"loss": 2.3, "begun_again": True}, {"loss": 0.6})
        'loss 2.3 → 0.6, begun again'
        >>> change({"state_of_step": 79}, {"state_of_step": 0})
        'weights back to those of step 0'
        >>> change({"left_out": "a, b"}, {"left_out": "a, b, c"})
        'left_out + c'
    """
    changed: dict[str, list[str]] = {}
    for name in (*before, *(name for name in after if name not in before)):
        how = _how(name, before, after)
        if how is not None:
            changed.setdefault(how, []).append(_SPOKEN.get(name, name))
    return ", ".join(
        f"{name} {how}".rstrip() for how, names in changed.items() for name in _counted(names)
    )


def _how(name: str, before: Mapping[str, Value], after: Mapping[str, Value]) -> str | None:
    """Write how a value changed, ``before → after``; None for what did not."""
    old, new = number(before.get(name)), number(after.get(name))
    if name in before and name in after:
        if old != new and new.startswith(f"{old}, "):
            return f"+ {_brief(new.removeprefix(f'{old}, '))}"  # a list that has grown
        if name == "state_of_step":
            return new
        return None if old == new else f"{_brief(old)} → {_brief(new)}"
    alone = before[name] if name in before else after[name]
    return "" if alone is True else number(alone)


def _brief(listed: str, most: int = 3) -> str:
    items = listed.split(", ")
    return listed if len(items) <= most + 1 else f"{items[0]} and {len(items) - 1} more"


def _counted(names: list[str]) -> list[str]:
    return names if len(names) <= 2 else [f"{names[0]} and {len(names) - 1} more"]


def measured(evidence: Evidence) -> str:
    """Write a measured value beside its limit, and where it was measured.

    Example:
        >>> measured(Evidence("gradient/norm", 4e9, 10.0, "fc.weight"))
        'gradient norm 4e+09 (limit 10) at fc.weight'
    """
    unit = f" {evidence.unit}" if evidence.unit else ""
    limit = "" if evidence.limit is None else f" (limit {number(evidence.limit)}{unit})"
    where = f" at {evidence.where}" if evidence.where else ""
    return f"{quantity(evidence.quantity)} {number(evidence.value)}{unit}{limit}{where}"


def mending(finding: Finding) -> str:
    """Write what to do about a finding, after the line to do it in where that is known.

    Example:
        >>> from lightning_plateau.core.finding import Severity
        >>> about = (
        ...     "LP701",
        ...     "softmax-before-cross-entropy",
        ...     0,
        ...     Severity.ERROR,
        ...     1.0,
        ...     "softmax twice",
        ... )
        >>> mending(Finding(*about))
        'lightning-plateau explain LP701'
        >>> mending(Finding(*about, fix="return the logits", line="train.py:12"))
        'train.py:12: return the logits'
    """
    fix = finding.fix or f"lightning-plateau explain {finding.code}"
    return f"{finding.line}: {fix}" if finding.line and finding.fix else fix


@singledispatch
def one_line(record: object) -> str:
    """Write a finding, intervention, outcome or note in one line, as it happens.

    Raises:
        TypeError: If ``record`` is none of these.

    Example:
        >>> one_line(Intervention(1, 120, "clip-gradients", "LP301", {"clip": None}, {"clip": 1.0}))
        'step 120: applied clip-gradients for LP301 (clip none → 1)'
    """
    raise TypeError(
        f"expected a finding, intervention, outcome or note, but received {type(record)}"
    )


@one_line.register
def _(record: Finding) -> str:
    at = f" at {record.line}" if record.line else ""
    what = f"{record.code} {record.name} ({record.certainty}){at}"
    return " ".join(f"step {record.step}: {what}: {record.message}".split())


@one_line.register
def _(record: Intervention) -> str:
    verb = "would apply" if record.dry_run else "applied"
    what = change(record.before, record.after)
    line = f"step {record.step}: {verb} {record.remedy} for {record.code}"
    return f"{line} ({what})" if what else line


@one_line.register
def _(record: Outcome) -> str:
    line = f"step {record.step}: {record.verdict} {record.remedy} for {record.code}"
    what = change(record.before, record.after)
    reason = " ".join(record.reason.split())
    return line + (f": {reason}" if reason else "") + (f" ({what})" if what else "")


@one_line.register
def _(record: Note) -> str:
    return f"step {record.step}: {' '.join(record.text.split())}"


def wrapped(
    text: str, width: int, *, indent: str = "", label: str = "", most: int = 0
) -> list[str]:
    """Break ``text`` into lines no wider than ``width``, a label before the first.

    Args:
        text: Text; its own line breaks stay where ``most`` is 0.
        width: Most characters of a line; a longer word stays whole.
        indent: Put before every line.
        label: Put before the first line; the others are indented by as much.
        most: Most lines, the last ending in an ellipsis where something was cut; 0 for no limit.

    Example:
        >>> wrapped("the loss stays at 2.30", 16, indent="  ", label="why  ")
        ['  why  the loss', '       stays at', '       2.30']
    """
    paragraphs = [" ".join(text.split())] if most else text.splitlines()
    first, rest = indent + label, indent + " " * len(label)
    lines: list[str] = []
    for paragraph in paragraphs:
        lines += textwrap.wrap(
            paragraph,
            width,
            initial_indent=rest if lines else first,
            subsequent_indent=rest,
            break_long_words=False,
            break_on_hyphens=False,
            max_lines=most or None,
            placeholder=" …",
        )
    return lines
