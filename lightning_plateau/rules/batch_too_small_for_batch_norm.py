"""LP601: batch normalization rests on too few samples."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import ClassVar

from lightning_plateau.core.derived import derived
from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.rule import Remark, Rule
from lightning_plateau.core.signal import BATCH_SIZE, NORMALIZATION_VALUES
from lightning_plateau.core.statistics import finite, row_medians
from lightning_plateau.core.tape import Tape


@dataclass(frozen=True)
class BatchTooSmallForBatchNorm(Rule):
    """Batch normalization takes its statistics from too few samples.

    What it detects:
        A batch-norm layer in training mode whose mean and variance rest on fewer than 8 values a
        channel, or, where each sample has many values (pixels), on fewer than 4 samples. What
        counts is the batch of one device: accumulating gradients does not help. Or an epoch ends in
        a batch of a single sample, which a layer with one value a sample cannot normalize: torch
        raises there.

    Why it matters:
        Each sample is normalized by the noise of the few beside it. With two values a channel the
        output is ±1 whatever the input; with one it is 0. Evaluation, which uses running
        statistics, then sees another network.

    Example:
        >>> from lightning_plateau.testing import history
        >>> run = history({NORMALIZATION_VALUES: {"net.1": [2.0, 2.0]}, BATCH_SIZE: [2.0, 2.0]})
        >>> finding = BatchTooSmallForBatchNorm().check(run)
        >>> finding.message
        'net.1 normalizes each channel by 2 values of 2 samples'

    Remedies:
        Advice only: a larger batch, GroupNorm or LayerNorm, or frozen statistics (``eval()``).

    Known limitations:
        A last batch that is smaller than the others is only seen if it falls on a sampled step.

    References:
        Wu and He, 2018, Group Normalization (ECCV). Ioffe, 2017, Batch Renormalization (NeurIPS).
    """

    code: ClassVar[str] = "LP601"
    name: ClassVar[str] = "batch-too-small-for-batch-norm"
    requires: ClassVar = (NORMALIZATION_VALUES, BATCH_SIZE)
    explains: ClassVar = (
        "LP306",
        "LP401",
        "LP403",
        "LP404",
        "LP405",
        "LP406",
        "LP602",
        "LP802",
        "LP803",
        "LP807",
        "LP808",
    )
    remark: ClassVar[Remark] = "while-falling"
    why: ClassVar[str] = "each sample is normalized by the noise of the few beside it"

    least_values: float = 8.0
    least_samples: float = 4.0

    def check(self, history: History) -> Finding | None:
        """Return the fault at the layer whose statistics rest on the fewest values."""
        counts, modes = history[NORMALIZATION_VALUES], _modes(history)
        typical = row_medians(counts.values.T).tolist()
        usual = {
            label: values
            for label, values in zip(counts.labels, typical, strict=True)
            if math.isfinite(values) and any(modes.get(label, (True,)))
        }
        if not usual:
            return None
        left = self._left_over(history, usual)
        if left is not None:
            return left
        layer = min(usual, key=lambda label: usual[label])
        values, samples = usual[layer], _samples(history, usual[layer])
        confidence = self._confidence(values, samples)
        if confidence == 0.0:
            return None
        return self.finding(
            history,
            confidence,
            f"{layer} normalizes each channel by {values:.0f} values of {samples:.0f} samples",
            evidence=(
                Evidence(NORMALIZATION_VALUES.tag, values, self.least_values, layer),
                Evidence("samples of a device's batch", samples, self.least_samples),
            ),
            fix="use batches of 16 or more a device, nn.GroupNorm or nn.LayerNorm in its place, or "
            "keep the statistics of a pretrained network: layer.eval()",
            where=layer,
        )

    def _left_over(self, history: History, usual: dict[str, float]) -> Finding | None:
        """Return the fault where the last batch of each epoch holds one sample of one value."""
        size, batches = history.profile.dataset_size, history.profile.batches_per_epoch
        sizes = finite(history[BATCH_SIZE].values)
        batch = float(row_medians([sizes])[0]) if len(sizes) else 0.0
        flat = [layer for layer, values in usual.items() if values == batch]
        if not size or not batches or batch < 2 or history.profile.world_size > 1 or not flat:
            return None
        if size != (batches - 1) * batch + 1:
            return None
        return self.finding(
            history,
            1.0,
            f"the last batch of each epoch holds 1 of the {size} samples (batches of {batch:.0f}): "
            f"{flat[0]} cannot normalize one value, and raises",
            evidence=(Evidence("samples of the last batch", 1.0, 2.0, flat[0]),),
            fix="DataLoader(..., drop_last=True), or another batch size",
            where=flat[0],
            step=0,
        )

    def _confidence(self, values: float, samples: float) -> float:
        if values <= 2:
            return 0.9
        if values < self.least_values:
            return 0.7
        return 0.5 if samples < self.least_samples else 0.0


def _samples(history: History, values: float) -> float:
    sizes = finite(history[BATCH_SIZE].values)
    return min(values, float(row_medians([sizes])[0])) if len(sizes) else values


def _modes(history: History) -> dict[str, list[bool]]:
    """Return by layer whether each call normalizes by the batch; frozen layers do not."""
    modes: dict[str, list[bool]] = defaultdict(list)
    for tape in history.tapes:
        for layer, by_batch in _modes_on(tape):
            modes[layer].append(by_batch)
    return modes


@derived
def _modes_on(tape: Tape) -> list[tuple[str, bool]]:
    return [
        (call.layer, call.attributes.get("training") is not False)
        for call in tape.named({"batch_norm"})
    ]
