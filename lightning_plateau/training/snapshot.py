"""A snapshot: the state of a training, copied out and copied back, bit for bit."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from lightning_plateau.training.run import Run

Plain = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Parameters, buffers, optimizers, schedulers, gradient scaler and random states at one step.

    Everything is copied when it is taken and copied again when it is restored: a snapshot shares no
    memory with the training, so it can be restored many times. What counts steps, batches and
    epochs is not part of it: a training that is rolled back goes on counting.

    Attributes:
        step: Optimizer step at which it was taken.
        state: Plain types and tensors.
    """

    step: int
    state: Mapping[str, Any]

    @classmethod
    def take(cls, run: Run, device: torch.device | str = "cpu") -> Snapshot:
        """Copy the state of ``run`` to ``device``; an accelerator is waited for."""
        with torch.no_grad():
            state = {
                "module": {name: _copied(tensor, device) for name, tensor in _tensors(run)},
                "optimizers": [optimizer_state(a.optimizer, device) for a in run.adapters],
                "schedulers": [
                    _copied(config.scheduler.state_dict(), device)
                    for config in run.trainer.lr_scheduler_configs
                ],
                "scaler": None if run.scaler is None else dict(run.scaler.state_dict()),
                "random": random_state(),
            }
        return cls(run.step, state)

    def restore(self, run: Run, *, rng: bool = False, schedule: bool = True) -> None:
        """Copy the state back into the objects of ``run``.

        Args:
            run: The run that it was taken of, or one that is built the same.
            rng: Whether to restore the random states too, and so repeat the same randomness.
            schedule: Whether to restore learning rates and schedulers too. Without it a training
                that is rolled back keeps the schedule, which ends when the training ends.
        """
        with torch.no_grad():
            for name, tensor in _tensors(run):
                tensor.copy_(self.state["module"][name])
            for adapter, state in zip(run.adapters, self.state["optimizers"], strict=True):
                restore_optimizer(adapter.optimizer, state, schedule)
        if schedule:
            configs = run.trainer.lr_scheduler_configs
            for config, held in zip(configs, self.state["schedulers"], strict=True):
                config.scheduler.load_state_dict(_copied(held, None))
        if run.scaler is not None and self.state["scaler"]:
            run.scaler.load_state_dict(dict(self.state["scaler"]))
        if rng:
            restore_random_state(self.state["random"])

    @property
    def finite(self) -> bool:
        """Whether every parameter and buffer is finite."""
        return all(
            bool(torch.isfinite(tensor).all())
            for tensor in self.state["module"].values()
            if tensor.is_floating_point() or tensor.is_complex()
        )

    def state_dict(self) -> Plain:
        """Return the snapshot in plain types and tensors."""
        return {"step": self.step, "state": dict(self.state)}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Snapshot:
        """Return the snapshot that ``state_dict`` described."""
        return cls(state["step"], state["state"])


def _tensors(run: Run) -> Iterable[tuple[str, Tensor]]:
    yield from run.module.named_parameters()
    yield from run.module.named_buffers()


def _copied(value: Any, device: torch.device | str | None) -> Any:
    """Copy plain types and tensors; ``device`` None leaves tensors where they are.

    Anything else, such as the function of a LambdaLR, has no state and is left as it is.
    """
    if isinstance(value, Tensor):
        copy = value.detach().clone()
        return copy if device is None else copy.to(device)
    if isinstance(value, dict):
        return type(value)((key, _copied(item, device)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return type(value)(_copied(item, device) for item in value)
    return value


def optimizer_state(optimizer: Any, device: torch.device | str) -> Plain:
    """Return the settings and the state of an optimizer, copied to ``device``, in plain types."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return {
        "kind": type(optimizer).__name__,
        "groups": [
            {key: _copied(value, device) for key, value in group.items() if key != "params"}
            for group in optimizer.param_groups
        ],
        "state": [
            _copied(dict(optimizer.state[p]), device) if p in optimizer.state else None
            for p in parameters
        ],
        # Adam keeps its step count on the CPU, its moments beside the parameter.
        "beside": [
            [k for k, v in _state_of(optimizer, p).items() if _is_beside(v, p)] for p in parameters
        ],
    }


def _state_of(optimizer: Any, parameter: Tensor) -> Mapping[str, Any]:
    # The state is a `defaultdict`: `get` adds no entry.
    state: Mapping[str, Any] = optimizer.state.get(parameter, {})
    return state


def _is_beside(value: Any, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.device == parameter.device


def restore_optimizer(optimizer: Any, saved: Plain, schedule: bool) -> None:
    """Copy back what ``optimizer_state`` has copied out.

    An optimizer of another kind, which has taken its place since, begins afresh instead.
    """
    if saved["kind"] != type(optimizer).__name__:
        optimizer.state.clear()
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for parameter, state, beside in zip(parameters, saved["state"], saved["beside"], strict=True):
        if state is None:
            optimizer.state.pop(parameter, None)
            continue
        live = optimizer.state[parameter]
        for key in set(live) - set(state):
            del live[key]
        for key, value in state.items():
            live[key] = _placed(value, live.get(key), parameter if key in beside else None)
    if not schedule:
        return
    for group, settings in zip(optimizer.param_groups, saved["groups"], strict=True):
        for key, value in settings.items():
            group[key] = _placed(value, group.get(key), None)


def _placed(value: Any, live: Any, parameter: Tensor | None) -> Any:
    """Return a copy of ``value`` for the training, in the tensor that it uses where it can."""
    if not isinstance(value, Tensor):
        return _copied(value, None)
    if isinstance(live, Tensor) and live.shape == value.shape and live.dtype == value.dtype:
        return live.copy_(value)
    return value.clone() if parameter is None else value.to(parameter.device, copy=True)


@contextmanager
def randomness_kept() -> Iterator[None]:
    """Put every random generator of the process back into its state when the block ends."""
    state = random_state()
    try:
        yield
    finally:
        restore_random_state(state)


def random_state() -> Plain:
    """Return the state of every random generator of the process, in plain types and tensors."""
    legacy: tuple[Any, ...] = tuple(np.random.get_state(legacy=True))  # noqa: NPY002
    name, keys, position, has_gauss, gauss = legacy
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cuda = torch.cuda.get_rng_state_all() if started else []
    return {
        "torch": torch.get_rng_state(),
        "cuda": cuda,
        "python": random.getstate(),
        # uint32 words as int64: older versions of torch know no uint32 in checkpoints.
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss],
    }


def restore_random_state(state: Plain) -> None:
    """Put every random generator of the process into ``state``."""
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
