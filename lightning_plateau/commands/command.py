"""What the commands have in common: their place in the parser, exit codes, and wrong use."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

HEALTHY, FAULT_FOUND, USAGE = 0, 1, 2
"""Exit codes: healthy, or done; a fault was found; wrong use."""
FILES = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
"""How each shell completes the name of a file, in the words of shtab."""


class Usage(Exception):  # noqa: N818  (the user's error, not ours)
    """The command was used wrongly; the message says what was expected."""


@contextmanager
def checked(*kinds: type[Exception]) -> Iterator[None]:
    """Report errors of ``kinds`` without a traceback; any other error is ours and keeps its own."""
    try:
        yield
    except kinds as error:
        raise Usage(error) from error


def add_command(commands: Any, name: str, run: Any, help_: str, epilog: str = "") -> Any:
    """Add a command that ``run`` runs, and return its parser."""
    command = commands.add_parser(
        name,
        help=help_,
        description=f"{help_[:1].upper()}{help_[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(command=run)
    return command


def at_least_one(text: str) -> int:
    """Return a whole number of at least 1; for ``argparse``."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"expected a whole number of at least 1, but received {text!r}"
        )
    return int(text)


def print_json(content: Any) -> None:
    """Print ``content`` as strict JSON."""
    print(json.dumps(content, indent=2, allow_nan=False))
