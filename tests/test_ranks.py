"""Ranks that meet, and one on which watching has failed: nobody waits for it in vain."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_plateau.ranks import RankFailedError, Ranks

WAIT_S = 10.0


class Room:
    """Where threads stand for ranks: each call returns when all have made the same one."""

    root_device = torch.device("cpu")

    def __init__(self, ranks: int) -> None:
        self.barrier = Barrier(ranks, timeout=WAIT_S)
        self.said: dict[int, Any] = {}

    def exchange(self, rank: int, value: Any) -> list[Any]:
        self.said[rank] = value
        self.barrier.wait()
        heard = [self.said[rank] for rank in sorted(self.said)]
        self.barrier.wait()
        return heard


class Seat:
    """The strategy and the Trainer of one rank."""

    world_size = 2

    def __init__(self, room: Room, rank: int) -> None:
        self.room, self.global_rank, self.strategy = room, rank, self
        self.root_device = room.root_device
        self.calls: list[str] = []

    def reduce(self, values: Tensor, reduce_op: str) -> Tensor:
        self.calls.append(reduce_op)
        heard = torch.stack(self.room.exchange(self.global_rank, values))
        return heard.sum(dim=0) if reduce_op == "sum" else heard.amax(dim=0)

    def broadcast(self, value: Any, src: int = 0) -> Any:
        self.calls.append("broadcast")
        return self.room.exchange(self.global_rank, value)[src]


def together(act: Callable[[Ranks, int], Any]) -> list[Any]:
    """Let two ranks do the same, and return what each makes of it, or what it fails with."""
    room = Room(2)

    def one(rank: int) -> Any:
        try:
            return act(Ranks(Seat(room, rank), (4, 1), torch.float32), rank)
        except RankFailedError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, range(2)))


def opened(ranks: Ranks, rank: int, *, more: bool = False) -> Any:
    return ranks.open(torch.full((4, 1), float(rank)), affordable=rank == 0, more=more)


def test_losses_are_averaged_rank_zero_affords_and_one_yes_is_enough() -> None:
    for meeting in together(lambda ranks, rank: opened(ranks, rank, more=rank == 1)):
        assert meeting.losses.flatten().tolist() == [0.5] * 4
        assert meeting.affordable
        assert meeting.answer


def test_an_ordinary_drain_is_one_reduction() -> None:
    def act(ranks: Ranks, rank: int) -> list[str]:
        opened(ranks, rank)
        ranks.close()
        return ranks._strategy.calls

    assert together(act) == [["sum"], ["sum"]]


def test_rank_zero_speaks_and_the_largest_counts() -> None:
    def act(ranks: Ranks, rank: int) -> Any:
        opened(ranks, rank, more=True)
        said = ranks.first(lambda: f"of {rank}"), ranks.largest(torch.tensor([float(rank)])).item()
        ranks.close()
        return said, ranks.any(rank == 1)

    assert together(act) == [(("of 0", 1.0), True)] * 2


@pytest.mark.parametrize("failing", [0, 1])
def test_a_failure_between_sessions_is_told_when_the_next_one_opens(failing: int) -> None:
    def act(ranks: Ranks, rank: int) -> Any:
        opened(ranks, rank)
        ranks.close()
        if rank == failing:
            ranks.step_aside("it broke")
        for step in range(8):
            ranks.note_step()
            if step == 3 and rank != failing:
                opened(ranks, rank)
            ranks.end_batch(news=False)
        return ranks.failure

    ends = together(act)
    assert ends[failing] == ""
    assert ends[1 - failing] == f"on rank {failing}: it broke"


@pytest.mark.parametrize("failing", [0, 1])
def test_a_failure_amid_a_session_is_told_at_once(failing: int) -> None:
    def act(ranks: Ranks, rank: int) -> Any:
        opened(ranks, rank, more=True)
        if rank == failing:
            ranks.step_aside("it broke")
            return ranks.failure
        return ranks.first(lambda: "said")

    ends = together(act)
    assert ends[failing] == ""
    assert ends[1 - failing] == f"on rank {failing}: it broke"


def test_what_fails_on_both_is_told_on_both() -> None:
    def act(ranks: Ranks, rank: int) -> Any:
        opened(ranks, rank, more=True)
        ranks.step_aside("it broke")
        return ranks.failure

    assert together(act) == ["", ""]


def test_a_single_rank_sends_nothing() -> None:
    class Alone:
        world_size, global_rank, strategy = 1, 0, None

    ranks = Ranks(Alone(), (4, 1), torch.float32)
    losses = torch.ones(4, 1)
    assert ranks.open(losses, affordable=False, more=True).losses is losses
    assert ranks.first(lambda: "said") == "said"
    assert ranks.any(True)
    ranks.close()
    ranks.step_aside("it broke")
    assert ranks.failure == ""
