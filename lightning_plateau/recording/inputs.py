"""What the tensors of a batch look like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_plateau.core import signal
from lightning_plateau.core.signal import Signal
from lightning_plateau.recording.batch import batch_size, leaves
from lightning_plateau.recording.delivery import Delivery
from lightning_plateau.recording.probes.data import DATA_STATISTICS, data_statistics

_DATA_SIGNALS: dict[str, Signal] = {
    "mean": signal.DATA_MEAN,
    "std": signal.DATA_STD,
    "minimum": signal.DATA_MINIMUM,
    "maximum": signal.DATA_MAXIMUM,
    "non_finite": signal.DATA_NON_FINITE,
    "constant_features": signal.DATA_CONSTANT,
}


def record_inputs(delivery: Delivery, step: int, batch: Any) -> None:
    """Look at the tensors of a batch."""
    tensors = [(path, leaf) for path, leaf in leaves(batch) if leaf.numel()]
    if not tensors or not delivery.wants(*_DATA_SIGNALS.values(), signal.BATCH_SIZE):
        return
    with torch.no_grad():
        rows = [data_statistics(leaf) for _, leaf in tensors]
    labels = tuple(path for path, _ in tensors)
    size = batch_size(batch)

    def deliver(arrays: Sequence[NDArray[Any]]) -> None:
        table = np.stack(arrays)
        for column, name in enumerate(DATA_STATISTICS):
            delivery.append(_DATA_SIGNALS[name], step, labels, table[:, column])
        if delivery.wants(signal.BATCH_SIZE):
            delivery.store.append_row(signal.BATCH_SIZE, step, float(size))

    delivery.transfer.add(rows, deliver)
