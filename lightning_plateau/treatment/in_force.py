"""What was changed for good and is not part of a checkpoint: it is put in force again on resume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lightning_plateau.core.remedy import Change, Remedy
from lightning_plateau.remedies import by_name
from lightning_plateau.training.run import Run


class InForce:
    """The lasting remedies of a run that were kept, in the order in which they were applied.

    Example:
        >>> in_force = InForce()
        >>> in_force.state_dict()
        {'remedies': []}
    """

    def __init__(self) -> None:
        self._kept: list[tuple[Remedy, Change]] = []

    def add(self, remedy: Remedy, change: Change) -> None:
        """Remember a remedy that was kept, if it has to be put in force again."""
        if remedy.lasting:
            self._kept.append((remedy, change))

    def resume(self, run: Run, *, optimizers: bool) -> None:
        """Put in force again what a checkpoint does not carry.

        Args:
            run: The resumed run.
            optimizers: True for what replaces optimizers, before Lightning loads their state; False
                for the rest.
        """
        for remedy, change in self._kept:
            if remedy.replaces_optimizer is optimizers:
                remedy.resume(run, change)

    def state_dict(self) -> dict[str, Any]:
        """Return the remedies and what they changed in plain types and tensors."""
        return {
            "remedies": [
                {
                    "name": remedy.name,
                    "settings": asdict(remedy),
                    "before": dict(change.before),
                    "after": dict(change.after),
                    "undo": dict(change.undo),
                }
                for remedy, change in self._kept
            ]
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the remedies of ``state``; those that this version does not know are left out."""
        known = by_name()
        self._kept = [
            (
                known[held["name"]](**held["settings"]),
                Change(held["before"], held["after"], held["undo"]),
            )
            for held in state.get("remedies", ())
            if held["name"] in known
        ]
