"""The contract: what every rule promises, as one assertion."""

from __future__ import annotations

import doctest
import inspect
import io
import json
import re
import sys
import warnings
from dataclasses import fields, is_dataclass
from typing import Any

from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.plain import from_plain, to_plain
from lightning_plateau.core.rule import Rule
from lightning_plateau.testing.strategies import histories, strategies

SECTIONS = (
    "What it detects",
    "Why it matters",
    "Example",
    "Remedies",
    "Known limitations",
    "References",
)
"""What the docstring of a rule says, in this order."""

CODE = re.compile(r"[A-Z]{2,}\d{3}")
KEBAB_CASE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def assert_rule_contract(rule: Rule, *, examples: int = 60) -> None:
    """Assert that ``rule`` keeps what every rule promises.

    It is documented in six sections with an example that runs; its code and name are well-formed;
    it is frozen; it is silent on the empty history; and on whatever history it returns, without
    raising and without a warning, the same finding each time, one that survives strict JSON.

    Args:
        rule: The rule, with any thresholds.
        examples: Number of arbitrary histories to try.

    Raises:
        AssertionError: If a promise is broken; the message says which.
        ModuleNotFoundError: If hypothesis is not installed.

    Example:
        >>> from lightning_plateau.rules.flat_loss import FlatLoss
        >>> assert_rule_contract(FlatLoss(), examples=5)
    """
    assert_documented(type(rule))
    assert_well_formed(rule)
    assert rule.check(History()) is None, f"{rule.name} must be silent on the empty history"
    assert_total(rule, examples)


def assert_documented(rule: type[Rule]) -> None:
    """Assert that the docstring has the six sections, none empty, and that its examples run.

    Raises:
        AssertionError: If a section is missing, misplaced or empty, or an example fails.
    """
    text = inspect.getdoc(rule) or ""
    found = [line[:-1] for line in text.splitlines() if line[:-1] in SECTIONS and line[-1] == ":"]
    assert found == list(SECTIONS), f"{rule.__name__} must document {SECTIONS}, but has {found}"
    for section in SECTIONS:
        body = text.partition(f"\n{section}:\n")[2]
        assert body.startswith("    "), f"section {section!r} of {rule.__name__} is empty"
    source = sys.modules[rule.__module__].__dict__ | {rule.__name__: rule}
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    runner = doctest.DocTestRunner(optionflags=flags, verbose=False)
    said = io.StringIO()
    tests = doctest.DocTestFinder(recurse=False).find(rule, rule.__name__, globs=source)
    assert any(test.examples for test in tests), f"{rule.__name__} must have a runnable example"
    for test in tests:
        runner.run(test, out=said.write)
    assert not runner.failures, f"the example of {rule.__name__} fails:\n{said.getvalue()}"


def assert_well_formed(rule: Rule) -> None:
    """Assert that the rule is a frozen dataclass whose code, name and facts are well-formed.

    Raises:
        AssertionError: If they are not.
    """
    kind = type(rule)
    assert is_dataclass(kind), f"{kind.__name__} must be a dataclass"
    assert "__dataclass_params__" in vars(kind), f"{kind.__name__} must be decorated itself"
    assert vars(kind)["__dataclass_params__"].frozen, f"{kind.__name__} must be frozen"
    assert CODE.fullmatch(rule.code), f"code must look like 'LP301', received {rule.code!r}"
    assert KEBAB_CASE.fullmatch(rule.name), f"name must be in kebab case, received {rule.name!r}"
    assert rule.severity in set(Severity), f"severity must be a Severity, got {rule.severity!r}"
    assert rule.why, f"{rule.name} must say why it matters in `why`"
    assert rule.code not in rule.explains, f"{rule.name} cannot explain itself"
    for code in rule.explains:
        assert CODE.fullmatch(code), f"explains must hold codes, received {code!r}"
    for remedy in rule.remedies:
        assert KEBAB_CASE.fullmatch(remedy), f"remedies must hold names, received {remedy!r}"
    assert kind(**{field.name: getattr(rule, field.name) for field in fields(kind)}) == rule


def assert_total(rule: Rule, examples: int = 60) -> None:
    """Assert that the rule copes with arbitrary histories.

    The histories are the same on every run, so that a gate does not fail by chance.

    Raises:
        AssertionError: If a finding is malformed, or differs when asked again.
    """
    strategies()  # says which extra is missing before the import below does not
    from hypothesis import HealthCheck, given, settings

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(histories())
    def check_one(history: History) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a user's terminal is no place for numpy's doubts
            finding, again = rule.check(history), rule.check(history)
        assert plain(finding) == plain(again), f"{rule.name} must be pure"
        if finding is not None:
            assert_finding(rule, finding)

    check_one()


def assert_finding(rule: Rule, finding: Finding) -> None:
    """Assert that a finding of ``rule`` is well-formed and survives strict JSON.

    Raises:
        AssertionError: If it is not.
    """
    assert (finding.code, finding.name) == (rule.code, rule.name), "a finding bears its rule's name"
    assert finding.step >= 0, f"step must be at least 0, received {finding.step}"
    assert 0.0 < finding.confidence <= 1.0, f"confidence must be in (0, 1], in {finding}"
    assert re.search(r"\d|nan|inf", finding.message), f"a number belongs in {finding.message!r}"
    assert "\n" not in finding.message, f"a message is one line, received {finding.message!r}"
    written = json.dumps(plain(finding), allow_nan=False)
    read = from_plain(Finding, json.loads(written))
    assert plain(read) == plain(finding), f"the finding must survive JSON: {finding}"


def plain(finding: Finding | None) -> Any:
    """Return a finding in plain types, which compare equal where both hold NaN."""
    return None if finding is None else to_plain(finding)
