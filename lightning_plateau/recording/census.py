"""The census: which classes and which samples a training is fed with, counted within a budget."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_plateau.core import signal
from lightning_plateau.core.plain import from_plain, to_plain
from lightning_plateau.core.samples import Samples, samples
from lightning_plateau.core.signal import Signal
from lightning_plateau.core.tape import Tape
from lightning_plateau.recording.batch import leaves
from lightning_plateau.recording.probes.samples import fingerprints, label_values
from lightning_plateau.recording.store import Store
from lightning_plateau.recording.tape import Draft
from lightning_plateau.recording.transfer import Transfer

FIRST_BATCHES = 256
"""Batches that are counted one after another; from then on, those of sampled steps."""
MOST_SAMPLES = 8192
"""Samples of the first epoch, and of each validation, that are fingerprinted."""
FIRST_VALIDATIONS = 3
MOST_CLASSES = 1000
Wants = Callable[[Signal], bool]


class Census:
    """Counts the labels of batches, and tells by fingerprints which samples come again.

    Neighbouring batches say whether the data are shuffled, and the first epoch shows each sample
    once, so both are looked at from the start, batch by batch: a copy of the labels and a dozen
    small operations, at most 256 times. Nothing is read before the next drain. Of a sample nothing
    is kept but 48 bits, which leave the census only for a checkpoint.

    Args:
        wants: Whether somebody needs a signal.
    """

    def __init__(self, wants: Wants) -> None:
        self._wants = wants
        self._roles: Samples | None = None
        self._batches = 0
        self._room = MOST_SAMPLES
        self._validations = 0
        self._validation_room = MOST_SAMPLES
        self._labels: list[Tensor] = []
        self._prints: list[Tensor] = []
        self._validation_prints: list[Tensor] = []
        self._known: set[int] = set()
        self._fingerprinted = 0

    @property
    def unknown(self) -> bool:
        """Whether it is still to be learned what a sample consists of."""
        return self._roles is None

    def learn(self, draft: Draft) -> None:
        """Read off a tape what a sample consists of."""
        tape = Tape(draft.step, tuple(draft.operations), draft.root, draft.root_requires_grad)
        self._roles = samples(tape)

    def observe(self, batch: Any, *, sampled: bool) -> None:
        """Look at a training batch, where its turn has come."""
        if self._roles is None or not (sampled or self._batches < FIRST_BATCHES):
            return
        tensors = dict(leaves(batch))
        if self._roles.classes and self._wants(signal.LABEL_COUNTS):
            self._observe_labels(self._roles, tensors)
        if self._batches < FIRST_BATCHES and self._room and self._wants(signal.REPEATED):
            self._prints += (prints := _prints(self._roles, tensors, self._room))
            self._room -= sum(len(one) for one in prints)
        self._batches += 1

    def _observe_labels(self, roles: Samples, tensors: Mapping[str, Tensor]) -> None:
        target = tensors.get(roles.target.name) if roles.target is not None else None
        if target is not None and _countable(target):
            with torch.no_grad():
                self._labels.append(label_values(target, roles.classes))

    def observe_validation(self, batch: Any) -> None:
        """Look at a validation batch."""
        spent = self._validations >= FIRST_VALIDATIONS or self._validation_room <= 0
        if self._roles is None or spent or not self._wants(signal.VALIDATION_REPEATED):
            return
        prints = _prints(self._roles, dict(leaves(batch)), self._validation_room)
        self._validation_prints += prints
        self._validation_room -= sum(len(one) for one in prints)

    def end_epoch(self) -> None:
        """End the first epoch: what comes from now on has come before."""
        self._room = 0

    def forget_batch(self) -> None:
        """Let go of what was seen of a step that will not end."""
        self._labels, self._prints, self._validation_prints = [], [], []

    def close_step(self, step: int, transfer: Transfer, store: Store) -> None:
        """Send what was seen of the batches of a step."""
        labels, prints = self._labels, self._prints
        self._labels, self._prints = [], []
        if labels:
            transfer.add(labels, lambda arrays: _count_labels(store, step, arrays))
        if prints:
            transfer.add(prints, lambda arrays: self._count_samples(store, step, arrays))

    def close_validation(self, step: int, transfer: Transfer, store: Store) -> None:
        """Send what was seen of a validation."""
        prints, self._validation_prints = self._validation_prints, []
        self._validation_room = MOST_SAMPLES
        if prints:
            self._validations += 1
            transfer.add(prints, lambda arrays: self._compare(store, step, arrays))

    def state_dict(self) -> dict[str, Any]:
        """Return what was counted and what is left of the budget, in plain types and tensors."""
        return {
            "roles": json.dumps(to_plain(self._roles)),
            "batches": self._batches,
            "room": self._room,
            "validations": self._validations,
            "known": torch.tensor(sorted(self._known), dtype=torch.int64),
            "fingerprinted": self._fingerprinted,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        roles = json.loads(state["roles"])
        self._roles = None if roles is None else from_plain(Samples, roles)
        self._batches, self._room = state["batches"], state["room"]
        self._validations = state["validations"]
        self._known = set(state["known"].tolist())
        self._fingerprinted = state["fingerprinted"]

    def _count_samples(self, store: Store, step: int, arrays: Sequence[NDArray[Any]]) -> None:
        keys = _keys(arrays)
        self._fingerprinted += len(keys)
        self._known.update(keys)
        repeated = self._fingerprinted - len(self._known)
        store.append_row(signal.FINGERPRINTED, step, float(self._fingerprinted))
        store.append_row(signal.REPEATED, step, float(repeated))

    def _compare(self, store: Store, step: int, arrays: Sequence[NDArray[Any]]) -> None:
        keys = _keys(arrays)
        seen = sum(key in self._known for key in keys)
        store.append_row(signal.VALIDATION_FINGERPRINTED, step, float(len(keys)))
        store.append_row(signal.VALIDATION_REPEATED, step, float(seen))


def _prints(roles: Samples, tensors: Mapping[str, Tensor], room: int) -> list[Tensor]:
    """Return the fingerprints of a batch's first ``room`` samples, or nothing."""
    found = [tensors[one.name] for one in roles.inputs if one.name in tensors]
    if not found or len(found) < len(roles.inputs) or not all(map(_countable, found)):
        return []
    if len({len(one) for one in found}) > 1 or len({one.device for one in found}) > 1:
        return []
    with torch.no_grad():
        return [fingerprints([one[:room] for one in found])]


def _countable(tensor: Tensor) -> bool:
    dense = tensor.layout is torch.strided and not tensor.is_nested
    return dense and tensor.dim() > 0 and tensor.numel() > 0


def _keys(arrays: Sequence[NDArray[Any]]) -> list[int]:
    pairs = np.concatenate(arrays).astype(np.int64)
    keys: list[int] = (pairs[:, 0] << 24 | pairs[:, 1]).tolist()
    return keys


def _count_labels(store: Store, step: int, arrays: Sequence[NDArray[Any]]) -> None:
    found, counts = np.unique(np.concatenate(arrays), return_counts=True)
    kept = (found >= 0) & (found < MOST_CLASSES)  # a negative label stands for one to ignore
    if not kept.any() or (found != np.round(found)).any() or (found >= MOST_CLASSES).any():
        return
    row = {f"{label:.0f}": float(n) for label, n in zip(found[kept], counts[kept], strict=True)}
    store.append_row(signal.LABEL_COUNTS, step, row)
