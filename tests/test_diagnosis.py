"""Findings are ranked: causes first, symptoms last, and nothing is said of a healthy run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.profile import Profile
from lightning_plateau.core.rule import Method, Remark, Rule
from lightning_plateau.core.signal import LOSS
from lightning_plateau.core.tape import Operand, Operation, Tape
from lightning_plateau.diagnosis import all_rules, diagnose, diagnose_since, select_rules
from lightning_plateau.ranking import rank
from lightning_plateau.testing import history


@dataclass(frozen=True)
class Flat(Rule):
    """A symptom that is always there."""

    code: ClassVar[str] = "XX401"
    name: ClassVar[str] = "flat"
    symptom: ClassVar[bool] = True
    confidence: float = 0.8

    def check(self, history: History) -> Finding | None:
        return self.finding(history, self.confidence, "flat at 2.3")


@dataclass(frozen=True)
class Cause(Rule):
    """A cause of the symptom."""

    code: ClassVar[str] = "XX301"
    name: ClassVar[str] = "cause"
    severity: ClassVar[Severity] = Severity.WARNING
    explains: ClassVar[tuple[str, ...]] = ("XX401",)
    confidence: float = 0.6

    def check(self, history: History) -> Finding | None:
        return self.finding(history, self.confidence, "cause of 1")


@dataclass(frozen=True)
class Fault(Rule):
    """A fault in itself, whether training fails or not."""

    code: ClassVar[str] = "XX801"
    name: ClassVar[str] = "fault"
    needs_failure: ClassVar[bool] = False

    def check(self, history: History) -> Finding | None:
        return self.finding(history, 0.7, "fault of 1")


@dataclass(frozen=True)
class Broken(Rule):
    """A rule with a bug."""

    code: ClassVar[str] = "XX999"
    name: ClassVar[str] = "broken"

    def check(self, history: History) -> Finding | None:
        raise KeyError("oops")


def codes(*rules: Rule) -> list[str]:
    return [finding.code for finding in diagnose(History(), rules)]


def test_the_empty_history_is_healthy() -> None:
    assert diagnose(History()) == ()


def test_causes_are_spoken_of_only_while_training_fails() -> None:
    assert codes(Cause()) == []
    assert codes(Cause(), Flat()) == ["XX301", "XX401"]


def test_what_is_plain_to_see_is_a_remark_while_training_does_well() -> None:
    @dataclass(frozen=True)
    class Plain(Cause):
        remark: ClassVar[Remark] = "while-well"

    assert [f.severity for f in diagnose(History(), [Plain()])] == [Severity.INFO]
    assert next(f.severity for f in diagnose(History(), [Plain(), Flat()])) is Severity.WARNING


def at_rest(level: float) -> History:
    """Cross-entropy of ten classes that has come to rest; guessing gives 2.3."""
    weight, x = Operand("parameter", name="w"), Operand("batch", 0, "0")
    layer = Operation(0, "linear", operands=(x, weight), shape=(8, 10))
    logits, y = Operand("operation", 0, shape=(8, 10)), Operand("batch", 1, "1", (8,))
    loss = Operation(1, "cross_entropy", operands=(logits, y))
    return history(loss=[level] * 200, tapes=[Tape(0, (layer, loss), root=1)])


def test_what_is_plain_to_see_is_a_fault_where_training_rests_with_much_left() -> None:
    @dataclass(frozen=True)
    class Plain(Cause):
        remark: ClassVar[Remark] = "while-falling"

    for level, severity in ((0.2, Severity.INFO), (1.0, Severity.WARNING)):
        assert [f.severity for f in diagnose(at_rest(level), [Plain()])] == [severity]


def test_strong_evidence_alone_is_no_fault_where_training_rests_with_much_left() -> None:
    """Many tasks have no lower loss."""
    assert diagnose(at_rest(1.0), [Cause(confidence=0.9)]) == ()


def test_a_cause_that_is_not_half_as_probable_as_another_is_left_out() -> None:
    @dataclass(frozen=True)
    class Other(Cause):
        code: ClassVar[str] = "XX302"

    assert codes(Flat(), Cause(confidence=0.7), Other(confidence=0.3)) == ["XX301", "XX401"]
    assert codes(Flat(), Cause(confidence=0.7), Other(confidence=0.4))[:2] == ["XX301", "XX302"]


def test_a_symptom_that_is_a_remark_is_no_failure() -> None:
    @dataclass(frozen=True)
    class Passing(Flat):
        severity: ClassVar[Severity] = Severity.INFO

    assert [finding.code for finding in diagnose(History(), [Passing(), Cause()])] == ["XX401"]


def test_what_is_certain_or_a_fault_in_itself_is_always_spoken_of() -> None:
    assert codes(Cause(confidence=1.0)) == ["XX301"]
    assert codes(Fault()) == ["XX801"]


def test_explained_symptoms_come_last_under_their_cause() -> None:
    findings = diagnose(History(), [Flat(), Fault(), Cause()])
    assert findings[-1].code == "XX401"
    assert [finding.explained_by for finding in findings] == ["", "", "XX301"]


def test_a_certain_symptom_is_still_a_symptom() -> None:
    """That the loss is NaN is certain; why it is NaN is what the user wants to read first."""
    findings = diagnose(History(), [Flat(confidence=1.0), Cause()])
    assert [f.code for f in findings] == ["XX301", "XX401"]
    assert findings[1].explained_by == "XX301"


def test_a_rule_that_raises_becomes_one_finding_and_the_others_are_asked() -> None:
    findings = diagnose(History(), [Broken(), Fault()])
    assert [f.code for f in findings] == ["XX801", "LP903"]
    assert "XX999 failed" in findings[1].message
    assert "KeyError" in findings[1].message
    assert findings[1].severity is Severity.INFO


def finding(code: str, confidence: float = 0.8, **settings: object) -> Finding:
    severity = settings.pop("severity", Severity.ERROR)
    return Finding(code, code.lower(), 1, severity, confidence, "1", **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        ([finding("A", 0.6), finding("B", 0.9)], ["B", "A"]),
        ([finding("A", severity=Severity.WARNING), finding("B")], ["B", "A"]),
        ([finding("A", 0.9), finding("B", 1.0)], ["B", "A"]),
        ([finding("S", 0.95), finding("B", 0.6)], ["B", "S"]),
        ([finding("A", 1.0, severity=Severity.INFO), finding("B", 0.5)], ["B", "A"]),
        ([finding("A", 0.8), finding("B", 0.78, explains=("A",))], ["B", "A"]),
    ],
)
def test_order(findings: list[Finding], expected: list[str]) -> None:
    assert [f.code for f in rank(findings, {"S"})] == expected
    assert [f.code for f in rank(reversed(findings), {"S"})] == expected


def test_a_chain_of_causes_folds_under_the_first() -> None:
    chain = [
        finding("A", 0.9, explains=("B",)),
        finding("B", 0.8, explains=("S",)),
        finding("S", 0.7),
    ]
    assert [(f.code, f.explained_by) for f in rank(chain, {"S"})] == [
        *(("A", ""), ("B", "A"), ("S", "A"))
    ]


@pytest.mark.parametrize(("cause", "effect"), [("LP304", "LP414"), ("LP708", "LP106")])
def test_real_causes_account_for_what_follows_from_them(cause: str, effect: str) -> None:
    rules = {rule.code: rule for rule in all_rules()}
    run = history()
    found = [rules[code].finding(run, 0.7, "seen") for code in (effect, cause)]
    ranked = rank(found, {code for code, rule in rules.items() if rule.symptom})
    assert [(one.code, one.explained_by) for one in ranked] == [(cause, ""), (effect, cause)]


def test_two_that_explain_each_other_do_not_vanish() -> None:
    circle = [finding("S", 1.0, explains=("B",)), finding("B", 0.8, explains=("S",))]
    assert [(f.code, f.explained_by) for f in rank(circle, {"S"})] in (
        [("S", ""), ("B", "S")],
        [("B", ""), ("S", "B")],
    )


def test_remarks_hide_no_symptom() -> None:
    remark = finding("I", 1.0, severity=Severity.INFO, explains=("S",))
    assert [f.code for f in rank([remark, finding("S")], {"S"})] == ["S", "I"]


def test_ranking_twice_changes_nothing() -> None:
    once = rank([finding("S"), finding("A", explains=("S",))], {"S"})
    assert rank(once, {"S"}) == once
    (alone,) = rank([f for f in once if f.code == "S"], {"S"})
    assert alone.explained_by == ""


# -- selection ------------------------------------------------------------------------------------


def selected(**settings: list[str]) -> set[str]:
    return {rule.code for rule in select_rules([Flat(), Cause(), Fault()], **settings)}  # type: ignore[arg-type]


def test_select_by_code_beginning_and_name() -> None:
    assert selected() == {"XX401", "XX301", "XX801"}
    assert selected(select=["XX4"]) == {"XX401"}
    assert selected(select=["xx301", "fault"]) == {"XX301", "XX801"}
    assert selected(ignore=["flat"]) == {"XX301", "XX801"}
    assert selected(select=["XX"], ignore=["XX8"]) == {"XX401", "XX301"}
    assert selected(select=[]) == set()


@pytest.mark.parametrize("argument", ["select", "ignore"])
@pytest.mark.parametrize("entry", ["XX777", "", "flaat"])
def test_unknown_entries_are_repeated_with_a_hint(argument: str, entry: str) -> None:
    with pytest.raises(ValueError, match=f"{argument} expects codes .* received '{entry}'"):
        selected(**{argument: [entry]})
    with pytest.raises(ValueError, match="Did you mean flat"):
        selected(**{argument: ["flaat"]})


def test_codes_are_unique() -> None:
    known = [rule.code for rule in all_rules()]
    assert len(known) == len(set(known))


@pytest.mark.parametrize(("treated", "finished", "found"), [
    (0, True, True), (90, True, True), (90, False, False), (40, True, False),
])  # fmt: skip
def test_a_run_that_is_over_soon_after_its_last_treatment_is_judged_whole(
    treated: int, finished: bool, found: bool
) -> None:
    """What was tried last was undone: no step since says that the run is well."""

    class AtFirst(Flat):
        def check(self, history: History) -> Finding | None:
            starts = history[LOSS].values[:1] == 2.3
            return super().check(history) if starts.any() else None

    run = history(loss=[2.3, *[1.0] * 99], finished=finished)
    assert bool(diagnose_since(run, treated, [AtFirst()])) is found


def test_what_is_only_possible_is_ranked_by_how_probable_it_is() -> None:
    grave = Finding("XX1", "grave", 0, Severity.ERROR, 0.3, "a")
    light = Finding("XX2", "light", 0, Severity.WARNING, 0.5, "b")
    assert [f.code for f in rank([grave, light], ())] == ["XX2", "XX1"]
    likely = Finding("XX1", "grave", 0, Severity.ERROR, 0.6, "a")
    assert [f.code for f in rank([likely, replace(light, confidence=0.9)], ())] == ["XX1", "XX2"]


def test_a_finding_names_the_line_of_its_layer_and_else_the_method_of_its_rule() -> None:
    @dataclass(frozen=True)
    class Placed(Fault):
        method: ClassVar[Method] = "configure_optimizers"
        where: str = ""

        def check(self, history: History) -> Finding | None:
            return self.finding(history, 0.7, "fault of 1", where=self.where)

    tape = Tape(0, (Operation(0, "linear", "net.fc", line="nets.py:31"),))
    lines = {"configure_optimizers": "train.py:7"}
    run = history(loss=[1.0], tapes=[tape], profile=Profile(lines=lines))
    assert diagnose(run, [Placed(where="net.fc (linear)")])[0].line == "nets.py:31"
    assert diagnose(run, [Placed()])[0].line == "train.py:7"
    assert diagnose(run, [Fault()])[0].line == ""
