"""What the ranks of a run do together, so that none waits for one that has stepped aside."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
FLAGS = 2
"""Numbers of a meeting beside losses and failures: what rank zero affords, and an answer."""
WAIT = timedelta(seconds=60)
"""How long a rank waits at the end of its data for ranks that may have more."""


class RankFailedError(RuntimeError):
    """Watching has failed on another rank, and so ends on all of them."""


@dataclass(frozen=True)
class Meeting:
    """What a meeting of the ranks has come to.

    Attributes:
        losses: The losses, averaged.
        affordable: What rank zero affords.
        answer: Whether any rank has said yes.
    """

    losses: Tensor
    affordable: bool
    answer: bool


class Ranks:
    """The ranks of a run; on a single one nothing is sent.

    All of them call the same methods at the same steps. Each call is one meeting: an all-reduce of
    a few numbers whose count never changes, so that a rank on which watching has failed can take
    part in whichever meeting comes next, and say so. Then watching ends on all of them, and the
    training goes on.

    Meetings come in sessions: one that every rank foresees, at a drain, opens it and says whether
    more will follow. So a rank that fails knows when it is waited for: at the next meeting where a
    session goes on, else when the next one opens.

    Args:
        trainer: The Trainer, whose strategy does the sending.
        shape: Steps between drains, and optimizers.
        dtype: Type in which losses are sent.
        clock: Optimizer steps made.

    Attributes:
        several: Whether there is more than one.
        failure: Why watching has failed on this rank, which no other has heard yet; empty if not.
    """

    def __init__(
        self, trainer: Any, shape: tuple[int, int], dtype: torch.dtype, clock: int = 0
    ) -> None:
        self.several = bool(trainer.world_size > 1)
        self.failure = ""
        self._strategy = trainer.strategy
        self._world_size, self._rank = trainer.world_size, trainer.global_rank
        self._shape = shape
        self._dtype = dtype
        self._clock = clock
        self._stepped = self._going_on = False
        self._end: Any = None

    def expect_uneven_ends(self) -> None:
        """Let no rank wait for ever at its end: the others may have more batches, or fewer.

        Every rank calls it before the first step. The group is one of its own, for the others may
        be averaging gradients when a rank comes to its end.
        """
        if torch.distributed.is_initialized() and torch.distributed.is_gloo_available():
            self._end = torch.distributed.new_group(timeout=WAIT, backend="gloo")

    @property
    def end_together(self) -> bool:
        """Whether the others come to the end now, too, where each of them asks."""
        if self._end is None:
            return self.several
        try:
            torch.distributed.monitored_barrier(self._end, WAIT)
        except RuntimeError:  # they wait for this one to average gradients, or are gone
            return False
        return True

    def meet(
        self,
        losses: Tensor | None = None,
        *,
        affordable: bool = True,
        answer: bool = False,
        failure: str = "",
    ) -> Meeting:
        """Exchange what the ranks have to say.

        Args:
            losses: Losses of the steps since the last drain, ``shape``; None where there are none.
            affordable: Whether a close look may be taken; rank zero's word holds.
            answer: A question's answer on this rank.
            failure: Why watching has failed on this rank; empty where it has not.

        Raises:
            RankFailedError: If watching has failed on a rank, this one or another.
        """
        mine = torch.zeros(self._shape, dtype=self._dtype) if losses is None else losses
        if not self.several:
            return Meeting(mine, affordable, answer)
        said = torch.zeros(FLAGS + self._world_size, dtype=self._dtype)
        said[0], said[1] = float(affordable and self._rank == 0), float(answer)
        said[FLAGS + self._rank] = float(bool(failure))
        device = self._strategy.root_device
        sent = torch.cat([said.to(device), mine.to(device, self._dtype).reshape(-1)])
        total = self._strategy.reduce(sent, reduce_op="sum")
        heard = total[: len(said)].tolist()
        if any(heard[FLAGS:]):
            self._hear(next(rank for rank, said in enumerate(heard[FLAGS:]) if said), failure)
        averaged = (total[len(said) :] / self._world_size).reshape(self._shape).to(mine.device)
        return Meeting(averaged, bool(heard[0]), bool(heard[1]))

    def _hear(self, rank: int, failure: str) -> None:
        text = self._strategy.broadcast(failure, src=rank)
        raise RankFailedError(f"on rank {rank}: {text}")

    def any(self, answer: bool) -> bool:
        """Return whether any rank says yes."""
        return self.meet(answer=answer).answer if self.several else answer

    def first(self, make: Callable[[], T]) -> T:
        """Return what rank zero makes of it; the others make nothing."""
        made = make() if self._rank == 0 else None
        if not self.several:
            return made  # type: ignore[return-value]
        self.meet()
        shared: T = self._strategy.broadcast(made)
        return shared

    def largest(self, values: Tensor) -> Tensor:
        """Return the elementwise maximum of ``values`` over the ranks."""
        self.meet()
        most: Tensor = self._strategy.reduce(values, reduce_op="max")
        return most

    # -- sessions -------------------------------------------------------------------------------

    def open(self, losses: Tensor, *, affordable: bool, more: bool) -> Meeting:
        """Open a session.

        Args:
            losses: Losses of the steps since the last drain, ``shape``.
            affordable: Whether a close look may be taken; rank zero's word holds.
            more: Whether more meetings are to follow; one rank that says so is enough.
        """
        meeting = self.meet(losses, affordable=affordable, answer=more)
        self._going_on = self.several and meeting.answer
        return meeting

    def close(self) -> None:
        """Close the session: nobody leaves it before all have come to its end."""
        if self._going_on:
            self.meet()
            self._going_on = False

    # -- a rank on which watching has failed ----------------------------------------------------

    def step_aside(self, failure: str) -> None:
        """Note that watching has failed here, and say so at once where a session goes on."""
        self.failure = failure if self.several else ""
        if self._going_on:
            self.answer()

    def answer(self) -> None:
        """Come to the meeting that the others are about to have, and say what has failed."""
        failure, self.failure = self.failure, ""
        self._going_on = False
        if failure:
            # Where it is the others that are gone, there is nobody to tell.
            with suppress(RuntimeError):
                self.meet(failure=failure)

    def answer_at_end(self) -> None:
        """Do the same at the end of training."""
        if self.failure and not self.end_together:
            self.failure = ""
        self.answer()

    def note_step(self) -> None:
        """Note that an optimizer is about to make a step."""
        self._stepped = True

    def end_batch(self, *, news: bool) -> None:
        """Count the step that the batch has ended, if any; answer where the others meet now.

        Args:
            news: Whether the others meet whatever the step is.
        """
        if not self._stepped:
            return
        self._stepped = False
        self._clock += 1
        if self.failure and (news or self._clock % self._shape[0] == 0):
            self.answer()
