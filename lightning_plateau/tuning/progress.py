"""The progress of a search: how many trials, the best so far, how many died."""

from __future__ import annotations

import sys
from importlib import import_module
from types import TracebackType
from typing import Any

from optuna.study import Study
from optuna.trial import TrialState

from lightning_plateau.report.phrases import number
from lightning_plateau.tuning.worker import best_of, counted


class Progress:
    """A progress bar on the standard error, which knows the trials of other workers too.

    Args:
        planned: Trials of the study.
        maximize: Whether a higher score is better.
        shown: Whether to show it.
    """

    def __init__(self, planned: int, *, maximize: bool, shown: bool) -> None:
        self._maximize = maximize
        self._planned = planned
        self._shown = shown
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if self._shown:
            self._bar = import_module("tqdm.auto").tqdm(
                total=self._planned,
                desc="lightning-plateau tune",
                unit="trial",
                file=sys.stderr,
                dynamic_ncols=True,
            )
        return self

    def update(self, study: Study) -> None:
        """Show how far the study is."""
        if self._bar is None:
            return
        trials = study.get_trials(deepcopy=False)
        best = best_of(trials, maximize=self._maximize)
        died = sum(one.state is TrialState.PRUNED for one in trials)
        self._bar.n = sum(one.state.is_finished() for one in counted(trials))
        said = "none yet" if best is None else f"{number(best.value)} (trial {best.number})"
        self._bar.set_postfix_str(f"best {said}, ended early {died}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
