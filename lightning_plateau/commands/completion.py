"""`lightning-plateau completion`: what makes a shell complete the command."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

from lightning_plateau.commands.command import HEALTHY, Usage, add_command

EXAMPLES = """\
examples:
  lightning-plateau completion bash > ~/.local/share/bash-completion/completions/lightning-plateau
  lightning-plateau completion zsh  > ~/.zfunc/_lightning-plateau
"""


def add(commands: Any, completed: Callable[[], argparse.ArgumentParser]) -> None:
    """Add the command; ``completed`` makes the parser of what is completed."""
    told = "print what makes a shell complete this command"
    command = add_command(commands, "completion", partial(run, completed), told, EXAMPLES)
    command.add_argument("shell", choices=("bash", "zsh", "tcsh"))


def run(completed: Callable[[], argparse.ArgumentParser], arguments: argparse.Namespace) -> int:
    """Print the completion of the shell."""
    try:
        import shtab
    except ImportError as error:
        raise Usage(
            "completion needs shtab, which is not installed: "
            "pip install 'lightning-plateau[completion]'"
        ) from error
    print(shtab.complete(completed(), shell=arguments.shell))
    return HEALTHY
