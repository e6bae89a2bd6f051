"""Ranks whose streams differ in length or in the size of their batches.

Lightning pads map-style data by its sampler, but leaves streams as they are. DDP averages gradients
as they come, so that batches of different sizes train; where a stream ends early, that rank waits
at the end of the epoch for those that are still averaging gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from lightning_plateau import PlateauCallback
from lightning_plateau.core import signal
from tests.digits import Digits, digits, trainer
from tests.modes.mode import replicated
from tests.ranks import on_ranks


class Stream(IterableDataset):  # type: ignore[type-arg]
    """Batches of a size and a number that differ from rank to rank."""

    def __init__(self, sizes: tuple[int, int], numbers: tuple[int, int]) -> None:
        self.sizes, self.numbers = sizes, numbers

    def __iter__(self) -> Iterator[Any]:
        rank = torch.distributed.get_rank()
        images, labels = digits()
        for index in range(self.numbers[rank]):
            some = slice(index * 20, index * 20 + self.sizes[rank])
            yield images[some], labels[some]


def end(stream: Stream, *own: PlateauCallback) -> list[Tensor]:
    """Train on this rank; return the weights."""
    torch.manual_seed(1)
    fit = trainer(*own, max_epochs=3, **replicated()())
    fit.fit(Digits(), DataLoader(stream, batch_size=None))
    return [parameter.detach().clone() for parameter in fit.lightning_module.parameters()]


def compared(stream: Stream, folder: Path, policy: Any) -> Any:
    """Train on this rank without the library and with it; return what it found, and the steps."""
    bare = end(stream)
    own = PlateauCallback(policy=policy, every_n_steps=4, dirpath=str(folder), quiet=True)
    watched = end(stream, own)
    assert not own.disabled, own.findings
    assert all(torch.equal(a, b) for a, b in zip(bare, watched, strict=True))
    found = [(one.code, one.message) for one in own.findings]
    return found, own.history[signal.LOSS].steps.tolist()


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("policy", ["observe", "safe"])
@pytest.mark.parametrize("sizes", [(16, 5), (3, 20)])
def test_batches_of_different_sizes(sizes: tuple[int, int], policy: str, tmp_path: Path) -> None:
    first, second = on_ranks(partial(compared, Stream(sizes, (7, 7)), tmp_path, policy))
    assert first == second
    assert first[1] == list(range(21))


GONE = ("closed by peer", "reset by peer", "Broken pipe")
"""What gloo says of a rank that has ended, depending on what it was doing."""


def fate(stream: Stream, *own: PlateauCallback) -> str:
    """Train on this rank; return how it ends."""
    try:
        end(stream, *own)
    except RuntimeError as error:
        return "peer is gone" if any(sign in str(error) for sign in GONE) else str(error)
    return "ended"


def watched_fate(stream: Stream, folder: Path) -> tuple[str, bool]:
    own = PlateauCallback(every_n_steps=4, dirpath=str(folder), quiet=True)
    return fate(stream, own), own.disabled


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("numbers", [(7, 5), (5, 7)])
def test_streams_of_different_lengths_end_as_unwatched(
    numbers: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The longer one finds its peer gone; watching makes no rank wait for ever."""
    monkeypatch.setattr("lightning_plateau.ranks.WAIT", timedelta(seconds=5))
    stream = Stream((16, 16), numbers)
    bare = on_ranks(partial(fate, stream))
    watched = on_ranks(partial(watched_fate, stream, tmp_path))
    assert sorted(bare) == ["ended", "peer is gone"]
    assert watched == [(how, False) for how in bare]
