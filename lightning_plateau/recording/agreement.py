"""How far the gradients of two successive steps, and an update, point the same way."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_plateau.recording.probes.parameters import sample_elements


class GradientAgreement:
    """Compares the gradients of a step with those of the step before, without waiting for either.

    Up to 2,048 evenly spaced elements of each gradient are looked at. Sparse gradients are not.

    Args:
        parameters: The parameters of the optimizer.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = parameters
        self._before: list[Tensor] = []
        self._places: list[int] = []

    def remember(self) -> None:
        """Keep a sample of the gradients as they are."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if all(gradient.layout is torch.strided for gradient in gradients):
            self._before = sample_elements(gradients)
            self._places = [i for i, p in enumerate(self._parameters) if p.grad is not None]

    @property
    def waits(self) -> bool:
        """Whether a sample waits for the next step."""
        return bool(self._before)

    def descent(self, before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor | None:
        """Return how far an update went against the gradients kept, -1 to 1, 0-d.

        Args:
            before: A sample of each parameter before the update.
            after: The same after it.

        Returns:
            The cosine between the update and the negative of its gradients; None where none of this
            step are kept.
        """
        if not self._before or len(self._places) != len(self._before):
            return None
        moved = torch.cat([(before[place] - after[place]).float() for place in self._places])
        slope = torch.cat([gradient.float() for gradient in self._before])
        if moved.shape != slope.shape:
            return None
        return torch.nn.functional.cosine_similarity(moved, slope, dim=0, eps=1e-30)

    def compare(self) -> Tensor | None:
        """Return the cosine between the gradients kept and those now, 0-d; None where none are."""
        if not self._before:
            return None
        before, self._before = self._before, []
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if any(gradient.layout is not torch.strided for gradient in gradients):
            return None
        now = sample_elements(gradients)
        if [one.shape for one in now] != [one.shape for one in before]:
            return None
        device = now[0].device  # what comes from a checkpoint may lie elsewhere
        old = torch.cat([one.to(device).float() for one in before])
        new = torch.cat([one.to(device).float() for one in now])
        return torch.nn.functional.cosine_similarity(old, new, dim=0, eps=1e-30)

    def state_dict(self) -> list[Tensor]:
        """Return the sample that waits for the next step; empty for none."""
        return list(self._before)

    def load_state_dict(self, state: Sequence[Tensor]) -> None:
        """Wait with ``state`` for the next step."""
        self._before, self._places = list(state), []
