from __future__ import annotations

import dataclasses
import json

import pytest

from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.plain import from_plain, to_plain


def finding(confidence: float = 0.5) -> Finding:
    return Finding(
        "LP301",
        "exploding-gradients",
        7,
        Severity.WARNING,
        confidence,
        "the norm is inf",
        evidence=(Evidence("gradient/norm", float("inf"), None, "fc", "1"),),
        explains=("LP201",),
        remedies=("clip-gradients",),
    )


@pytest.mark.parametrize(
    ("confidence", "word"),
    [(1.0, "certain"), (0.99, "likely"), (0.6, "likely"), (0.59, "possible"), (0.01, "possible")],
)
def test_certainty_in_a_word(confidence: float, word: str) -> None:
    assert finding(confidence).certainty == word
    assert finding(confidence).certain is (word == "certain")


def test_round_trip_through_strict_json() -> None:
    written = json.dumps(to_plain(finding()), allow_nan=False)
    assert from_plain(Finding, json.loads(written)) == finding()


def test_severity_is_written_as_a_word() -> None:
    assert to_plain(finding())["severity"] == "warning"


def test_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        finding().step = 8  # type: ignore[misc]


def test_says_what_is_no_finding() -> None:
    with pytest.raises(ValueError, match=r"expected the plain form of .*Finding"):
        from_plain(Finding, {"code": "LP301"})
