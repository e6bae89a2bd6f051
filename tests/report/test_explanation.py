from __future__ import annotations

import pytest

from lightning_plateau.report.explanation import explain_rule, find_rule, rule_table
from lightning_plateau.rules import catalogue


@pytest.mark.parametrize("wanted", ["LP401", "lp401", "flat-loss", " Flat-Loss "])
def test_a_rule_is_found_by_code_or_name(wanted):
    assert find_rule(wanted, catalogue()).code == "LP401"


def test_an_unknown_rule_is_answered_with_the_nearest():
    with pytest.raises(LookupError, match="did you mean flat-loss"):
        find_rule("flat-los", catalogue())
    with pytest.raises(LookupError, match="lightning-plateau rules lists them all"):
        find_rule("qqqq", catalogue())


@pytest.mark.parametrize("rule", catalogue(), ids=lambda rule: rule.code)
def test_every_rule_explains_itself(rule):
    text = explain_rule(rule)
    assert text.startswith(f"{rule.code} {rule.name}\n")
    assert "What it detects:" in text
    assert "References:" in text


def test_the_table_has_one_line_for_each_rule():
    lines = rule_table(catalogue(), width=100).splitlines()
    assert [line.split()[:2] for line in lines] == [[r.code, r.name] for r in catalogue()]
