"""The census: which classes, targets and samples a training is given, within a budget."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
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
from lightning_plateau.recording.draft import Draft
from lightning_plateau.recording.pool import Pool
from lightning_plateau.recording.probes.samples import fingerprints, label_values
from lightning_plateau.recording.store import Store
from lightning_plateau.recording.targets import Targets
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
    once, so both are looked at from the start, batch by batch, at most 256 times: a copy of the
    labels, and of samples that are small, whose fingerprints are taken together later. Nothing is
    read before the next drain. Of a sample nothing is kept then but 48 bits, which leave the census
    only for a checkpoint.

    Args:
        wants: Whether somebody needs a signal.
    """

    def __init__(self, wants: Wants) -> None:
        self._wants = wants
        self._roles: Samples | None = None
        self._batches = self._step = 0
        self._room = MOST_SAMPLES
        self._validations = 0
        self._validation_room = MOST_SAMPLES
        self._labels: list[Tensor] = []
        self._targets = Targets()
        self._pool = Pool()
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

    def observe(self, batch: Any, *, step: int, sampled: bool) -> None:
        """Look at a training batch of the step under way, where its turn has come."""
        if self._roles is None or not (sampled or self._batches < FIRST_BATCHES):
            return
        tensors = dict(leaves(batch))
        if self._roles.classes and self._wants(signal.LABEL_COUNTS):
            self._observe_labels(self._roles, tensors)
        if not self._roles.classes and self._wants(signal.TARGETS):
            self._observe_targets(self._roles, tensors)
        if self._batches < FIRST_BATCHES and self._room and self._wants(signal.REPEATED):
            self._observe_inputs(self._roles, tensors, step)
        self._batches += 1

    def _observe_labels(self, roles: Samples, tensors: Mapping[str, Tensor]) -> None:
        target = tensors.get(roles.target.name) if roles.target is not None else None
        if target is not None and _countable(target) and not target.is_complex():
            with torch.no_grad():
                self._labels.append(label_values(target, roles.classes))

    def _observe_targets(self, roles: Samples, tensors: Mapping[str, Tensor]) -> None:
        target = tensors.get(roles.target.name) if roles.target is not None else None
        if target is not None and _countable(target):
            self._targets.add(target)

    def _observe_inputs(self, roles: Samples, tensors: Mapping[str, Tensor], step: int) -> None:
        inputs = _inputs(roles, tensors, self._room)
        if inputs:
            self._pool.add(step, inputs)
            self._room -= len(inputs[0])

    def observe_validation(self, batch: Any) -> None:
        """Look at a validation batch."""
        spent = self._validations >= FIRST_VALIDATIONS or self._validation_room <= 0
        if self._roles is None or spent or not self._wants(signal.VALIDATION_REPEATED):
            return
        inputs = _inputs(self._roles, dict(leaves(batch)), self._validation_room)
        if inputs:
            with torch.no_grad():
                self._validation_prints.append(fingerprints(inputs))
            self._validation_room -= len(inputs[0])

    def end_epoch(self) -> None:
        """End the first epoch: what comes from now on has come before."""
        self._room = 0

    def forget_step(self, step: int) -> None:
        """Let go of what was seen of a step that will not end."""
        self._labels, self._validation_prints = [], []
        self._pool.forget(step)

    def close_step(self, step: int, transfer: Transfer, store: Store) -> None:
        """Send what was seen of the batches of a step."""
        self._step = step
        labels, self._labels = self._labels, []
        if labels:
            transfer.add(labels, lambda arrays: _count_labels(store, step, arrays))

    def send(self, transfer: Transfer, store: Store) -> None:
        """Send the fingerprints of all batches so far, and how far their targets spread."""
        self._targets.send(self._step, transfer, store)
        for prints in self._pool.take():
            transfer.add(
                [prints.values], partial(self._count_all, store, prints.steps, prints.sizes)
            )

    def close_validation(self, step: int, transfer: Transfer, store: Store) -> None:
        """Send what was seen of a validation."""
        self.send(transfer, store)  # it is compared with all that training was given before
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
            "targets": self._targets.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        roles = json.loads(state["roles"])
        self._roles = None if roles is None else from_plain(Samples, roles)
        self._batches, self._room = state["batches"], state["room"]
        self._validations = state["validations"]
        self._known = set(state["known"].tolist())
        self._fingerprinted = state["fingerprinted"]
        self._targets.load_state_dict(state.get("targets", {}))

    def _count_all(
        self,
        store: Store,
        steps: Sequence[int],
        sizes: Sequence[int],
        arrays: Sequence[NDArray[Any]],
    ) -> None:
        keys, start = _keys(arrays), 0
        for step, group in groupby(zip(steps, sizes, strict=True), key=itemgetter(0)):
            end = start + sum(size for _, size in group)
            self._count_samples(store, step, keys[start:end])
            start = end

    def _count_samples(self, store: Store, step: int, keys: Sequence[int]) -> None:
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


def _inputs(roles: Samples, tensors: Mapping[str, Tensor], room: int) -> list[Tensor]:
    """Return the inputs of a batch's first ``room`` samples, or nothing."""
    found = [tensors[one.name] for one in roles.inputs if one.name in tensors]
    if not found or len(found) < len(roles.inputs) or not all(map(_countable, found)):
        return []
    if len({len(one) for one in found}) > 1 or len({one.device for one in found}) > 1:
        return []
    return [one[:room] for one in found]


def _countable(tensor: Tensor) -> bool:
    dense = tensor.layout is torch.strided and not tensor.is_nested
    return dense and tensor.dim() > 0 and tensor.numel() > 0


def _keys(arrays: Sequence[NDArray[Any]]) -> list[int]:
    pairs = np.concatenate(arrays).astype(np.int64)
    keys: list[int] = (pairs[:, 0] << 24 | pairs[:, 1]).tolist()
    return keys


def _count_labels(store: Store, step: int, arrays: Sequence[NDArray[Any]]) -> None:
    values = np.concatenate(arrays)
    kept = values[values >= 0]  # a negative label stands for one to ignore
    if not len(kept) or (values != np.round(values)).any() or (kept >= MOST_CLASSES).any():
        return
    counts = np.bincount(kept.astype(np.int64))
    row = {str(label): float(counts[label]) for label in np.flatnonzero(counts).tolist()}
    store.append_row(signal.LABEL_COUNTS, step, row)
