"""The run: what a remedy is given of a training."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, cast

import numpy as np
from torch import Tensor, nn

from lightning_plateau.core.chance import untrained_loss
from lightning_plateau.core.history import History
from lightning_plateau.core.profile import Value
from lightning_plateau.core.signal import LOSS
from lightning_plateau.core.spoilt import spoilt
from lightning_plateau.training.clipping import usual_norm
from lightning_plateau.training.guard import Guard
from lightning_plateau.training.optimizers import OptimizerAdapter, adapt
from lightning_plateau.training.snapshot import Snapshot

KEPT = 2
BATCHES = 8
LATEST = 10
DESTROYED = 10.0
LEARNED = 0.05
"""Share by which the loss must have fallen for something to have been learned."""


@dataclass
class Snapshots:
    """The snapshots to go back to, on the host: the first one and the last two good ones.

    They are not part of a checkpoint, which is a snapshot itself: a resumed run starts with that.

    Attributes:
        every_n_steps: Optimizer steps between two of them, at least.
        initial: The first one.
        good: The last two, ascending.
        restored: How many times the run was rolled back.
    """

    every_n_steps: int = 500
    initial: Snapshot | None = None
    good: tuple[Snapshot, ...] = ()
    restored: int = 0

    def due(self, step: int) -> bool:
        """Whether so many steps have passed since the last one that another may be taken."""
        last = self.good[-1] if self.good else self.initial
        return last is None or step - last.step >= self.every_n_steps

    def keep(self, run: Run) -> bool:
        """Take one of a run that is well; return whether it was finite and was kept."""
        snapshot = Snapshot.take(run)
        # What is known of a run on an accelerator may be a few steps old: look at the copy itself.
        if not snapshot.finite:
            return False
        if self.initial is None:
            self.initial = snapshot
        else:
            self.good = (*self.good, snapshot)[-KEPT:]
        return True

    def begin_with(self, snapshot: Snapshot) -> None:
        """Take ``snapshot`` for the first one: those before it belong to another network."""
        self.initial, self.good = snapshot, ()

    def before(self, step: float) -> tuple[Snapshot, ...]:
        """Return those taken before a step, the last one first."""
        first = () if self.initial is None else (self.initial,)
        return tuple(s for s in (*first, *self.good) if s.step < step or s is self.initial)[::-1]

    def forget_after(self, snapshot: Snapshot) -> None:
        """Give up those that were taken after ``snapshot``."""
        self.good = tuple(s for s in self.good if s.step <= snapshot.step)

    def latest(self, before: int | None = None) -> Snapshot | None:
        """Return the last good one taken before step ``before``, else the first one, if any."""
        usable = self.before(math.inf if before is None else before)
        return usable[0] if usable else None

    def state_dict(self) -> dict[str, Any]:
        """Return the count in plain types."""
        return {"restored": self.restored}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue to count from ``state``."""
        self.restored = state["restored"]


class Attachment(Protocol):
    """What a remedy hangs on a training: hooks that act from step to step."""

    def close(self) -> None:
        """Take it off; the training goes on as if it had never been there."""

    def finish(self) -> None:
        """Take it off at the end of training, what it did to the network made lasting."""


