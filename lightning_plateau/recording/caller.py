"""The line of the user's code that is being run: where a fault is to be mended."""

from __future__ import annotations

import sys
import sysconfig
from functools import cache
from inspect import unwrap
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import lightning_plateau

NOTEBOOK = "ipykernel_"
"""Beginning of the folder in which a notebook keeps its cells."""
INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Folders of installed packages: a user's and a system's are not those of the environment."""
METHODS = ("training_step", "configure_optimizers")
"""Methods of a module in which faults are mended that no operation stands for."""


def calling_line() -> str:
    """Return ``"train.py:42"``, the innermost line under way that is neither ours nor a library's.

    Empty where there is none.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = named(frame.f_code.co_filename)
        if file:
            return f"{file}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def method_lines(module: object) -> dict[str, str]:
    """Return where the methods of a module begin that the user has written, by name."""
    found = {name: _line_of(getattr(type(module), name, None)) for name in METHODS}
    return {name: line for name, line in found.items() if line}


def _line_of(method: Any) -> str:
    code = getattr(unwrap(method), "__code__", None) if callable(method) else None
    file = "" if code is None else named(code.co_filename)
    return f"{file}:{code.co_firstlineno}" if file and code is not None else ""


@cache
def named(file: str) -> str:
    """Return a file as the user would name it: from the working folder, where it lies below.

    Empty for Python, for installed packages, and for us.

    Example:
        >>> named(str(Path.cwd() / "train.py"))
        'train.py'
        >>> named(sysconfig.__file__), named("<frozen runpy>")
        ('', '')
    """
    if file.startswith("<"):
        return ""
    path = Path(file)
    if path.parent.name.startswith(NOTEBOOK):
        return "cell"
    installed = not INSTALLED.isdisjoint(path.parts)
    if installed or any(path.is_relative_to(library) for library in _libraries()):
        return ""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return file


@cache
def _libraries() -> frozenset[Path]:
    """Return the folders of Python, and of what may be at work from its sources: torch and us."""
    python = (Path(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib"))
    sources = (Path(str(one.__file__)).parent for one in (torch, lightning_plateau))
    return frozenset([*python, *sources])
