"""Which findings stand, over the whole of a run."""

from __future__ import annotations

import io

import torch

from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.ledger import Ledger


def finding(code: str, step: int = 10, confidence: float = 0.8, message: str = "at 1") -> Finding:
    evidence = (Evidence("loss/train", float("inf"), 1.0),)
    return Finding(code, code.lower(), step, Severity.ERROR, confidence, message, evidence)


def ledger() -> Ledger:
    return Ledger(frozenset({"S"}))


def codes(ledger: Ledger) -> list[str]:
    return [finding.code for finding in ledger.findings]


def test_tells_each_code_once_even_if_it_comes_back() -> None:
    book = ledger()
    assert [f.code for f in book.update([finding("A")])] == ["A"]
    assert book.update([finding("A", 20)]) == ()
    assert book.update([]) == ()
    assert codes(book) == []
    assert book.update([finding("A", 60)]) == ()
    assert codes(book) == ["A"]


def test_what_is_certain_or_treated_stands_and_the_rest_passes() -> None:
    book = ledger()
    book.update([finding("A"), finding("B", confidence=1.0), finding("C")])
    book.update([], treated=frozenset({"C"}))
    assert codes(book) == ["B", "C"]


def test_the_first_step_and_the_latest_words_are_kept() -> None:
    book = ledger()
    book.update([finding("A", 10, message="at 1")])
    book.update([finding("A", 90, message="at 2")])
    (standing,) = book.findings
    assert (standing.step, standing.message) == (10, "at 2")


def test_adding_drops_nothing() -> None:
    book = ledger()
    book.update([finding("A")])
    assert [f.code for f in book.add([finding("B", confidence=1.0)])] == ["B"]
    assert codes(book) == ["B", "A"]


def test_answers_ranked() -> None:
    book = ledger()
    book.update([finding("S", confidence=0.9), finding("A", confidence=0.6)])
    assert codes(book) == ["A", "S"]


def test_state_round_trip_loads_with_weights_only() -> None:
    book, file = ledger(), io.BytesIO()
    book.update([finding("A"), finding("B", confidence=1.0)])
    book.update([finding("B", confidence=1.0)])
    torch.save(book.state_dict(), file)
    file.seek(0)
    again = ledger()
    again.load_state_dict(torch.load(file, weights_only=True))
    assert again.findings == book.findings
    assert again.update([finding("A"), finding("B", confidence=1.0)]) == ()  # told before
    again.clear()
    assert codes(again) == []
    assert again.update([finding("A")]) != ()


def failure(message: str) -> Finding:
    return Finding("LP903", "unsupported-here", 3, Severity.INFO, 1.0, message)


def test_each_failure_of_the_library_is_told_once() -> None:
    ledger = Ledger(frozenset())
    texts = ["a logger failed", "no tape: <Net at 0x7f01>", "no tape: <Net at 0x7f02>", "no tape"]
    new = [len(ledger.add((failure(text),))) for text in (*texts, *texts)]
    assert new == [1, 1, 0, 1, 0, 0, 0, 0]
    assert len(ledger.findings) == 3
    assert len(ledger.update([failure("a rule failed")])) == 1
    assert len(ledger.findings) == 4
    again = Ledger(frozenset())
    again.load_state_dict(ledger.state_dict())
    assert again.findings == ledger.findings
    assert again.add((failure("a logger failed"),)) == ()


def test_a_flood_of_failures_is_cut_off() -> None:
    ledger = Ledger(frozenset())
    told = [ledger.add((failure("x" * length),)) for length in range(100)]
    assert len(ledger.findings) == sum(map(len, told)) == 20