@dataclass
class Run:
    """A training as remedies see it.

    Attributes:
        trainer: The Trainer.
        module: The LightningModule.
        adapters: One for each optimizer.
        guard: What acts on each step.
        snapshots: States to go back to.
        step: Optimizer steps made, on the library's own clock.
        history: What was recorded so far.
        optimizer_since: Optimizer step at which the present optimizer took over; what was recorded
            of updates before says nothing of its steps.
        allow_user_overrides: Whether a remedy may overrule what the user has set.
        stop_reason: Why the run was stopped; empty while it was not.
        batch: The batch under way, in the moments in which remedies are applied; None otherwise.
        batches: The latest batches, where remedies are compared on them; empty otherwise.
        attachments: What remedies have hung on the training, by the name of the remedy.
    """

    trainer: Any
    module: nn.Module
    adapters: tuple[OptimizerAdapter, ...]
    guard: Guard
    snapshots: Snapshots = field(default_factory=Snapshots)
    step: int = 0
    history: History = field(default_factory=History)
    optimizer_since: int = 0
    allow_user_overrides: bool = False
    stop_reason: str = ""
    batch: Any = field(default=None, repr=False)
    batches: deque[Any] = field(default_factory=partial(deque, maxlen=BATCHES), repr=False)
    attachments: dict[str, Attachment] = field(default_factory=dict)

    @classmethod
    def of(cls, trainer: Any, module: nn.Module, adapters: tuple[OptimizerAdapter, ...]) -> Run:
        """Return the run of a Trainer whose optimizers are set up."""
        return cls(trainer, module, adapters, Guard(module))

    @property
    def scaler(self) -> Any:
        """The gradient scaler of mixed precision; None where there is none."""
        return self.adapters[0].scaler if self.adapters else None

    @property
    def learning_rates(self) -> dict[str, Value]:
        """The learning rates by group, for people; an accelerator may be waited for."""
        rates = [rate for adapter in self.adapters for rate in adapter.learning_rates]
        if len(rates) == 1:
            return {"learning_rate": rates[0]}
        return {f"learning_rate/{index}": rate for index, rate in enumerate(rates)}

    @property
    def broken(self) -> bool:
        """Whether what the run had learned is destroyed.

        Most of the latest losses are not finite, or they are ten times as high as at the start.
        """
        losses = self.history[LOSS].values
        latest, first = losses[-LATEST:], losses[np.isfinite(losses)][:LATEST]
        finite = latest[np.isfinite(latest)]
        if len(latest) < LATEST or len(first) == 0:
            return bool(len(losses) and not np.isfinite(latest).any())
        if 2 * len(finite) < len(latest):
            return True
        start = float(np.median(first))
        return float(np.median(finite)) > start + DESTROYED * abs(start)

    @property
    def worthless(self) -> bool:
        """Whether the run, as it is now, is worth no more than the weights that it began with.

        The latest losses are not finite, or not materially below that of the first step or of
        guessing: nothing was learned yet, or it is lost. Such a run loses nothing when it goes
        back, and one that is ``ruined`` next to nothing.
        """
        return self._has_learned is False or self.ruined

    @property
    def ruined(self) -> bool:
        """Whether the run has learned something with what is left of a network that is spoilt."""
        since = self.optimizer_since
        seen = self.history.since(since) if since else self.history
        return self._has_learned is True and spoilt(seen)

    @property
    def _has_learned(self) -> bool | None:
        """Whether the latest losses lie materially below that of guessing; None where unknown."""
        losses = self.history[LOSS].values
        latest, untrained = losses[-LATEST:], untrained_loss(self.history)
        if len(losses) < LATEST or untrained is None:
            return None
        if 2 * np.isfinite(latest).sum() < len(latest):
            return False
        return float(np.nanmedian(latest)) <= untrained - LEARNED * abs(untrained)

    @property
    def untaped(self) -> str:
        """Why there is no tape of the forward pass, in words."""
        parts = self.module.modules()
        # A hook on such a part is never called, and a part of it that is replaced is never seen.
        compiled = any(
            "_orig_mod" in p._modules or p._compiled_call_impl is not None for p in parts
        )
        why = " because a part of the module is compiled" * compiled
        return f"the forward pass was not taped{why}"

    def refresh(self, history: History) -> None:
        """Take what was recorded since, and let an adaptive limit of clipping follow it."""
        self.history = history
        share, quantile = self.guard.settings.clip_share, self.guard.settings.clip_quantile
        usual = None if share is None else usual_norm(history, quantile)
        if share is not None and usual is not None:
            self.guard.settings = replace(self.guard.settings, clip_norm=share * usual)

    def paced(self, index: int, place: int, rate: float) -> float:
        """Return the learning rate with which a group is really updated."""
        pace: Any = self.attachments.get("pace")
        return rate if pace is None else float(pace.rate(index, place, rate))

    def judged(self, norms: Tensor) -> Tensor:
        """Return gradient norms as the guard is to see them: NaN for a batch in quarantine."""
        quarantine: Any = self.attachments.get("quarantine")
        return norms if quarantine is None else cast(Tensor, quarantine.judged(norms))

    def attach(self, name: str, attachment: Attachment) -> None:
        """Hang something on the training, in place of what had that name."""
        self.detach(name)
        self.attachments[name] = attachment

    def detach(self, name: str) -> None:
        """Take off what has that name, if anything."""
        attachment = self.attachments.pop(name, None)
        if attachment is not None:
            attachment.close()

    def adapt(self) -> None:
        """Look at the optimizers anew, after one was replaced."""
        self.guard.close()
        self.adapters = adapt(self.trainer)

    def close(self) -> None:
        """Take everything off the training that was put on it: it ends, or fails."""
        self.guard.close()
        while self.attachments:
            _, attachment = self.attachments.popitem()
            attachment.finish()

    def stop(self, reason: str) -> None:
        """End the training after the batch under way; call it on every rank at the same step."""
        self.stop_reason = reason
        self.trainer.should_stop = True
