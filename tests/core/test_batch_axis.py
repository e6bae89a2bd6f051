from __future__ import annotations

import pytest

from lightning_plateau.core.batch_axis import batch_axes, straddles
from lightning_plateau.core.tape import Operand, Operation, Tape


@pytest.mark.parametrize(
    ("before", "axis", "after", "mixed"),
    [
        ((32, 10, 8), 0, (320, 8), False),
        ((32, 10, 8), 0, (32, 80), False),
        ((32, 10, 8), 0, (10, 32, 8), True),
        ((64, 32), 1, (32, 64), True),
        ((10, 32, 64), 1, (32, 640), True),
        ((10, 32, 64), 1, (320, 64), False),
        ((10, 32, 64), 1, (10, 32, 8, 8), False),
        ((32, 10, 64), 0, (320, 2, 32), False),
    ],
)
def test_what_mixes_samples(
    before: tuple[int, ...], axis: int, after: tuple[int, ...], mixed: bool
) -> None:
    assert straddles(before, axis, after, 32) is mixed


def test_embeddings_keep_the_samples_in_front() -> None:
    words, weight = Operand("batch", 0, "0", (8, 5)), Operand("parameter", name="w", shape=(90, 4))
    found = Operation(0, "embedding", "", (words, weight), (8, 5, 4))
    answers, y = Operand("operation", 0, shape=(8, 5, 4)), Operand("batch", 1, "1", (8, 5))
    loss = Operation(1, "cross_entropy", "", (answers, y))
    assert batch_axes(Tape(0, (found, loss), root=1)) == {0: 0}
