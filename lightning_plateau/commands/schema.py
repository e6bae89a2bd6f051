"""`lightning-plateau schema`: what ``--json`` prints, as JSON Schema."""

from __future__ import annotations

import argparse
from typing import Any

from lightning_plateau.commands.command import HEALTHY, add_command, print_json
from lightning_plateau.report.json_schema import SCHEMAS, schema

EXAMPLES = """\
examples:
  lightning-plateau schema report > report.schema.json
  lightning-plateau report lightning_logs/version_0 --json > report.json
"""


def add(commands: Any) -> None:
    """Add the command."""
    told = "print the JSON Schema of what a command answers with --json"
    command = add_command(commands, "schema", run, told, EXAMPLES)
    command.add_argument("answers", metavar="COMMAND", choices=[*SCHEMAS], help=", ".join(SCHEMAS))


def run(arguments: argparse.Namespace) -> int:
    """Print the schema."""
    print_json(schema(arguments.answers))
    return HEALTHY
