"""A journal on a shared folder that knows which of its workers are alive."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from optuna import Study
from optuna.storages import JournalStorage
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

StaleTrial = Callable[[Study, FrozenTrial], None]


class LivingJournal(JournalStorage, BaseHeartbeat):
    """Optuna's journal file, with one small file beside it for each trial that is running.

    A worker touches the file of its trial at every beat. Times are compared on the file server's
    clock alone, so that those of the machines may differ.

    Args:
        path: The journal file; it is made where it does not exist.
        beat_s: Seconds between two beats.
        grace_s: Seconds without a beat after which a trial is taken for lost.
        stale: What is done about a lost trial.
    """

    def __init__(self, path: Path, *, beat_s: int, grace_s: int, stale: StaleTrial) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._beats = path.with_name(path.name + ".beats")
        self._beats.mkdir(exist_ok=True)
        self._beat_s, self._grace_s, self._stale = beat_s, grace_s, stale
        super().__init__(JournalFileBackend(str(path)))

    def record_heartbeat(self, trial_id: int) -> None:
        """Say that the worker of a trial is alive."""
        (self._beats / str(trial_id)).touch()

    def get_heartbeat_interval(self) -> int | None:
        """Return the seconds between two beats."""
        return self._beat_s

    def get_heartbeat_stale_trial_callback(self) -> StaleTrial | None:
        """Return what is done about a lost trial."""
        return self._stale

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        now_s = self._now_s()
        running = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))
        return [one._trial_id for one in running if now_s - self._seen_s(one) > self._grace_s]

    def _seen_s(self, trial: FrozenTrial) -> float:
        """Return when a trial was last heard of; when it began, where it died before a beat."""
        try:
            return (self._beats / str(trial._trial_id)).stat().st_mtime
        except FileNotFoundError:
            began = trial.datetime_start or datetime.now()
            known = began if began.tzinfo is not None else began.astimezone(UTC)
            # By the worker's own clock, which may go wrong: so it is given more time.
            return known.timestamp() + 2 * self._grace_s

    def _now_s(self) -> float:
        clock = self._beats / f"clock-{os.getpid()}"
        clock.touch()
        now_s = clock.stat().st_mtime
        clock.unlink(missing_ok=True)
        return now_s
