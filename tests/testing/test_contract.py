"""The contract catches rules that break it, one promise at a time."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest

from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import LOSS
from lightning_plateau.testing import assert_rule_contract

DOCUMENTATION = """A fault.

What it detects:
    A loss above the limit.

Why it matters:
    It is high.

Example:
    >>> 1 + 1
    2

Remedies:
    None.

Known limitations:
    It is a test.

References:
    None.
"""


@dataclass(frozen=True)
class HighLoss(Rule):
    __doc__ = DOCUMENTATION

    code: ClassVar[str] = "XX001"
    name: ClassVar[str] = "high-loss"
    why: ClassVar[str] = "a high loss is high"

    limit: float = 1.0

    def check(self, history: History) -> Finding | None:
        loss = history[LOSS].last
        if not loss > self.limit:
            return None
        return self.finding(history, 0.5, f"loss {loss:.3g}", evidence=(Evidence("loss", loss),))


def test_accepts_a_sound_rule() -> None:
    assert_rule_contract(HighLoss(limit=2.0))


@dataclass(frozen=True)
class Raises(HighLoss):
    __doc__ = DOCUMENTATION

    def check(self, history: History) -> Finding | None:
        return (
            self.finding(history, 0.5, str(math.log(history[LOSS].last))) if history.step else None
        )


@dataclass(frozen=True)
class Warns(HighLoss):
    __doc__ = DOCUMENTATION

    def check(self, history: History) -> Finding | None:
        warnings.warn("numpy has a doubt", RuntimeWarning, stacklevel=1)
        return None


@dataclass(frozen=True)
class Remembers(HighLoss):
    __doc__ = DOCUMENTATION

    seen: list[int] = field(default_factory=list)

    def check(self, history: History) -> Finding | None:
        self.seen.append(history.step)
        return self.finding(history, 0.5, f"{len(self.seen)}") if history.step else None


@dataclass(frozen=True)
class Numpy(HighLoss):
    __doc__ = DOCUMENTATION

    def check(self, history: History) -> Finding | None:
        if not history.step:
            return None
        value: float = np.float32(1.0)  # type: ignore[assignment]
        return self.finding(history, 0.5, "1", evidence=(Evidence("loss", value),))


@dataclass(frozen=True)
class NoConfidence(HighLoss):
    __doc__ = DOCUMENTATION

    def check(self, history: History) -> Finding | None:
        return self.finding(history, math.nan, "1") if history.step else None


@dataclass(frozen=True)
class NoNumber(HighLoss):
    __doc__ = DOCUMENTATION

    def check(self, history: History) -> Finding | None:
        return self.finding(history, 0.5, "the loss is high") if history.step else None


@dataclass(frozen=True)
class Loud(HighLoss):
    __doc__ = DOCUMENTATION

    def check(self, history: History) -> Finding | None:
        return self.finding(history, 0.5, "step 0")


@dataclass(frozen=True)
class Undocumented(HighLoss):
    """A fault."""


@dataclass(frozen=True)
class Empty(HighLoss):
    __doc__ = DOCUMENTATION.replace("    None.\n\nKnown", "\nKnown")


def wrong_example() -> Rule:
    class WrongExample(HighLoss):  # inside a function, so that pytest does not run the example
        __doc__ = DOCUMENTATION.replace("    2\n", "    3\n")

    return dataclass(frozen=True)(WrongExample)()


@dataclass(frozen=True)
class Misnamed(HighLoss):
    __doc__ = DOCUMENTATION
    name: ClassVar[str] = "HighLoss"


@dataclass(frozen=True)
class Miscoded(HighLoss):
    __doc__ = DOCUMENTATION
    code: ClassVar[str] = "1"


@dataclass(frozen=True)
class ExplainsItself(HighLoss):
    __doc__ = DOCUMENTATION
    explains: ClassVar[tuple[str, ...]] = ("XX001",)


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        (Loud(), "silent on the empty history"),
        (Remembers(), "must be pure"),
        (NoConfidence(), "confidence"),
        (NoNumber(), "a number belongs"),
        (Undocumented(), "must document"),
        (Empty(), "is empty"),
        (wrong_example(), "the example of WrongExample fails"),
        (Misnamed(), "kebab case"),
        (Miscoded(), "code must look like"),
        (ExplainsItself(), "cannot explain itself"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_names_the_broken_promise(rule: Rule, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        assert_rule_contract(rule)


@pytest.mark.parametrize(
    ("rule", "error"), [(Raises(), ValueError), (Warns(), RuntimeWarning), (Numpy(), TypeError)]
)
def test_lets_errors_through(rule: Rule, error: type[Exception]) -> None:
    with pytest.raises(error):
        assert_rule_contract(rule)
