"""The running statistics of normalization layers, saved before a batch and put back after it.

A single NaN batch poisons them for ever, also where the optimizer step is skipped: they are updated
in the forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_WORDS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Integers as wide as a value, to copy bits without computing with them."""


class RunningStatistics:
    """The buffers of every module that keeps running statistics, ``num_batches_tracked`` included.

    Args:
        module: The module that is trained.

    Example:
        >>> layer = nn.BatchNorm1d(2)
        >>> statistics = RunningStatistics(layer)
        >>> statistics.save()
        >>> _ = layer(torch.full((4, 2), float("nan")))
        >>> statistics.restore()
        >>> layer.running_mean.tolist(), int(layer.num_batches_tracked)
        ([0.0, 0.0], 0)
    """

    def __init__(self, module: nn.Module) -> None:
        self._parts = [part for part in module.modules() if _keeps_statistics(part)]
        self._live: list[Tensor] = []
        self._saved: list[Tensor] = []

    def save(self) -> None:
        """Remember the values as they are now, in memory that is allocated once."""
        live = [buffer for part in self._parts for buffer in _buffers(part)]
        if not _same(live, self._live):
            self._live = live
            self._saved = [torch.empty_like(buffer) for buffer in live]
        if live:
            torch._foreach_copy_(self._saved, self._live)

    def restore(self) -> None:
        """Put the remembered values back."""
        if self._live:
            torch._foreach_copy_(self._live, self._saved)

    def restore_where(self, flag: Tensor) -> None:
        """Put the remembered values back where ``flag`` is not zero, without waiting for it.

        The bits are selected with integers: in floating point, NaN times zero is NaN.

        Args:
            flag: 0-d tensor on the device.
        """
        words: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for live, saved in zip(self._live, self._saved, strict=True):
            kind = _WORDS[live.element_size()]
            into, out_of = words.setdefault(kind, ([], []))
            into.append(live.view(kind))
            out_of.append(saved.view(kind))
        for kind, (into, out_of) in words.items():
            difference = torch._foreach_sub(out_of, into)  # may wrap around, and wraps back below
            torch._foreach_mul_(difference, (flag != 0).to(kind))
            torch._foreach_add_(into, difference)

    def damaged(self) -> Tensor:
        """Return whether a value is not finite now, as a 0-d bool tensor that nothing waits for."""
        values = [buffer for buffer in self._live if buffer.is_floating_point()]
        if not values:
            return torch.tensor(False)
        norms = torch.stack([norm.float() for norm in torch._foreach_norm(values)])
        return ~torch.isfinite(norms).all()


@dataclass(frozen=True)
class Part:
    """A layer that keeps running statistics.

    Attributes:
        module: The layer.
        fresh: What its buffers hold before the first batch, by name.
    """

    module: nn.Module
    fresh: Mapping[str, Tensor]


def parts_with_statistics(module: nn.Module) -> dict[str, Part]:
    """Return the layers of ``module`` that keep running statistics, by name."""
    found = {}
    for name, part in module.named_modules():
        if _keeps_statistics(part):
            held = {key: value for key, value in part._buffers.items() if value is not None}
            fresh = {k: _fresh(k, v) for k, v in held.items() if k in _FRESH}
            found[name] = Part(part, fresh)
    return found


def damaged_parts(module: nn.Module) -> dict[str, Part]:
    """Return those whose statistics are not all finite; an accelerator is waited for."""
    return {
        name: part
        for name, part in parts_with_statistics(module).items()
        if not all(
            bool(torch.isfinite(buffer).all())
            for buffer in _buffers(part.module)
            if buffer.is_floating_point()
        )
    }


def write(
    module: nn.Module, values: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, dict[str, Tensor]]:
    """Copy ``values`` into the buffers of the layers of those names; return what was there."""
    before: dict[str, dict[str, Tensor]] = {}
    with torch.no_grad():
        for name, buffers in values.items():
            live = module.get_submodule(name)._buffers
            before[name] = {}
            for key, value in buffers.items():
                held = live[key]
                if held is not None:
                    before[name][key] = held.detach().cpu().clone()
                    held.copy_(value)
    return before


_FRESH = {"running_mean": 0.0, "running_var": 1.0, "num_batches_tracked": 0.0}


def _fresh(name: str, buffer: Tensor) -> Tensor:
    return torch.full_like(buffer, _FRESH[name])


def _keeps_statistics(part: nn.Module) -> bool:
    return any(name.startswith("running_") for name in part._buffers) and bool(_buffers(part))


def _buffers(part: nn.Module) -> list[Tensor]:
    # Those of lazy layers hold nothing before their first batch.
    return [b for b in part._buffers.values() if b is not None and not is_lazy(b)]


def _same(left: list[Tensor], right: list[Tensor]) -> bool:
    return len(left) == len(right) and all(a is b for a, b in zip(left, right, strict=True))
