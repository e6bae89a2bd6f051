"""`lightning-plateau demo`: a real training with a planted fault, broken and mended."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from lightning_plateau.commands.command import (
    HEALTHY,
    add_command,
    at_least_one,
    checked,
    print_json,
)
from lightning_plateau.report.console import show
from lightning_plateau.report.document import document
from lightning_plateau.report.saved_run import read_run

EXAMPLES = """\
examples:
  lightning-plateau demo --fault list
  lightning-plateau demo --fault softmax-before-cross-entropy --out demo
  lightning-plateau demo --policy observe --seed 3
"""


def add(commands: Any) -> None:
    """Add the command."""
    demo = add_command(
        commands,
        "demo",
        run,
        "train on real images with a planted fault, and mend it",
        EXAMPLES,
    )
    demo.add_argument(
        "--fault", default="learning-rate-too-high", help="the fault; `list` lists them"
    )
    demo.add_argument("--policy", choices=("observe", "safe", "auto"), default="auto")
    demo.add_argument("--seed", type=int, default=1)
    demo.add_argument(
        "--epochs", type=at_least_one, help="epochs of each training; the fault knows how many"
    )
    demo.add_argument("--out", type=Path, help="folder; default ./plateau-demo/FAULT")
    demo.add_argument("--json", action="store_true", help="the result as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run the demo, or list its faults."""
    # The only command that needs torch: the others answer at once, on any machine.
    from lightning_plateau.demo import FAULTS, check_extras, describe_faults, find_fault, run_demo

    if arguments.fault == "list":
        if arguments.json:
            print_json({fault.name: fault.story for fault in FAULTS.values()})
        else:
            show(describe_faults())
        return HEALTHY
    with checked(ImportError, ValueError):
        fault = find_fault(arguments.fault)
        check_extras()
    # With JSON on the standard output, what the trainings say goes elsewhere.
    with redirect_stdout(sys.stderr if arguments.json else sys.stdout):
        result = run_demo(
            fault.name,
            policy=arguments.policy,
            seed=arguments.seed,
            epochs=arguments.epochs,
            out=arguments.out,
            progress_bar=not arguments.json,
        )
    if arguments.json:
        accuracies = {"untreated": result.untreated, "treated": result.treated}
        print_json({"accuracy": accuracies, "report": document(read_run(result.folder))})
    return HEALTHY
