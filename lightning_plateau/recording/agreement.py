"""How far the gradients of two successive steps point the same way."""

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

    def remember(self) -> None:
        """Keep a sample of the gradients as they are."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if all(gradient.layout is torch.strided for gradient in gradients):
            self._before = sample_elements(gradients)

    @property
    def waits(self) -> bool:
        """Whether a sample waits for the next step."""
        return bool(self._before)

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
        self._before = list(state)
