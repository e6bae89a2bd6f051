"""Harm: a healthy program of the zoo under ``policy="auto"``, beside what seeds alone do to it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass

import numpy as np
import torch

from lightning_plateau import PlateauCallback
from lightning_plateau.core.remedy import Safety
from lightning_plateau.core.signal import LOSS
from lightning_plateau.remedies import by_name
from tests.faults.observation import fit
from tests.faults.program import Program

SEEDS = 3
TOLERANCE = 0.02


@dataclass(frozen=True)
class Healthy:
    """A healthy training under ``policy="auto"``.

    Attributes:
        program: Name of the program.
        seed: Seed.
        touched: Remedies that were applied and are not graded safe, with the code and the outcome.
        worse: Whether it ended worse than untreated, by more than the seeds differ.
        loss: Loss at the end.
        untreated: Losses at the end of untreated trainings, its own seed first; empty where it was
            not touched: then it is the untreated training, bit for bit.
    """

    program: str
    seed: int
    touched: tuple[str, ...]
    worse: bool
    loss: float
    untreated: tuple[float, ...] = ()

    @property
    def line(self) -> str:
        """The result in a line."""
        verdict = "HARM" if self.worse else "touched" if self.touched else "ok"
        return f"{verdict:<8}{self.program}/{self.seed} {self.loss:.4g} {'; '.join(self.touched)}"


@dataclass(frozen=True)
class _End:
    first: float
    last: float
    learned: bool


def harm(program: Program, seed: int) -> Healthy:
    """Train a healthy program under ``policy="auto"``, and untreated where it was touched."""
    end, touched = _train(program, seed, "auto")
    if not touched:
        return Healthy(program.name, seed, (), worse=False, loss=end.last)
    others = [_train(program, seed + number, "observe")[0] for number in range(SEEDS)]
    losses = tuple(one.last for one in others)
    # What it failed to learn untreated is no harm.
    forgot = others[0].learned and not end.learned
    limit = max(losses) + TOLERANCE * abs(others[0].first - min(losses))
    return Healthy(program.name, seed, touched, forgot or not end.last <= limit, end.last, losses)


def _train(program: Program, seed: int, policy: str) -> tuple[_End, tuple[str, ...]]:
    torch.manual_seed(seed)
    training = program.build()
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        callback = PlateauCallback(policy=policy, dirpath=folder, quiet=True)  # type: ignore[arg-type]
        error = fit(training, [callback])
    losses = callback.history[LOSS].values
    few = max(1, len(losses) // 10)
    learned = not error and (training.learned is None or bool(training.learned()))
    end = _End(float(np.median(losses[:few])), float(np.median(losses[-few:])), learned)
    return end, _touched(callback)


def _touched(callback: PlateauCallback) -> tuple[str, ...]:
    known = by_name()
    ended = {one.number: one for one in callback.journal.outcomes}
    return tuple(
        f"{made.step}: {made.remedy} for {made.code}"
        + (f", {ended[made.number].verdict}" if made.number in ended else "")
        for made in callback.journal.interventions
        if known[made.remedy].safety is not Safety.SAFE
    )
