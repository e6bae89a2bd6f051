"""Where a study is kept: a database by its URL, or a journal on a shared folder."""

from __future__ import annotations

import warnings
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, RDBStorage, RetryHeartbeatStaleTrialCallback

from lightning_plateau.tuning.heartbeat import LivingJournal

BEAT_S = 10
BEATS_MISSED = 3
MOST_RETRIES = 3
DATABASE = "study.db"


def open_storage(
    storage: str | Path | BaseStorage | None, folder: Path, *, beat_s: int = BEAT_S
) -> BaseStorage:
    """Return the storage of a study.

    Trials whose worker has died are found out by the heartbeat of their workers, and tried again.

    Args:
        storage: The URL of a database (``sqlite:///study.db``, ``postgresql://…``, ``mysql://…``),
            the path of a journal file, which many machines may share, or a storage of Optuna; None
            for an SQLite database in ``folder``.
        folder: Folder of the search.
        beat_s: Seconds between two heartbeats; a worker that misses three is taken for dead.

    Raises:
        ValueError: If ``beat_s`` is not at least 1.
    """
    if beat_s < 1:
        raise ValueError(f"beat_s must be at least 1, but is {beat_s}")
    if isinstance(storage, BaseStorage):
        return storage
    with warnings.catch_warnings():
        # Heartbeats are marked as an experiment of Optuna since 2021.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        again = RetryHeartbeatStaleTrialCallback(max_retry=MOST_RETRIES)
        if storage is None:
            folder.mkdir(parents=True, exist_ok=True)
            storage = f"sqlite:///{(folder / DATABASE).resolve()}"
        if isinstance(storage, str) and "://" in storage:
            return RDBStorage(
                storage,
                heartbeat_interval=beat_s,
                grace_period=BEATS_MISSED * beat_s,
                heartbeat_stale_trial_callback=again,
            )
        return LivingJournal(
            Path(storage), beat_s=beat_s, grace_s=BEATS_MISSED * beat_s, stale=again
        )
