"""Every rule of the catalogue keeps the contract, and the catalogue is consistent."""

from __future__ import annotations

from collections import Counter

import pytest

from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import STANDARD
from lightning_plateau.rules import catalogue
from lightning_plateau.testing import assert_rule_contract

RULES = catalogue()
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.code}-{rule.name}")


@each_rule
def test_keeps_the_contract(rule: type[Rule]) -> None:
    assert_rule_contract(rule())


@each_rule
def test_file_is_named_after_the_fault(rule: type[Rule]) -> None:
    assert rule.__module__.rpartition(".")[2] == rule.name.replace("-", "_")


@each_rule
def test_code_belongs_to_the_library(rule: type[Rule]) -> None:
    assert rule.code.startswith("LP")


@each_rule
def test_requires_signals_that_the_recorder_knows(rule: type[Rule]) -> None:
    assert set(rule.requires) <= set(STANDARD)


def test_codes_and_names_are_unique() -> None:
    codes = Counter(rule.code for rule in RULES)
    names = Counter(rule.name for rule in RULES)
    assert not [code for code, count in codes.items() if count > 1]
    assert not [name for name, count in names.items() if count > 1]


def test_no_two_rules_explain_each_other_by_class() -> None:
    explains = {rule.code: set(rule.explains) for rule in RULES}
    mutual = [(a, b) for a in explains for b in explains[a] if a in explains.get(b, ())]
    assert not mutual, "two causes that explain each other fold into nothing"
