"""`lightning-plateau explain`: the page of a rule or of a remedy."""

from __future__ import annotations

import argparse
from typing import Any

from lightning_plateau import remedies
from lightning_plateau.commands.command import HEALTHY, add_command, checked, print_json
from lightning_plateau.report.console import show, width
from lightning_plateau.report.explanation import (
    explain_remedy,
    explain_rule,
    facts,
    find_rule,
    remedy_facts,
)
from lightning_plateau.rules import catalogue

EXAMPLES = """\
examples:
  lightning-plateau explain LP301
  lightning-plateau explain flat-loss
  lightning-plateau explain clip-gradients
"""


def add(commands: Any, *, completing: bool) -> None:
    """Add the command; ``completing``: offer the names that there are, and judge none."""
    command = add_command(commands, "explain", run, "explain a rule or a remedy", EXAMPLES)
    subject = command.add_argument(
        "subject", metavar="CODE|NAME", help="LP301, or exploding-gradients"
    )
    if completing:
        known = [name for rule in catalogue() for name in (rule.code, rule.name)]
        subject.choices = [*known, *remedies.by_name()]
    command.add_argument("--json", action="store_true", help="as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Explain the subject."""
    rules, wanted = catalogue(), arguments.subject.strip().lower()
    remedy = remedies.by_name().get(wanted)
    if remedy is not None:
        about: Any = remedy_facts(remedy, rules)
        text = explain_remedy(remedy, rules, width=width())
    else:
        with checked(LookupError):
            rule = find_rule(wanted, rules, remedies.by_name())
        about, text = facts(rule), explain_rule(rule, width=width())
    if arguments.json:
        print_json({**about, "text": text})
    else:
        show(text)
    return HEALTHY
