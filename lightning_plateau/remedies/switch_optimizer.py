"""switch-optimizer: go on with another optimizer, groups and schedules carried over."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from torch import nn

from lightning_plateau.core.history import History
from lightning_plateau.core.remedy import Change, Remedy, Safety
from lightning_plateau.core.step_length import ORDINARY
from lightning_plateau.core.updates import weight_updates
from lightning_plateau.training import learning_rate
from lightning_plateau.training.optimizer_switch import (
    KINDS,
    cycles_momentum,
    kind_of,
    published_settings,
    put,
    successor,
)
from lightning_plateau.training.snapshot import optimizer_state, restore_optimizer

Kind = Literal["sgd", "adam", "adamw", "rmsprop", "adagrad"]
NORMALIZING = {"adam": 1.0, "adamw": 1.0, "rmsprop": 0.3, "adagrad": 10.0}
"""Optimizers whose steps do not grow with the gradient, and how their rates compare."""
SMALLEST, LARGEST = 1e-5, 1e-2
FEW_STEPS, MOST_LONGER = 1000, 3.0
"""Steps below which each must be longer than an ordinary one, and by how much at most."""
CUSTOMARY_SGD = 0.01
EXACT_SETTINGS = ("betas", "eps", "alpha", "rho", "lr_decay")


@dataclass(frozen=True)
class SwitchOptimizer(Remedy):
    """Go on with another of torch's optimizers.

    Args:
        to: The new optimizer: ``"sgd"``, ``"adam"``, ``"adamw"``, ``"rmsprop"`` or ``"adagrad"``.
            None takes Adam in place of SGD and Adagrad, Adam as published in place of one with odd
            settings, and SGD with momentum in place of the others.
        lr: Its learning rate, above 0; None derives it from the size of the weights, and for SGD
            from that of the gradients.

    What it changes:
        A new optimizer takes the place of the old one in the Trainer and in the schedulers. The
        groups, their order, their weight decay and the ratios of their learning rates stay; the
        schedule keeps its shape. The new optimizer begins without a memory.

    When it helps:
        Where gradients differ by orders of magnitude from layer to layer or are tiny, plain SGD
        gets nowhere and Adam does. Where Adam is unstable, SGD with momentum is worth a try.

    Safety:
        It refuses a schedule that moves the momentum too, classes other than torch's own five,
        manual optimization, sharded and compiled optimizers and DeepSpeed. A checkpoint holds the
        state of the *new* optimizer: it resumes with this library, which puts the new one in place
        first; **without it, configure the new optimizer in your code.** The weights load either
        way.

    How to undo:
        It is reverted by itself where it does not help: an optimizer of the old kind with the old
        settings and the old memory takes its place back, bit for bit.

    Example:
        >>> SwitchOptimizer(to="adam").replaces_optimizer
        True

    References:
        Kingma and Ba, 2015, "Adam: A Method for Stochastic Optimization". Zhang et al., 2021,
        "AutoTrainer" (ICSE).
    """

    name: ClassVar[str] = "switch-optimizer"
    safety: ClassVar[Safety] = Safety.UNSAFE
    lasting: ClassVar[bool] = True
    replaces_optimizer: ClassVar[bool] = True

    to: Kind | None = None
    lr: float | None = None

    def __post_init__(self) -> None:
        if self.to is not None and self.to not in KINDS:
            raise ValueError(f"to must be one of {', '.join(KINDS)}, but is {self.to!r}")
        if self.lr is not None and not 0.0 < self.lr < math.inf:
            raise ValueError(f"lr must be a positive finite number, but is {self.lr}")

    def obstacle(self, run: Any) -> str | None:
        """Return why the optimizer must stay; None where it need not."""
        if len(run.adapters) != 1:
            return f"there are {len(run.adapters)} optimizers, which are tuned to each other"
        [adapter] = run.adapters
        optimizer, kind = adapter.optimizer, kind_of(adapter.optimizer)
        reasons = {
            f"{type(optimizer).__name__} is none of {', '.join(KINDS)}": kind is None,
            "you step the optimizer yourself, and may hold on to it": adapter.manual,
            "the step of the optimizer is compiled": adapter.compiled,
            "the schedule moves the momentum too": cycles_momentum(adapter.schedulers),
            "the learning rate is 0": not _rate(optimizer) > 0,
        }
        own = next((reason for reason, applies in reasons.items() if applies), None)
        return own or adapter.obstacle("roll-back") or adapter.obstacle("scale-learning-rate")

    def apply(self, run: Any) -> Change:
        """Put the new optimizer in place."""
        [adapter] = run.adapters
        old = adapter.optimizer
        kind = self.to or _suitable(old)
        before = {"optimizer": type(old).__name__, **run.learning_rates}
        undo = {"optimizer": optimizer_state(old, "cpu"), "kind": kind}
        planned = run.history.profile.planned_steps
        left = None if planned is None else planned - run.step
        rate = self.lr or suitable_rate(run.history, run.module, kind, left) or _rate(old)
        put(run.trainer, old, successor(old, kind))
        run.adapt()
        undo["since"] = [run.optimizer_since, run.step]
        run.optimizer_since = run.step
        [adapter] = run.adapters
        undo["learning_rates"] = adapter.scale_learning_rate(rate / _rate(adapter.optimizer))
        after = {"optimizer": KINDS[kind].__name__, **run.learning_rates}
        return Change(before, after, undo)

    def revert(self, run: Any, change: Change) -> None:
        """Put the old optimizer back."""
        [adapter] = run.adapters
        saved = change.undo["optimizer"]
        old = successor(adapter.optimizer, saved["kind"].lower())
        moving = set(learning_rate.GROUP_KEYS)
        for group, settings in zip(old.param_groups, saved["groups"], strict=True):
            group.update({k: v for k, v in settings.items() if k not in moving})
        restore_optimizer(old, saved, schedule=False)
        put(run.trainer, adapter.optimizer, old)
        run.adapt()
        run.optimizer_since = _since(change)[0]
        run.adapters[0].restore_learning_rate(change.undo["learning_rates"])

    def resume(self, run: Any, change: Change) -> None:
        """Put the new optimizer in place again; Lightning then loads its state."""
        [adapter] = run.adapters
        put(run.trainer, adapter.optimizer, successor(adapter.optimizer, change.undo["kind"]))
        run.adapt()
        run.optimizer_since = _since(change)[1]


def _since(change: Change) -> tuple[int, int]:
    """Return the steps at which both optimizers took over; early states do not tell."""
    old, new = change.undo.get("since", (0, 0))
    return old, new


def _rate(optimizer: Any) -> float:
    group = optimizer.param_groups[0]
    return float(group["lr"]) or float(group.get("initial_lr", 0.0))


def _suitable(optimizer: Any) -> str:
    """Return the kind to try in place of an optimizer."""
    kind = kind_of(optimizer)
    if kind in ("sgd", "adagrad"):
        return "adam"
    published = published_settings(optimizer, str(kind))
    odd = any(
        group[name] != published[name]
        for group in optimizer.param_groups
        for name in EXACT_SETTINGS
        if name in published
    )
    return "adam" if odd else "sgd"


def suitable_rate(
    history: History, module: nn.Module, kind: str, steps_left: int | None = None
) -> float | None:
    """Return a learning rate whose first update is ordinary; None where that is not known.

    Args:
        history: What was recorded.
        module: The module that is trained.
        kind: The optimizer.
        steps_left: Optimizer steps that are left; None where that is not known. The first steps of
            a run go one way, and lead as far as their number: few of them must be longer.
    """
    if kind in NORMALIZING:
        sizes = [
            float(p.detach().float().square().mean().sqrt())
            for p in module.parameters()
            if p.requires_grad and p.dim() >= 2 and p.numel()
        ]
        sound = [size for size in sizes if 0.0 < size < math.inf]
        few = max(1.0, FEW_STEPS / max(steps_left or FEW_STEPS, 1))
        longer = min(MOST_LONGER, few)
        rate = longer * ORDINARY * float(np.median(sound)) * NORMALIZING[kind] if sound else 1e-3
    else:
        moved = weight_updates(history)
        # With a momentum of 0.9 the steps add up to ten times their length.
        known = moved is not None and moved.gradient > 0
        rate = 0.3 * ORDINARY / moved.gradient if known and moved is not None else CUSTOMARY_SGD
        return float(f"{min(0.3, max(1e-4, rate)):.0e}")
    return float(f"{min(LARGEST, max(SMALLEST, rate)):.0e}")
