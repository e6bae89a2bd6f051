"""A rehearsal: steps on batches that were seen before, made by the training itself, and taken back.

Remedies change the Trainer, its optimizers and the module; a copy of these would not be the same
training. So the steps are made on the originals, between two batches, and everything that they
touch is put back, bit for bit: weights, buffers, optimizers, schedules, random states, gradients,
metrics and what the module logs.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from lightning_plateau.recording.probes.gradients import tensor_norms
from lightning_plateau.training.run import Run
from lightning_plateau.training.snapshot import Snapshot


def obstacle(run: Run) -> str | None:
    """Return why steps of this training cannot be rehearsed; None where they can."""
    module: Any = run.module
    reasons = {
        f"there are {len(run.adapters)} optimizers": len(run.adapters) != 1,
        "you step the optimizer yourself": not module.automatic_optimization,
        "there are several ranks": run.trainer.world_size > 1,
        "a gradient scaler is at work": run.scaler is not None,
        "the optimizer evaluates its closure several times a step": any(
            adapter.closure_repeats for adapter in run.adapters
        ),
    }
    own = next((reason for reason, applies in reasons.items() if applies), None)
    return own or next(iter(r for a in run.adapters if (r := a.obstacle("roll-back"))), None)


@contextmanager
def taken_back(run: Run) -> Iterator[Snapshot]:
    """Put all back that is done to ``run`` inside; gives the state at the beginning."""
    start = Snapshot.take(run)
    parameters = list(run.module.parameters())
    gradients = [parameter.grad for parameter in parameters]
    restored, step, stop = run.snapshots.restored, run.step, run.trainer.should_stop
    try:
        with torch.enable_grad(), _silent(run.module), _metrics_kept(run.module):
            yield start
    finally:
        start.restore(run, rng=True)
        run.snapshots.restored, run.step, run.trainer.should_stop = restored, step, stop
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient


def rehearse(run: Run, batches: Sequence[Any], steps: int) -> list[float]:
    """Make ``steps`` optimizer steps on ``batches`` in turn; return the loss before each.

    To be called within ``taken_back``.
    """
    losses = []
    [adapter] = run.adapters
    module: Any = run.module
    for number in range(steps):
        for parameter in adapter.parameters:
            parameter.grad = None
        with run.trainer.precision_plugin.train_step_context():
            output = _training_step(module, batches[number % len(batches)], number)
        loss = output.get("loss") if isinstance(output, Mapping) else output
        if not isinstance(loss, Tensor):
            break
        losses.append(float(loss.detach().mean()))
        run.guard.before_batch(True)
        loss.mean().backward()  # type: ignore[no-untyped-call]
        present = [p.grad for p in adapter.parameters if p.grad is not None]
        if present:
            norms = torch.stack(tensor_norms(present))
            run.guard.before_step(adapter, norms, clipped_next=True)
        trainer = run.trainer
        module.configure_gradient_clipping(
            adapter.optimizer,
            gradient_clip_val=trainer.gradient_clip_val,
            gradient_clip_algorithm=trainer.gradient_clip_algorithm,
        )
        adapter.optimizer.step()
        run.guard.after_step()
        run.step += 1
    return losses


def _training_step(module: Any, batch: Any, number: int) -> Any:
    # A step may change what it is given.
    batch = copy.deepcopy(batch)
    names = module.training_step.__code__.co_varnames[: module.training_step.__code__.co_argcount]
    return module.training_step(batch, number) if len(names) > 2 else module.training_step(batch)


@contextmanager
def _silent(module: nn.Module) -> Iterator[None]:
    """Let nothing that the module logs reach the Trainer."""
    parts = [part for part in module.modules() if "_trainer" in vars(part)]
    names = ("log", "log_dict", "print")
    held = [{name: vars(part)[name] for name in names if name in vars(part)} for part in parts]
    try:
        for part in parts:
            vars(part).update(dict.fromkeys(names, _nothing))
        yield
    finally:
        for part, own in zip(parts, held, strict=True):
            for name in names:
                vars(part).pop(name)
            vars(part).update(own)


@contextmanager
def _metrics_kept(module: nn.Module) -> Iterator[None]:
    metrics = [part for part in module.modules() if isinstance(part, Metric)]
    held = [copy.deepcopy(vars(metric)) for metric in metrics]
    try:
        yield
    finally:
        for metric, state in zip(metrics, held, strict=True):
            vars(metric).clear()
            vars(metric).update(state)


def _nothing(*_: Any, **__: Any) -> None:
    """Stand for what must leave no trace."""
