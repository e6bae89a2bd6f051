"""`lightning-plateau check`: a training is checked before it is begun."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from lightning_plateau.commands.command import (
    FAULT_FOUND,
    HEALTHY,
    add_command,
    at_least_one,
    checked,
    print_json,
)
from lightning_plateau.report.console import show, width

EXAMPLES = """\
examples:
  lightning-plateau check my_project.model:LitModel --data my_project.data:Data
  lightning-plateau check config.yaml                             what LightningCLI would train
"""


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "check",
        run,
        "check a training before it is begun; exit code 1 if something is wrong",
        EXAMPLES,
    )
    command.add_argument(
        "module",
        metavar="MODULE",
        help="pkg.module:LitModel, a class, function or instance; or a LightningCLI configuration",
    )
    command.add_argument("--data", metavar="DATA", help="pkg.module:Data, a datamodule or a loader")
    command.add_argument(
        "--steps", type=at_least_one, default=200, help="optimizer steps of the short training"
    )
    command.add_argument(
        "--thorough",
        action="store_true",
        help="also ask which learning rate is best and whether more data would help",
    )
    command.add_argument("--json", action="store_true", help="as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Check a training."""
    from lightning_plateau.checkup import check
    from lightning_plateau.targets import find_target

    with checked(ImportError, AttributeError, ValueError, OSError):
        target = find_target(arguments.module, arguments.data)
    with checked(TypeError):
        found = check(
            target.make,
            **({} if target.data is None else _as_data(target.data)),
            steps=arguments.steps,
            thorough=arguments.thorough,
            trainer=target.trainer,
            progress_bar=not arguments.json and sys.stderr.isatty(),
        )
    if arguments.json:
        print_json(found.to_dict())
    else:
        show(found.text(width()))
    return HEALTHY if found.ok else FAULT_FOUND


def _as_data(data: Any) -> dict[str, Any]:
    from lightning_plateau.framework import LightningDataModule

    return {"datamodule" if isinstance(data, LightningDataModule) else "train_dataloaders": data}
