"""The tensors of a batch, whatever it is made of."""

from __future__ import annotations

import collections
import dataclasses
import types
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_plateau.recording.batch import MOST, batch_size, leaves

ONE, TWO = torch.zeros(4, 2), torch.ones(4)


@dataclasses.dataclass
class Sample:
    image: Tensor
    label: Tensor
    source: str = "file"


@dataclasses.dataclass
class Late:
    image: Tensor
    cache: Tensor = dataclasses.field(init=False)


Pair = collections.namedtuple("Pair", "image label")


class Custom:
    def __init__(self) -> None:
        self.image, self.label, self.owner = ONE, TWO, self


class Slots:
    __slots__ = ("image",)


def paths(batch: Any) -> list[str]:
    return [path for path, _ in leaves(batch)]


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (ONE, ["batch"]),
        ((ONE, TWO), ["0", "1"]),
        ([ONE, [TWO]], ["0", "1.0"]),
        ({"image": ONE, "target": {"label": TWO}}, ["image", "target.label"]),
        (collections.UserDict(image=ONE), ["image"]),
        (Pair(ONE, TWO), ["image", "label"]),
        (Sample(ONE, TWO), ["image", "label"]),
        (Late(ONE), ["image"]),
        (Custom(), ["image", "label"]),
        (types.SimpleNamespace(image=ONE), ["image"]),
        ((ONE, "name", 3, 2.5, None, b"raw", {"id": "x"}), ["0"]),
        (None, []),
        (Slots(), []),
        (range(10**9), []),
        (bytearray(10**6), []),
        ((ONE, torch.nn.Linear(2, 2), len, Custom), ["0"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_paths(batch: Any, expected: list[str]) -> None:
    assert paths(batch) == expected


def test_a_batch_that_holds_itself_ends() -> None:
    batch: dict[str, Any] = {"image": ONE}
    batch["self"] = batch
    assert paths(batch) == ["image"]


def test_a_tensor_that_appears_twice_is_seen_twice() -> None:
    assert paths((ONE, ONE)) == ["0", "1"]


def test_lists_of_many_tensors_are_cut_off() -> None:
    assert len(paths([ONE] * (10 * MOST))) == MOST


@pytest.mark.parametrize(
    ("batch", "size"),
    [(ONE, 4), (None, 1), (torch.zeros(()), 1), ({"x": ONE, "scale": torch.zeros(1)}, 4)],
)
def test_batch_size(batch: Any, size: int) -> None:
    assert batch_size(batch) == size
