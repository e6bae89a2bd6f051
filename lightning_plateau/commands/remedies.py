"""`lightning-plateau remedies`: all remedies, a line each."""

from __future__ import annotations

import argparse
from typing import Any

from lightning_plateau import remedies
from lightning_plateau.commands.command import HEALTHY, add_command, print_json
from lightning_plateau.report.console import show, width
from lightning_plateau.report.explanation import remedy_facts, remedy_table
from lightning_plateau.rules import catalogue

EXAMPLES = """\
examples:
  lightning-plateau remedies
  lightning-plateau remedies --json | jq -r '.[] | select(.safety == "safe") | .name'
"""


def add(commands: Any) -> None:
    """Add the command."""
    told = "list all remedies, the safest first"
    command = add_command(commands, "remedies", run, told, EXAMPLES)
    command.add_argument("--json", action="store_true", help="as JSON")


def run(arguments: argparse.Namespace) -> int:
    """List the remedies."""
    if arguments.json:
        print_json([remedy_facts(remedy, catalogue()) for remedy in remedies.catalogue()])
    else:
        show(remedy_table(remedies.catalogue(), width=width()))
    return HEALTHY
