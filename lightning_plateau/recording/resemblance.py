"""Whether validation gives the network what training gives it: what meets the first weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lightning_plateau.core import signal
from lightning_plateau.core.roles import entries
from lightning_plateau.core.signal import Signal
from lightning_plateau.core.tape import Tape
from lightning_plateau.recording.delivery import Delivery
from lightning_plateau.recording.draft import Draft

FIRST_BATCHES = 16
"""Training batches that are looked at one after another; from then on, those of sampled steps."""
MOST_SAMPLES = 16384
"""Samples of training, and of each validation, that are looked at."""
MOST_OF_A_BATCH = 64
"""Samples of a batch that are looked at: those of validation may come sorted, and many batches say
more than a few whole ones."""
FEWEST_SAMPLES = 8
"""Samples of either below which their means say little."""
FIRST_VALIDATIONS = 3
MOST_FEATURES = 1 << 16
"""Features that are compared; of more, as many that are evenly spaced."""
COMPARED = (signal.VALIDATION_SHIFT, signal.VALIDATION_SPREAD, signal.VALIDATION_LIKENESS)
Wants = Callable[[Signal], bool]


@dataclass
class _Seen:
    """Sums over samples of what a layer was given, feature by feature, about an origin."""

    samples: int = 0
    total: Tensor | None = None
    squares: Tensor | None = None

    def add(self, values: Tensor) -> None:
        """Add samples, ``[n, features]``; nothing is changed in place (inference tensors)."""
        total, squares = values.sum(0), values.square().sum(0)
        self.total = total if self.total is None else self.total + total
        self.squares = squares if self.squares is None else self.squares + squares
        self.samples += len(values)

    def moments(self) -> tuple[Tensor, Tensor] | None:
        """Return mean and variance of each feature; None of too few samples."""
        if self.total is None or self.squares is None or self.samples < FEWEST_SAMPLES:
            return None
        mean = self.total / self.samples
        return mean, (self.squares / self.samples - mean.square()).clamp(min=0.0)


class _Entry:
    """A layer where data meets its first weights, and what it was given."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self.training, self.validation = _Seen(), _Seen()
        self._origin: Tensor | None = None
        self._shape: torch.Size | None = None
        self._fits = True

    def observe(self, seen: _Seen, given: Any) -> None:
        """Look at what the layer is given; a tensor of another shape ends the comparison."""
        if not (self._fits and isinstance(given, Tensor)) or seen.samples >= MOST_SAMPLES:
            return
        self._shape = self._shape or given.shape[1:]
        self._fits = _comparable(given) and given.shape[1:] == self._shape
        if not self._fits:
            return
        every = -(-self._shape.numel() // MOST_FEATURES)
        with torch.no_grad():
            values = given.detach()[:MOST_OF_A_BATCH].flatten(1)[:, ::every].float()
            if self._origin is None:  # keeps the squares small where the mean is large
                self._origin = values.mean(0)
            seen.add(values - self._origin)

    def state_dict(self) -> dict[str, Any]:
        """Return what the layer was given in training; nothing where that cannot be compared."""
        seen = self.training
        if not self._fits or self._origin is None or self._shape is None:
            return {"fits": self._fits}
        return {
            "fits": True,
            "shape": list(self._shape),
            "samples": seen.samples,
            "sums": [self._origin, seen.total, seen.squares],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        self._fits = state["fits"]
        if "sums" in state:
            where = next((p.device for p in self.layer.parameters()), None)
            self._origin, *sums = (one.to(where) for one in state["sums"])
            self._shape = torch.Size(state["shape"])
            self.training = _Seen(state["samples"], *sums)

    def compared(self) -> Tensor | None:
        """Return the row of ``COMPARED``, on the device; None where there is nothing to compare."""
        known, other = self.training.moments(), self.validation.moments()
        if not self._fits or self._origin is None or known is None or other is None:
            return None
        (mean, variance), (mean_there, variance_there) = known, other
        spread, spread_there = variance.mean().sqrt(), variance_there.mean().sqrt()
        shift = (mean_there - mean).square().mean().sqrt() / torch.minimum(spread, spread_there)
        here, there = (self._origin + m for m in (mean, mean_there))
        here, there = here - here.mean(), there - there.mean()
        likeness = (here * there).sum() / (here.square().sum() * there.square().sum()).sqrt()
        return torch.stack([shift, spread_there / spread, likeness])


class Resemblance:
    """Compares what the first layers are given in training with what they are given in validation.

    Mean and variance of each feature are added up on the device, over the first training batches
    and those of sampled steps, and over the first validations. Only what is compared travels to the
    host.

    Args:
        module: The module that is trained.
        delivery: Takes what was compared.
    """

    def __init__(self, module: nn.Module, delivery: Delivery) -> None:
        self._module = module
        self._delivery = delivery
        self._entries: dict[str, _Entry] | None = None
        self._batches = self._validations = 0
        self._hooks: list[RemovableHandle] = []

    @property
    def unknown(self) -> bool:
        """Whether it is still to be learned where data meets the first weights."""
        return self._entries is None and self._delivery.wants(*COMPARED)

    def learn(self, draft: Draft) -> None:
        """Read off a tape which layers are given data."""
        tape = Tape(draft.step, tuple(draft.operations), draft.root, draft.root_requires_grad)
        self._watch_over({entry.operation.layer for entry in entries(tape)} - {""})

    def _watch_over(self, names: Iterable[str]) -> None:
        layers = dict(self._module.named_modules())
        found = {name: layers[name] for name in sorted(names) if name in layers}
        self._entries = {n: _Entry(one) for n, one in found.items() if not list(one.children())}

    def begin_batch(self, *, sampled: bool) -> None:
        """Look at the training batch under way, where its turn has come."""
        self.end_batch()
        if self._entries and (sampled or self._batches < FIRST_BATCHES):
            self._batches += 1
            self._watch(lambda entry: entry.training)

    def begin_validation_batch(self) -> None:
        """Look at the validation batch under way."""
        self.end_batch()
        if self._entries and self._validations < FIRST_VALIDATIONS:
            self._watch(lambda entry: entry.validation)

    def end_batch(self) -> None:
        """Look no further."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def close_validation(self, step: int) -> None:
        """Send what the validation is like, beside training."""
        self.end_batch()
        entries, self._validations = self._entries or {}, self._validations + 1
        with torch.no_grad():
            rows = {
                name: row for name, one in entries.items() if (row := one.compared()) is not None
            }
        for one in entries.values():
            one.validation = _Seen()
        for column, which in enumerate(COMPARED if rows else ()):
            values = torch.stack([row[column] for row in rows.values()])
            self._delivery.sample(which, step, tuple(rows), values)

    def state_dict(self) -> dict[str, Any]:
        """Return what was seen of training, in plain types and tensors."""
        seen = {name: one.state_dict() for name, one in (self._entries or {}).items()}
        known = {"batches": self._batches, "validations": self._validations, "entries": seen}
        return {} if self._entries is None else known

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``, empty where nothing was known yet."""
        if not state:
            return
        self._batches, self._validations = state["batches"], state["validations"]
        self._watch_over(state["entries"])
        for name, one in (self._entries or {}).items():
            one.load_state_dict(state["entries"][name])

    def _watch(self, of: Callable[[_Entry], _Seen]) -> None:
        for entry in (self._entries or {}).values():

            def note(_: nn.Module, given: tuple[Any, ...], entry: _Entry = entry) -> None:
                # What is added up here is not the network's: no tape may show it.
                with torch._C.DisableTorchFunction():
                    entry.observe(of(entry), given[0] if given else None)

            self._hooks.append(entry.layer.register_forward_pre_hook(note))


def _comparable(given: Tensor) -> bool:
    dense = given.layout is torch.strided and not given.is_nested and not given.is_complex()
    return dense and given.dim() > 1 and given.numel() > 0
