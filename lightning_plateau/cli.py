"""The command ``lightning-plateau``: arguments in, answers and exit codes out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from lightning_plateau import __version__
from lightning_plateau.commands import (
    check,
    completion,
    demo,
    diagnose,
    explain,
    remedies,
    report,
    rules,
    schema,
    tune,
)
from lightning_plateau.commands.command import HEALTHY, USAGE, Usage

DESCRIPTION = "Find out why a training loss does not go down: diagnose a run, look up a fault."
EXAMPLES = """\
examples:
  lightning-plateau demo                                  break a real training and watch it mended
  lightning-plateau check my_project.model:LitModel --data my_project.data:Data
  lightning-plateau diagnose lightning_logs/version_0
  lightning-plateau report lightning_logs/version_0 --html
  lightning-plateau tune my_project.model:LitModel --data my_project.data:Data
  lightning-plateau explain LP301

exit codes:
  0  healthy, or the command did what was asked
  1  check or diagnose found a fault of severity warning or error; tune found no good settings
  2  the command was used wrongly, or a file is missing or unreadable
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 healthy, 1 a fault was found, 2 wrong usage.

    Args:
        argv: Arguments; those of the process by default.
    """
    arguments = parser().parse_args(argv)
    try:
        return int(arguments.command(arguments))
    except Usage as error:
        print(f"lightning-plateau: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:
        # The reader of our output, such as `head`, has seen enough.
        sys.stderr.close()
        return HEALTHY


def parser(*, completing: bool = False) -> argparse.ArgumentParser:
    """Return the parser of the whole command line.

    Args:
        completing: Whether it is to offer the names of rules and remedies, not to judge them.
    """
    made = argparse.ArgumentParser(
        "lightning-plateau",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    for command in (demo, check, diagnose, report, tune):
        command.add(commands)
    explain.add(commands, completing=completing)
    for catalogue in (rules, remedies, schema):
        catalogue.add(commands)
    completion.add(commands, partial(parser, completing=True))
    return made
