"""LP109: the batches are not shuffled: each holds samples that are alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.chance import chance_loss, summed
from lightning_plateau.core.clustering import (
    LEAST_SIZE,
    Clustering,
    between_batches,
    clustering,
)
from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.labels import labels
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.samples import samples_of
from lightning_plateau.core.signal import (
    BATCH_SIZE,
    DATA_MEAN,
    DATA_STD,
    LABEL_COUNTS,
    LOSS,
    VALIDATION_LOSS,
)
from lightning_plateau.core.trend import MAGNITUDE


@dataclass(frozen=True)
class UnshuffledBatches(Rule):
    """The batches are not shuffled: each holds samples that are alike.

    What it detects:
        Samples of a batch that share their class far more often than any two samples do, though the
        classes are there in the data: a data set sorted by class and read in its order. Where
        nearly all batches hold a single class that is said in any case; where they are only more
        alike than chance allows, while the loss or the validation loss stays high beside guessing;
        and so for a regression whose targets hardly vary within a batch. Loaders that shuffle are
        not judged, nor is a fixed order that is random already.

    Why it matters:
        Each batch pulls all weights towards its own class, and the next one back: the network
        forgets as fast as it learns, and batch norm never sees the statistics of the data.

    Example:
        >>> from lightning_plateau.core.tape import Operand, Operation, Tape
        >>> from lightning_plateau.testing import history
        >>> x, weight = Operand("batch", 0, "0", (32, 4)), Operand("parameter", name="fc.weight")
        >>> fc = Operation(0, "linear", "fc", (x, weight), (32, 2))
        >>> sides = (Operand("operation", 0, shape=(32, 2)), Operand("batch", 1, "1", (32,)))
        >>> tape = Tape(0, (fc, Operation(1, "cross_entropy", "", sides)), root=1)
        >>> by_class = {LABEL_COUNTS: {"0": [32.0] * 5 + [0] * 5, "1": [0.0] * 5 + [32] * 5}}
        >>> finding = UnshuffledBatches().check(history(by_class, tapes=[tape]))
        >>> finding.message
        '10 of 10 batches hold a single class, though the data hold 2 classes'

    Remedies:
        Advice only: ``DataLoader(…, shuffle=True)``, or a shuffle buffer for an iterable data set.

    Known limitations:
        Where one class has nearly all samples it cannot tell. Gradient accumulation is taken into
        account: the micro-batches of a step count together.

    References:
        Bengio, 2012, Practical Recommendations for Gradient-Based Training of Deep Architectures.
        McCloskey and Cohen, 1989, Catastrophic interference in connectionist networks.
    """

    code: ClassVar[str] = "LP109"
    name: ClassVar[str] = "unshuffled-batches"
    severity: ClassVar[Severity] = Severity.WARNING
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (LABEL_COUNTS, DATA_MEAN, DATA_STD, BATCH_SIZE, LOSS, VALIDATION_LOSS)
    explains: ClassVar = (
        "LP104",
        "LP106",
        "LP306",
        "LP401",
        "LP402",
        "LP403",
        "LP404",
        "LP405",
        "LP406",
        "LP414",
        "LP501",
        "LP602",
        "LP801",
        "LP802",
        "LP807",
        "LP808",
    )
    why: ClassVar[str] = "each batch pulls the weights towards its own samples, the next one back"

    fewest_windows: int = 8
    least_deviations: float = 6.0
    most_concentration: float = 0.9
    pure: float = 0.7
    somewhat_pure: float = 0.2
    between: float = 0.6
    least_batch: int = 8
    high: float = 0.5

    def check(self, history: History) -> Finding | None:
        """Return the fault where samples of a batch are alike and those of the data are not."""
        found = samples_of(history)
        if history.profile.shuffled or found is None or not found.one_each:
            return None
        if found.classes:
            return self._classes(history)
        return self._numbers(history, found.target.name if found.target is not None else "")

    def _classes(self, history: History) -> Finding | None:
        counted = labels(history)
        alike = clustering(counted) if counted is not None else None
        if counted is None or alike is None or not self._beyond_chance(alike):
            return None
        if alike.purity < self.pure and not self._suffers(history, self.high):
            return None
        classes, single = len(counted.names), round(alike.single * alike.windows)
        joined = 2 * alike.windows < len(counted.steps)
        of = f"runs of {LEAST_SIZE} samples" if joined else "batches"
        says = (
            f"{single} of {alike.windows} {of} hold a single class"
            if alike.single > 0.5
            else f"two samples of a batch are of one class {100 * self._agreement(alike):.0f} % of "
            f"the time, any two samples of the data {100 * alike.concentration:.0f} %"
        )
        return self.finding(
            history,
            0.9 if alike.purity >= self.pure else 0.6,
            f"{says}, though the data hold {classes} classes",
            evidence=(
                Evidence("likeness of labels within a batch", alike.purity, self.somewhat_pure),
                Evidence("standard deviations of chance", alike.deviations, self.least_deviations),
            ),
            fix="shuffle: DataLoader(dataset, batch_size, shuffle=True)",
        )

    def _agreement(self, alike: Clustering) -> float:
        return alike.concentration + alike.purity * (1 - alike.concentration)

    def _beyond_chance(self, alike: Clustering) -> bool:
        return (
            alike.windows >= self.fewest_windows
            and alike.concentration <= self.most_concentration
            and alike.purity >= self.somewhat_pure
            and alike.deviations >= self.least_deviations
        )

    def _numbers(self, history: History, name: str) -> Finding | None:
        means, widths = history[DATA_MEAN].column(name), history[DATA_STD].column(name)
        sizes = history[BATCH_SIZE].finite.values
        if len(means) < self.fewest_windows or len(means) != len(widths) or not len(sizes):
            return None
        share = between_batches(means.values, widths.values)
        if np.median(sizes) < self.least_batch or share < self.between:
            return None
        if not self._suffers(history, 2 * self.high):
            return None
        return self.finding(
            history,
            0.5 + 0.15 * (share - self.between) / (1 - self.between),
            f"{100 * share:.0f} % of the variance of the targets lies between batches, hardly any "
            "within",
            evidence=(Evidence("variance between batches, as a share", share, self.between, name),),
            fix="shuffle: DataLoader(dataset, batch_size, shuffle=True)",
            where=f"batch[{name}]",
        )

    def _suffers(self, history: History, high: float) -> bool:
        """Whether the loss, or that of validation, stays high beside that of guessing."""
        chance, losses = chance_loss(history), history[LOSS].finite.values
        validations = history[VALIDATION_LOSS].finite.values[: 0 if summed(history) else None]
        if chance is None or chance <= 0 or not len(losses):
            return False
        recent = float(np.clip(losses[len(losses) // 2 :], -MAGNITUDE, MAGNITUDE).mean())
        worst = max([recent, *validations[-1:].tolist()])
        return bool(worst > high * chance)
