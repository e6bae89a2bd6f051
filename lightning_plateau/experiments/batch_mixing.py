"""Does what is predicted for a sample depend on its neighbours in the batch?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lightning_plateau.core.signal import EXPERIMENT_BATCH_MIXING, Signal
from lightning_plateau.core.tape import LOSSES
from lightning_plateau.experiments.experiment import Bench, Experiment, Row
from lightning_plateau.experiments.halves import first_half
from lightning_plateau.experiments.sandbox import InconclusiveError, Sandbox, seed
from lightning_plateau.recording.batch import batch_size
from lightning_plateau.recording.calls import operation_name


@dataclass(frozen=True)
class BatchMixing(Experiment):
    """The predictions of the first half of a batch, with and without the second half beside it.

    In evaluation mode each sample stands for itself. Where it does not, samples are mixed: by a
    reshape in the wrong order, a softmax over the wrong dimension, or batch and time exchanged.

    References:
        Karpathy, 2019, A Recipe for Training Neural Networks ("use backprop to chart
        dependencies").
    """

    name: ClassVar[str] = "batch-mixing"
    signal: ClassVar[Signal] = EXPERIMENT_BATCH_MIXING
    cost: ClassVar[float] = 2.5
    tells: ClassVar[tuple[str, ...]] = ("LP708",)

    def run(self, bench: Bench) -> tuple[Row, ...]:
        """Return the largest differences where the batch was ``halved`` and ``repeated``."""
        batch = bench.given[0]
        size = batch_size(batch)
        half = first_half(batch)
        whole = self._predictions(bench, batch)
        again = self._predictions(bench, batch)
        try:
            alone = self._predictions(bench, half)
        except (RuntimeError, ValueError, IndexError) as error:
            raise InconclusiveError(f"half of the batch cannot be passed: {error}") from error
        halved, repeated = [], []
        for one, other, part in zip(whole, again, alone, strict=False):
            if one.shape[:1] == (size,) and part.shape == (size // 2, *one.shape[1:]):
                halved.append(_difference(one[: size // 2], part))
                repeated.append(_difference(one, other))
        if not halved:
            raise InconclusiveError("no loss function receives one prediction for each sample")
        return ({"halved": max(halved), "repeated": max(repeated)},)

    def _predictions(self, bench: Bench, batch: Any) -> list[Tensor]:
        sandbox: Sandbox = bench.sandbox()
        sandbox.module.eval()
        seed(1)
        with _listening() as heard:
            sandbox.loss(batch)
        return heard


@contextmanager
def _listening() -> Iterator[list[Tensor]]:
    """Collect the first argument of every loss function that is called inside."""
    heard: list[Tensor] = []
    with _Listener(heard):
        yield heard


class _Listener(TorchFunctionMode):
    def __init__(self, heard: list[Tensor]) -> None:
        super().__init__()
        self._heard = heard

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Note a prediction, and run ``func``."""
        given = args[0] if args else (kwargs or {}).get("input")
        if operation_name(func) in LOSSES and isinstance(given, Tensor):
            self._heard.append(given.detach().float())
        return func(*args, **(kwargs or {}))


def _difference(one: Tensor, other: Tensor) -> float:
    """Return the largest difference as a share of the typical size of a value about the mean."""
    spread = torch.linalg.vector_norm(one - one.mean()) / max(1, one.numel()) ** 0.5
    size = spread if float(spread) > 0 else one.abs().max()
    largest = (one - other).abs().max()
    return float(largest / size) if float(size) > 0 else float(largest)
