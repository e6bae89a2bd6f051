"""Arbitrary histories: whatever a recorder, a saved file or bad luck could hand to a rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_plateau.core.history import Floats, History, Series
from lightning_plateau.core.profile import (
    GroupFact,
    ModuleFact,
    MonitorFact,
    OptimizerFact,
    ParameterFact,
    Profile,
    SchedulerFact,
    Value,
)
from lightning_plateau.core.signal import STANDARD, Signal, metric
from lightning_plateau.core.tape import LOSSES, Operand, Operation, Tape
from lightning_plateau.testing import vocabulary as words

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

LONGEST = 60
"""Rows of the longest series: more would find no other faults, only later."""


def strategies() -> Any:
    """Return ``hypothesis.strategies``.

    Raises:
        ModuleNotFoundError: If hypothesis is not installed; the message names the extra.
    """
    try:
        from hypothesis import strategies as found
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "arbitrary histories need hypothesis, which is not installed: "
            "pip install 'lightning-plateau[test]'"
        ) from error
    return found


class _Source:
    """Draws pieces of a history.

    A draw of hypothesis costs microseconds and a history holds thousands of numbers. So hypothesis
    draws what it can shrink (which signals there are, how long, from which numbers, in which shape)
    and a generator that it seeds fills in the rest.
    """

    def __init__(self, draw: DrawFn) -> None:
        st = strategies()
        self._draw = draw
        self._st = st
        ordinary = st.floats(allow_nan=True, allow_infinity=True, width=32)
        listed = st.sampled_from((*words.NUMBERS, *words.INFINITIES))
        self.palette: list[float] = draw(st.lists(ordinary | listed, min_size=1, max_size=4))
        self.random = np.random.default_rng(draw(st.integers(0, 2**16)))

    def one(self, options: Sequence[Any]) -> Any:
        """One of ``options``."""
        return options[int(self.random.integers(len(options)))]

    def some(self, options: Sequence[Any]) -> tuple[Any, ...]:
        """Some of ``options``, in their order, perhaps none."""
        return tuple(option for option in options if self.random.random() < 0.5)

    def drawn(self, low: int, high: int) -> int:
        """An integer that hypothesis can shrink."""
        return int(self._draw(self._st.integers(low, high)))

    def maybe(self, value: Any) -> Any:
        """``value`` or None."""
        return value if self.random.random() < 0.7 else None

    def values(self, *shape: int) -> Floats:
        """An array: one drawn number, several, a curve, or a curve strewn with them."""
        chosen = self.random.choice(np.array(self.palette), size=shape)
        rows = np.arange(shape[0], dtype=np.float64).reshape(-1, *[1] * (len(shape) - 1))
        rate, level = self.one((0.5, 0.97, 1.0, 1.03, 2.0)), self.one((1e-9, 1.0, 1e9, -3.0))
        curve = level * rate**rows * self.random.lognormal(0.0, self.one((0.0, 0.01, 1.0)), shape)
        kind = self.one(("constant", "numbers", "curve", "strewn"))
        if kind == "constant":
            return np.full(shape, self.palette[0])
        if kind == "numbers":
            return np.asarray(chosen, dtype=np.float64)
        strewn = self.random.random(shape) < (0.1 if kind == "strewn" else 0.0)
        return np.where(strewn, chosen, curve)

    def plain(self) -> Value:
        """A setting: a number, a word, a flag or None."""
        word = self.one(("mean", "none", "", True, False, None, -100, 0, 1, 10))
        return self.one((word, self.one(self.palette)))  # type: ignore[no-any-return]

    def settings(self, names: Sequence[str]) -> dict[str, Value]:
        """Some of the settings ``names``."""
        return {name: self.plain() for name in self.some(names)}


def _series(source: _Source, signal: Signal, rows: int, labels: Sequence[str]) -> Series:
    stride = 1 if signal.cadence == "step" else source.one((1, 7, 50))
    first = source.one((0, 0, 0, 5))
    steps = first + stride * np.arange(rows, dtype=np.int64)
    if not signal.axis:
        return Series(signal, steps, source.values(rows))
    # Columns of their own for each signal: no two signals need speak of the same layers.
    columns = source.some(labels)
    return Series(signal, steps, source.values(rows, len(columns)), columns)


def _labels(signal: Signal) -> tuple[str, ...]:
    by_axis = {
        "parameter": words.PARAMETERS,
        "batch": words.LEAVES,
        "normalization": words.LAYERS,
        "group": ("0", "1"),
        "optimizer": ("0", "1"),
        "class": ("0", "1", "7"),
        "condition": words.CONDITIONS,
    }
    return by_axis.get(signal.axis, ("net.0 (linear)", "net.1 (relu)", "relu", "relu#2"))


def _operand(source: _Source, before: int) -> Operand:
    origin = source.one(("operation", "operation", "batch", "parameter", "buffer", "other"))
    statistics = {name: source.one(source.palette) for name in source.some(words.STATISTICS)}
    shape, dtype = source.one(words.SHAPES), source.one(words.DTYPES)
    if origin == "operation" and before:
        index = int(source.random.integers(before))
        return Operand("operation", index, "", shape, dtype, statistics)
    if origin == "batch":
        index = int(source.random.integers(len(words.LEAVES)))
        return Operand("batch", index, words.LEAVES[index], shape, dtype, statistics)
    if origin == "parameter":
        return Operand("parameter", -1, source.one(words.PARAMETERS), shape, dtype, statistics)
    return Operand(source.one(("buffer", "stray", "other")), -1, "", shape, dtype, statistics)


def _tape(source: _Source, step: int) -> Tape:
    operations = []
    for index in range(source.drawn(0, 10)):
        operands = tuple(_operand(source, index) for _ in range(source.one((0, 1, 2, 2, 3))))
        operations.append(
            Operation(
                index,
                source.one((source.one(words.OPERATIONS), source.one(sorted(LOSSES)))),
                source.one(words.LAYERS),
                operands,
                source.one(words.SHAPES),
                source.one(words.DTYPES),
                source.settings(words.ATTRIBUTES),
                source.one((True, True, False)),
                {name: source.one(source.palette) for name in source.some(words.STATISTICS)},
            )
        )
    roots = (None, -1, len(operations) - 1)
    return Tape(step, tuple(operations), source.one(roots), source.one((True, False)))


def _profile(source: _Source) -> Profile:
    parameters = tuple(
        ParameterFact(
            name,
            name.rpartition(".")[0],
            source.one(words.SHAPES),
            source.one(words.DTYPES),
            source.one((True, True, False)),
            source.one((True, True, False)),
        )
        for name in source.some(words.PARAMETERS)
    )
    modules = tuple(
        ModuleFact(
            name,
            source.one(words.KINDS),
            source.one((True, False)),
            source.settings(words.SETTINGS),
        )
        for name in source.some(words.LAYERS)
    )
    optimizers = tuple(
        OptimizerFact(
            source.one(("SGD", "Adam", "AdamW", "Optimizer")),
            (GroupFact(source.some(words.PARAMETERS), source.settings(words.SETTINGS)),)
            * source.drawn(0, 2),
        )
        for _ in range(source.one((0, 1, 1, 2)))
    )
    scheduler = SchedulerFact(
        source.one(("StepLR", "OneCycleLR", "ReduceLROnPlateau")),
        source.one(("epoch", "step")),
        settings=source.settings(("T_max", "gamma", "total_steps", "eta_min")),
    )
    return Profile(
        parameters,
        modules,
        optimizers,
        (scheduler,) * source.one((0, 1)),
        world_size=source.one((1, 1, 2)),
        manual_optimization=source.one((False, True)),
        accumulate_grad_batches=source.one((1, 4)),
        gradient_clip_val=source.maybe(source.one((0.0, 1.0))),
        batches_per_epoch=source.maybe(source.one((0, 1, 10, 1000))),
        planned_steps=source.maybe(source.one((0, 1, 10, 1000))),
        planned_epochs=source.maybe(source.one((0, 1, 10))),
        has_validation=source.one((False, True)),
        dataset_size=source.maybe(source.one((0, 1, 60_000))),
        shuffled=source.one((None, False, True)),
        classes=source.maybe(source.one((0, 1, 2, 10))),
        task=source.maybe("classification"),
        monitor=source.maybe("val_loss"),
        monitors=source.some(
            (
                MonitorFact("EarlyStopping", "val_acc", source.one(("min", "max"))),
                MonitorFact("ModelCheckpoint", "val_loss", source.one(("min", "max"))),
                MonitorFact("ReduceLROnPlateau", "", source.one(("min", "max"))),
            )
        ),
    )


def histories() -> SearchStrategy[History]:
    """Return a hypothesis strategy of arbitrary histories.

    Any signals may be missing, of different length, or hold NaN, infinities, zeros and the extremes
    of float64; labels of signals, tape and profile need not agree; settings may be absent or None.
    What the types promise holds: shapes agree, steps ascend, a tape refers to what came before.

    Raises:
        ModuleNotFoundError: If hypothesis is not installed.

    Example:
        >>> from hypothesis import given
        >>> @given(histories())
        ... def every_history_counts_its_steps(history):
        ...     assert history.step >= 0
        >>> every_history_counts_its_steps()
    """
    st = strategies()

    def build(draw: DrawFn) -> History:
        source = _Source(draw)
        rows = source.drawn(0, LONGEST)
        present = draw(st.sets(st.sampled_from((*STANDARD, metric("val_acc"))), max_size=12))
        if draw(st.booleans()):
            present = set(STANDARD)
        series = {}
        for signal in sorted(present, key=str):
            length = rows if signal.cadence == "step" else -(-rows // source.one((1, 7, 50)))
            series[signal.tag] = _series(source, signal, length, _labels(signal))
        with np.errstate(all="ignore"):
            step = max((int(one.steps[-1]) + 1 for one in series.values() if len(one)), default=0)
        tapes = tuple(_tape(source, at) for at in range(source.drawn(0, 3)))
        ends = tuple(sorted(int(end) for end in source.random.integers(0, step + 1, size=3)))
        return History(series, _profile(source), tapes, step, ends, source.one((False, True)))

    return st.composite(build)()  # type: ignore[no-any-return]
