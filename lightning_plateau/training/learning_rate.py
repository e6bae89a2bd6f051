"""Scaling the learning rate of an optimizer so that every scheduler keeps the factor.

Writing to ``group["lr"]`` alone does not last: most schedulers compute the next value from numbers
of their own (``base_lrs``, ``eta_min``, ``max_lr`` …). Here *all* numbers that a schedule is made
of are scaled. They are part of the state of optimizer and scheduler, so the factor survives a
checkpoint, also for a user who resumes without this library.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

GROUP_KEYS = ("lr", "initial_lr", "max_lr", "min_lr", "swa_lr")
SCHEDULER_KEYS = ("base_lrs", "max_lrs", "min_lrs", "default_min_lr", "_last_lr", "eta_min")
SIMULATED_STEPS = 300

Slots = dict[str, tuple[Any, Any]]
"""Every number of a schedule by name: the container that holds it, and its key there."""


def scale(optimizer: Any, schedulers: Sequence[Any], factor: float) -> dict[str, Any]:
    """Multiply every learning rate of ``optimizer`` and of its schedule by ``factor``.

    Args:
        optimizer: A torch optimizer, or what has ``param_groups``.
        schedulers: The schedulers that drive it.
        factor: Positive number.

    Returns:
        What ``restore`` needs, in plain types.

    Raises:
        ValueError: If ``factor`` is not a positive finite number.

    Example:
        >>> from torch.optim import SGD
        >>> from torch.optim.lr_scheduler import CosineAnnealingLR
        >>> optimizer = SGD([torch.zeros(1)], lr=0.1)
        >>> schedule = CosineAnnealingLR(optimizer, T_max=10, eta_min=0.02)
        >>> undo = scale(optimizer, [schedule], 0.5)
        >>> optimizer.param_groups[0]["lr"], schedule.eta_min
        (0.05, 0.01)
        >>> restore(optimizer, [schedule], undo)
        >>> optimizer.param_groups[0]["lr"], schedule.eta_min
        (0.1, 0.02)
    """
    if not 0.0 < factor < float("inf"):
        raise ValueError(f"factor must be a positive finite number, but is {factor}")
    slots = _slots(optimizer, schedulers)
    before = {name: _read(slot) for name, slot in slots.items()}
    for name, slot in slots.items():
        _write(slot, before[name] * factor)
    after = {name: _read(slot) for name, slot in slots.items()}
    return {"factor": factor, "before": before, "after": after}


def restore(optimizer: Any, schedulers: Sequence[Any], undo: Mapping[str, Any]) -> None:
    """Take back what ``scale`` did.

    Numbers that have not moved since get their old value back, bit for bit; those that the schedule
    has moved meanwhile are divided by the factor, so that the schedule goes on from where it is.
    """
    for name, slot in _slots(optimizer, schedulers).items():
        value = _read(slot)
        if name in undo["before"] and value == undo["after"][name]:
            _write(slot, undo["before"][name])
        else:
            _write(slot, value / undo["factor"])


def keeps_scale(optimizer: Any, scheduler: Any, factor: float = 0.5) -> bool:
    """Whether a scaled schedule stays the scaled schedule, tried on copies for 300 steps.

    torch's own schedulers are known to; for all others the copies tell. A scheduler that cannot be
    copied or stepped without arguments counts as one that does not keep it.
    """
    if _of_torch(scheduler):
        return True
    try:
        plain = _copy(optimizer, scheduler)
        scaled = _copy(optimizer, scheduler)
        scale(scaled.optimizer, [scaled], factor)
        for _ in range(SIMULATED_STEPS):
            plain.step()
            scaled.step()
            pairs = zip(_rates(plain.optimizer), _rates(scaled.optimizer), strict=True)
            if any(abs(b - factor * a) > 1e-6 * abs(a) for a, b in pairs):
                return False
    except Exception:  # noqa: BLE001 - somebody else's class on a copy: whatever it raises means no
        return False
    return True


def rates(optimizer: Any) -> tuple[float, ...]:
    """Return the learning rate of each group; a tensor on an accelerator is waited for."""
    return tuple(_rates(optimizer))


def _rates(optimizer: Any) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def _slots(optimizer: Any, schedulers: Sequence[Any]) -> Slots:
    slots: Slots = {}
    for index, group in enumerate(optimizer.param_groups):
        for key in GROUP_KEYS:
            if _is_number(group.get(key)):
                slots[f"groups.{index}.{key}"] = (group, key)
    for index, scheduler in enumerate(schedulers):
        for name, slot in _scheduler_slots(scheduler, f"schedulers.{index}"):
            slots[name] = slot
    return slots


def _scheduler_slots(scheduler: Any, path: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    held = vars(scheduler)
    # ReduceLROnPlateau ignores reductions below `eps`, which is a learning rate too.
    keys = (*SCHEDULER_KEYS, "eps") if "min_lrs" in held else SCHEDULER_KEYS
    for key in keys:
        value = held.get(key)
        if _is_number(value):
            yield f"{path}.{key}", (held, key)
        elif isinstance(value, tuple | list):
            # A list of its own: two schedulers may have been given the same one.
            held[key] = list(value)
            for index, item in enumerate(held[key]):
                if _is_number(item):
                    yield f"{path}.{key}.{index}", (held[key], index)
    for index, inner in enumerate(held.get("_schedulers", ())):
        yield from _scheduler_slots(inner, f"{path}.{index}")


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read(slot: tuple[Any, Any]) -> float:
    container, key = slot
    return float(container[key])


def _write(slot: tuple[Any, Any], value: float) -> None:
    container, key = slot
    held = container[key]
    if not isinstance(held, Tensor):
        container[key] = value
    elif key == "lr":
        # In place: a compiled or capturable step holds on to this very tensor.
        with torch.no_grad():
            held.fill_(value)
    else:
        container[key] = torch.full_like(held, value)


def _of_torch(scheduler: Any) -> bool:
    inner = vars(scheduler).get("_schedulers", ())
    own = type(scheduler).__module__ == "torch.optim.lr_scheduler"
    return own and all(_of_torch(item) for item in inner)


class _Groups:
    """Stands for an optimizer in a copied scheduler: its settings without its parameters."""

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        self.param_groups = groups
        # Schedulers look at both to warn about `scheduler.step()` before `optimizer.step()`.
        self._opt_called = True
        self.step = _stepped


def _copy(optimizer: Any, scheduler: Any) -> Any:
    groups = [
        {key: () if key == "params" else copy.deepcopy(value) for key, value in group.items()}
        for group in optimizer.param_groups
    ]
    return _copied(scheduler, {id(optimizer): _Groups(groups)})


def _stepped() -> None:
    """Stand for a step, as a scheduler leaves it behind when it is made."""


vars(_stepped)["_wrapped_by_lr_sched"] = True


def _copied(value: Any, known: dict[int, Any]) -> Any:
    """Copy what a scheduler is made of, and refuse the rest.

    A deep copy would follow a reference to the module or the Trainer wherever it leads.

    Raises:
        TypeError: If ``value`` is something that is neither plain, a function nor a scheduler.
    """
    if id(value) in known:
        return known[id(value)]
    if value is None or isinstance(value, str | int | float | FunctionType | Tensor):
        return value.clone() if isinstance(value, Tensor) else value
    if isinstance(value, list | tuple):
        return type(value)(_copied(item, known) for item in value)
    if isinstance(value, dict):
        return type(value)((key, _copied(item, known)) for key, item in value.items())
    if isinstance(value, LRScheduler):
        twin = known[id(value)] = object.__new__(type(value))
        vars(twin).update({key: _copied(item, known) for key, item in vars(value).items()})
        return twin
    raise TypeError(f"expected a part of a scheduler, but received {type(value).__name__}")
