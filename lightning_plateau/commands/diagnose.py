"""`lightning-plateau diagnose`: what is wrong with a saved run."""

from __future__ import annotations

import argparse
from typing import Any

from lightning_plateau.commands.command import (
    FAULT_FOUND,
    FILES,
    HEALTHY,
    add_command,
    print_json,
)
from lightning_plateau.commands.saved import add_output, read, tell
from lightning_plateau.core.finding import Severity
from lightning_plateau.core.journal import Journal
from lightning_plateau.core.plain import to_plain
from lightning_plateau.diagnosis import diagnose

EXAMPLES = """\
examples:
  lightning-plateau diagnose lightning_logs/version_0              PlateauCallback watched this one
  lightning-plateau diagnose lightning_logs/version_0/metrics.csv  only a logger watched this one
  lightning-plateau diagnose runs/tensorboard --json | jq .findings[].code
"""


def add(commands: Any) -> None:
    """Add the command."""
    diagnosis = add_command(
        commands,
        "diagnose",
        run,
        "diagnose a saved run; exit code 1 if it is sick",
        EXAMPLES,
    )
    diagnosis.add_argument(
        "run",
        metavar="RUN",
        help="log folder of the run, or history.npz; or metrics.csv or event folder of a logger",
    ).complete = FILES
    add_output(diagnosis)


def run(arguments: argparse.Namespace) -> int:
    """Diagnose a saved run."""
    saved = read(arguments.run)
    findings = diagnose(saved.history)
    sick = any(finding.severity is not Severity.INFO for finding in findings)
    if arguments.json:
        print_json(
            {
                "healthy": not sick,
                "steps": saved.history.step,
                "findings": to_plain(findings),
                "read_from": dict(saved.names),
            }
        )
    else:
        # A diagnosis judges the run alone; what was done about it is in the report.
        tell(saved, findings, Journal(), every=arguments.all)
    return FAULT_FOUND if sick else HEALTHY
