"""What must hold whatever was injected."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_plateau.core.history import History
from lightning_plateau.core.journal import Journal
from tests.soak.injection import KILLS, OURS, STEPS, THEIRS, Injection
from tests.soak.process import Ending
from tests.soak.sabotage import PLANTED
from tests.soak.scene import Endings

State = Mapping[str, Tensor]
FATAL = (*THEIRS, *KILLS, "rank dies", "rank is killed")
SILENT = ("statistics", "disk full", "folder is a file", "folder vanishes")
"""Failures of ours that raise nothing that was planted."""
DEGRADED = (
    "rule", "experiment", "logger", "announcer", "report", "disk full", "folder is a file",
    "folder vanishes", "statistics",
)  # fmt: skip
"""Failures that cost a part of the watching, never the whole."""
UNTOUCHED = ("observe", "safe")


def problems(injection: Injection, folder: Path, endings: Endings, bare: State) -> list[str]:
    """Return what went wrong beyond the fault itself; nothing where all held."""
    resumed = endings.resumed
    found = [f"hung after {one.took_s:.0f} s" for one in endings.all if one.hung]
    swallowed = any(_fails_of_the_user(text) for text in _complaints(folder))
    fired, whole = (folder / "fired").exists(), (folder / "rank0.pt").exists()
    killed_by_us = injection.kind not in FATAL and (resumed is not None or not whole)
    if killed_by_us or (resumed is not None and not whole):
        found.append(f"the training is dead: exit codes {[one.code for one in endings.all]}")
    if whole and injection.kind in FATAL and fired and resumed is None and not swallowed:
        found.append("the user's own failure was swallowed")
    if endings.alone is not None and (folder / "alone" / "rank0.pt").exists():
        bare = torch.load(folder / "alone" / "rank0.pt")["state"]
    found += _files(injection, folder)
    if whole:
        found += _weights(injection, folder, bare) + _words(injection, folder, resumed)
    if list((folder / "checkpoints").glob("*.broken")) and "from outside" not in injection.kind:
        found.append("a checkpoint cannot be read")
    return found


def _files(injection: Injection, folder: Path) -> list[str]:
    found, home = [], folder / "plateau"
    promised = len((folder / "lines0").read_bytes()) if (folder / "lines0").exists() else 0
    if home.is_dir():
        earlier, here = home / "earlier-1", home
        first = earlier if earlier.is_dir() else here
        try:
            written = len(Journal.read(first / "journal.jsonl")) if first.exists() else 0
        except FileNotFoundError:
            written = 0
        except ValueError as error:
            return [f"the journal cannot be read: {error}"]
        if written < promised and injection.kind != "folder vanishes":
            found.append(f"{promised - written} of {promised} lines of the journal are lost")
        for path in home.rglob("history.npz"):
            try:
                History.load(path)
            except ValueError as error:
                found.append(f"the history cannot be read: {error}")
    return found


def _weights(injection: Injection, folder: Path, bare: State) -> list[str]:
    found, ends = [], [torch.load(path) for path in sorted(folder.glob("rank*.pt"))]
    state = ends[0]["state"]
    calm = injection.policy == "observe" or (
        injection.policy == "safe" and injection.module != "hot"
    )
    if injection.policy in UNTOUCHED and ends[0]["step"] != STEPS:
        found.append(f"it ended after {ends[0]['step']} of {STEPS} steps")
    sound = injection.kind in (*OURS, *FATAL) or "on one rank" in injection.kind
    sound &= injection.kind not in ("NaN on one rank", "stuck on one rank")
    if calm and sound and not all(torch.equal(state[name], bare[name]) for name in bare):
        found.append("the weights are not those of a training without the library")
    finite = all(tensor.isfinite().all() for tensor in state.values() if tensor.is_floating_point())
    if injection.policy == "safe" and injection.module != "hot" and not finite:
        found.append("weights are not finite, though such steps are skipped")
    for other in ends[1:]:
        # Batch norm keeps statistics of its own on each rank.
        kept = [name for name in state if "running_" not in name]
        if not all(_same(state[name], other["state"][name]) for name in kept):
            found.append("the replicas differ")
    return found


def _same(left: Tensor, right: Tensor) -> bool:
    return torch.allclose(left, right, rtol=0.0, atol=0.0, equal_nan=True)


def _words(injection: Injection, folder: Path, resumed: Ending | None) -> list[str]:
    said: list[dict[str, Any]] = [torch.load(path) for path in sorted(folder.glob("said*.pt"))]
    if not said:
        return ["it says nothing at the end"]
    found, first, ours = [], said[0], _complaints(folder)
    fired = (folder / "fired").exists()
    kind = injection.kind.removesuffix(" on one rank").removesuffix(" on rank zero")
    raises = kind in OURS and kind not in SILENT
    # Rank zero diagnoses for all: a rule that fails elsewhere alone costs nothing.
    raises &= not (injection.kind == "rule on one rank" and injection.rank == 1)
    # What fails after the last meeting is told on its own rank alone.
    ending = [m for one in said for _, m in one["found"] if "at 'end'" in m]
    if raises and fired and not any(PLANTED in message for message in [*ours, *ending]):
        found.append(f"the failure is not told: {ours}")
    if kind not in OURS and not all(map(_fails_of_the_user, ours)):
        found.append(f"it complains: {ours}")
    if first["disabled"] and (kind in DEGRADED or kind not in OURS):
        found.append(f"it has stepped aside: {ours}")
    if resumed is not None and first["steps"] != list(range(first["clock"])):
        found.append("the resumed history has gaps")
    if not ending and len({str((one["disabled"], _of_the_training(one))) for one in said}) > 1:
        found.append(f"the ranks disagree: {[(o['disabled'], o['found']) for o in said]}")
    return found


def _fails_of_the_user(message: str) -> bool:
    """Whether a complaint is of the user's own failure in an experiment, here or elsewhere."""
    return "UserError" in message or "another rank gave it up" in message


def _complaints(folder: Path) -> list[str]:
    """What rank zero says of failures of the library."""
    path = folder / "said0.pt"
    found = torch.load(path)["found"] if path.exists() else []
    return [message for code, message in found if code == "LP903"]


def _of_the_training(said: dict[str, Any]) -> list[str]:
    """Return what a rank found; of failures of the library each may have its own."""
    return [code for code, _ in said["found"] if code != "LP903"]
