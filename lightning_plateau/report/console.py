"""Showing text: in colour where that helps, never through a progress bar, the same words always."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.text import Text

NARROWEST, WIDEST = 60, 110
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What steers a terminal, or turns the direction of writing; names in a run's files may hold it."""

STYLES = (
    (r"\bLP\d{3}\b [a-z0-9-]+", "bold"),
    (r"\bLP\d{3}\b", "bold cyan"),
    (r"(?<=lightning-plateau: )healthy", "bold green"),
    (r"(?<=lightning-plateau: )treated", "bold blue"),
    (r"(?<=lightning-plateau: )sick", "bold red"),
    (r"(certain|likely|possible) · step \d+$", "magenta"),
    (r"(?m)^ *(where|seen|why|remedy|explains|check|had|tried|remarks|files|journal)\b", "dim"),
    (r"(?m)^ *(fix|do)\b", "green"),
    (r"\bkept\b", "green"),
    (r"\breverted\b", "yellow"),
)
"""What is set off, and how: patterns of the plain text with styles of rich."""


def width() -> int:
    """Return the width for reports: that of the terminal, between 60 and 110 characters."""
    return min(WIDEST, max(NARROWEST, shutil.get_terminal_size((100, 24)).columns))


def show(text: str, file: TextIO | None = None) -> None:
    """Print ``text`` without disturbing a progress bar.

    Uses rich where it is installed: its console prints above the bar of ``RichProgressBar``. The
    bars of tqdm are taken away and drawn again. ``NO_COLOR`` gives plain text.

    Args:
        text: One or more lines.
        file: Where to; standard output by default.
    """
    stream = sys.stdout if file is None else file
    # A console of another code page must not end a training over an arrow.
    encoding = stream.encoding or "utf-8"
    printable = visible(text).encode(encoding, "replace").decode(encoding)
    with _beside_tqdm(stream):
        if file is None and find_spec("rich") is not None:
            import rich

            # As Text, for rich would read markup and emoji into a plain string.
            rich.get_console().print(styled(printable), soft_wrap=True)
        else:
            stream.write(printable + "\n")
            stream.flush()


def visible(text: str) -> str:
    r"""Return ``text`` with characters that steer a terminal written out; line ends and tabs stay.

    Example:
        >>> visible("layer \x1b[31m")
        'layer \\x1b[31m'
    """
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def styled(text: str) -> Text:
    """Return ``text`` with the styles of ``STYLES``, or none under ``NO_COLOR``; the words stay."""
    from rich.text import Text

    content = Text(text)
    for pattern, style in () if os.environ.get("NO_COLOR") else STYLES:
        content.highlight_regex(pattern, style)
    return content


@contextmanager
def _beside_tqdm(stream: TextIO) -> Iterator[None]:
    # Only where somebody uses tqdm already is there a bar to spare.
    tqdm = sys.modules.get("tqdm.std")
    if tqdm is None:
        yield
        return
    with tqdm.tqdm.external_write_mode(file=stream):
        yield
