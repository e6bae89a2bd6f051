"""What follows from an immutable object is worked out once, and never part of its value."""

from __future__ import annotations

import copy
import gc
import weakref
from dataclasses import replace

import numpy as np

from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import History, Series
from lightning_plateau.core.layers import computing
from lightning_plateau.core.plain import to_plain
from lightning_plateau.core.signal import LOSS
from lightning_plateau.core.tape import Operation, Tape

TAPE = Tape(0, (Operation(0, "relu"),))


def test_it_is_worked_out_once_for_each_object() -> None:
    asked = []

    @derived
    def length(tape: Tape) -> int:
        asked.append(tape)
        return len(tape)

    other = replace(TAPE, step=1)
    assert [length(TAPE), length(TAPE), length(other)] == [1, 1, 1]
    assert asked == [TAPE, other]


def test_what_is_kept_is_no_part_of_the_value() -> None:
    fresh = replace(TAPE)
    computing(TAPE)
    assert fresh == TAPE == copy.deepcopy(TAPE)
    assert to_plain(TAPE) == to_plain(fresh)
    assert repr(TAPE) == repr(fresh)


def test_it_ends_with_the_object() -> None:
    series = Series(LOSS, np.arange(3), np.arange(3.0))
    history = History({LOSS.tag: series})
    assert history[LOSS].finite is series.finite
    gone = weakref.ref(history)
    del history
    gc.collect()
    assert gone() is None
