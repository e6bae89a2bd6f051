"""Tapes and statistics of networks with one batch norm, for tests of the rules that read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning_plateau.core.history import History
from lightning_plateau.core.profile import ModuleFact, ParameterFact, Profile
from lightning_plateau.core.signal import (
    NORMALIZATION_BATCH_MEAN,
    NORMALIZATION_BATCH_VARIANCE,
    NORMALIZATION_RUNNING_MEAN,
    NORMALIZATION_RUNNING_VARIANCE,
    VALIDATION_LOSS,
)
from lightning_plateau.core.tape import Operand, Operation, Tape
from lightning_plateau.testing import history


def tape(*, training: bool = True, norm: bool = True, learns: bool = True, step: int = 0) -> Tape:
    """Return the tape of linear, batch norm, cross-entropy of ten classes."""
    weight = Operand("parameter", name="fc.weight", shape=(10, 4))
    fc = Operation(0, "linear", "fc", (Operand("batch", 0, "0"), weight), (32, 10))
    given = Operand("operation", 0, shape=(32, 10))
    own = Operand("buffer", name="bn.running_mean"), Operand("parameter", name="bn.weight")
    bn = Operation(
        1,
        "batch_norm" if norm else "relu",
        "bn",
        (given, *own) if norm else (given,),
        (32, 10),
        attributes={"training": training, "momentum": 0.1},
        requires_grad=learns,
    )
    sides = Operand("operation", 1, shape=(32, 10)), Operand("batch", 1, "1", (32,))
    return Tape(step, (fc, bn, Operation(2, "cross_entropy", "", sides)), root=2)


def statistics(
    running: Sequence[float] = (0.0, 1.0), batch: Sequence[float] = (0.0, 1.0), rows: int = 3
) -> dict[Any, dict[str, list[float]]]:
    """Return series of the statistics of ``bn``: mean and variance, running and of the batches."""
    signals = (
        NORMALIZATION_RUNNING_MEAN,
        NORMALIZATION_RUNNING_VARIANCE,
        NORMALIZATION_BATCH_MEAN,
        NORMALIZATION_BATCH_VARIANCE,
    )
    values = (*running, *batch)
    return {signal: {"bn": [v] * rows} for signal, v in zip(signals, values, strict=True)}


def profile(*, trainable: bool = True, training: bool = True, **facts: Any) -> Profile:
    """Return a profile of linear and batch norm; ``momentum`` is an attribute of the latter."""
    attributes = {k: facts.pop(k) for k in ("momentum",) if k in facts}
    modules = (
        ModuleFact("", "Module", training=training),
        ModuleFact("bn", "BatchNorm1d", attributes=attributes),
    )
    weights = (
        ParameterFact("fc.weight", "fc", (10, 4)),
        ParameterFact("bn.weight", "bn", (10,), trainable=trainable),
    )
    return Profile(weights, modules, **facts)


def run(
    taken: Tape | None = None,
    measured: Mapping[Any, Any] | None = None,
    facts: Profile | None = None,
    validation: Sequence[float] = (0.5, 0.4, 0.4),
    training: Sequence[float] = (2.3,) * 30 + (0.5,) * 90,
) -> History:
    """Return three epochs of 40 steps each with a validation after each."""
    return history(
        {VALIDATION_LOSS: [3.0, *validation], **(measured or statistics())},
        loss=training,
        every=40,
        profile=facts or profile(),
        tapes=[taken or tape()],
        epoch_ends=[40, 80, 120],
    )
