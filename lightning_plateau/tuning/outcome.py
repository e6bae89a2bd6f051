"""What a search found, and what it tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from lightning_plateau.report.console import width
from lightning_plateau.report.phrases import counted as in_words
from lightning_plateau.report.phrases import number, wrapped
from lightning_plateau.report.terminal import WIDTH
from lightning_plateau.tuning.configuration import Configuration, to_yaml
from lightning_plateau.tuning.deaths import Death, deaths
from lightning_plateau.tuning.space import Space
from lightning_plateau.tuning.worker import SURPLUS, counted

BEST_FILE = "best.yaml"


@dataclass(frozen=True)
class Tuning:
    """What a search found.

    Attributes:
        study: Optuna's study, with every trial.
        best: The best trial; None where none was trained to its end.
        configuration: The best configuration as ``LightningCLI`` reads it; empty for a search over
            an objective of your own.
        space: What was searched in the end.
        monitor: Name of the score.
        notes: What was narrowed, widened and left out, a line each.
        stopped: The fault or error for which the search was stopped; None where it was not.
        elapsed_s: Seconds that this worker took.
        files: What was written.
    """

    study: Study
    best: FrozenTrial | None
    configuration: Configuration
    space: Space
    monitor: str
    notes: tuple[str, ...] = ()
    stopped: Mapping[str, Any] | None = None
    elapsed_s: float = 0.0
    files: tuple[Path, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether a trial was trained to its end and nothing stopped the search."""
        return self.best is not None and self.stopped is None

    @property
    def deaths(self) -> tuple[Death, ...]:
        """Why trials died, the most frequent reason first."""
        return deaths(self.study.get_trials(deepcopy=False))

    @property
    def yaml(self) -> str:
        """The best configuration as YAML, for ``LightningCLI``."""
        if self.best is None:
            return ""
        trials = len(counted(self.study.get_trials(deepcopy=False)))
        remark = f"trial {self.best.number} of {trials}: {self.monitor} {number(self.best.value)}"
        return to_yaml(self.configuration, (remark,)) + "\n"

    def text(self, width: int = WIDTH) -> str:
        """Return the result on one screen.

        Args:
            width: Most characters of a line.
        """
        lines = wrapped(self._verdict(), width)
        if self.stopped is not None:
            lines += wrapped(str(self.stopped["message"]), width, label="seen      ")
            lines += wrapped(str(self.stopped["fix"]), width, label="do        ")
        if self.best is not None:
            chosen = ", ".join(f"{name} {number(one)}" for name, one in self.best.params.items())
            lines += wrapped(chosen, width, label="best      ")
        for note in self.notes:
            lines += wrapped(note, width, label="searched  ")
        for position, death in enumerate(self.deaths):
            label = "died      " if position == 0 else " " * 10
            row = f"{len(death.trials)} of {death.reason}: {death.values}"
            lines += wrapped(row, width, label=label, most=2)
        for path in self.files:
            lines.append(f"{'file':<10}{path}")
        return "\n".join(lines)

    def _verdict(self) -> str:
        trials = counted(self.study.get_trials(deepcopy=False))
        ended = sum(one.state is TrialState.COMPLETE for one in trials)
        count = f"{in_words(len(trials), 'trial')}, {ended} trained to the end"
        if self.stopped is not None and self.stopped["code"]:
            fault = f"{self.stopped['code']} {self.stopped['name']}"
            return f"lightning-plateau tune: stopped. No search can mend {fault}; {count}."
        if self.stopped is not None:
            return f"lightning-plateau tune: stopped. Every trial raised an error; {count}."
        if self.best is None:
            return f"lightning-plateau tune: nothing found. {count}."
        score = f"{self.monitor} {number(self.best.value)} in trial {self.best.number}"
        return f"lightning-plateau tune: {score}; {count}, in {self.elapsed_s:.0f} s."

    def __str__(self) -> str:
        return self.text(width())

    def to_dict(self) -> dict[str, Any]:
        """Return the result in plain types, for JSON."""
        trials = self.study.get_trials(deepcopy=False)
        states = [one.state.name.lower() for one in trials if SURPLUS not in one.user_attrs]
        return {
            "found": self.ok,
            "monitor": self.monitor,
            "value": None if self.best is None else self.best.value,
            "trial": None if self.best is None else self.best.number,
            "parameters": {} if self.best is None else dict(self.best.params),
            "configuration": self.configuration,
            "trials": {state: states.count(state) for state in sorted(set(states))},
            "died": [one.to_dict() for one in self.deaths],
            "notes": list(self.notes),
            "stopped": None if self.stopped is None else dict(self.stopped),
            "elapsed_s": round(self.elapsed_s, 3),
            "files": [str(path) for path in self.files],
        }
