"""`lightning-plateau rules`: all rules, a line each."""

from __future__ import annotations

import argparse
from typing import Any

from lightning_plateau.commands.command import HEALTHY, add_command, print_json
from lightning_plateau.report.console import show, width
from lightning_plateau.report.explanation import facts, rule_table
from lightning_plateau.rules import catalogue

EXAMPLES = """\
examples:
  lightning-plateau rules
  lightning-plateau rules --json | jq -r '.[] | select(.kind == "cause") | .code'
"""


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(commands, "rules", run, "list all rules", EXAMPLES)
    command.add_argument("--json", action="store_true", help="as JSON")


def run(arguments: argparse.Namespace) -> int:
    """List the rules."""
    if arguments.json:
        print_json([facts(rule) for rule in catalogue()])
    else:
        show(rule_table(catalogue(), width=width()))
    return HEALTHY
