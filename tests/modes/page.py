"""The table in words, for the documentation."""

from __future__ import annotations

from pathlib import Path

from tests.modes.mode import CAPABILITIES, MODES, Mode

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "compatibility.md"

_INTRODUCTION = """
# What works where

Each row is a way to train, and each cell was tried in real trainings: the tests hold every one of
them to what stands here. A number is explained below the table; nothing is left open.

It holds for `lightning` and for `pytorch_lightning` alike.
This page is generated: `python -m tests.modes --write-docs`.

| Column | Was tried |
| --- | --- |
| record | losses and gradient norms are recorded; under any policy it ends bit for bit as bare |
| skip | the step of a batch whose loss is NaN is left out, and all weights stay finite |
| clip | gradients are as short as demanded when the optimizer receives them |
| learning rate | halved in the middle, it ends as half of what it would have been |
| roll back | the weights of two steps ago are back, and training goes on from there |
| switch | another optimizer takes over, and trains |
| experiments | one batch is overfitted on a copy, and the training ends bit for bit as without |
| resume | continued from a checkpoint amid an epoch, nothing that was recorded is lost |
""".strip()


def page() -> str:
    """Return the page."""
    reasons = list(dict.fromkeys(reason for mode in MODES for reason in mode.limits.values()))
    head = "| Mode | " + " | ".join(CAPABILITIES) + " |\n|" + " --- |" * (len(CAPABILITIES) + 1)
    rows = [
        f"| {mode.name} | " + " | ".join(_cell(mode, c, reasons) for c in CAPABILITIES) + " |"
        for mode in MODES
    ]
    listed = [f"{number}. {reason}." for number, reason in enumerate(reasons, 1)]
    table = "\n".join([head, *rows])
    return "\n\n".join([_INTRODUCTION, "## The table", table, "\n".join(listed)]) + "\n"


def _cell(mode: Mode, capability: str, reasons: list[str]) -> str:
    reason = mode.limits.get(capability)
    if reason is None:
        return "works"
    partly = "in part" if capability in ("record", "learning rate") else "refused"
    return f"{partly} ({reasons.index(reason) + 1})"
