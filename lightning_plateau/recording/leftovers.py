"""Gradients that a step takes over from the step before, because nobody set them to zero."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_plateau.recording.probes.gradients import stacked, tensor_norms


class Leftovers:
    """Watches one optimizer's gradients from one step to the next, without waiting for the device.

    Gradients are left over where, before *every* backward since the last step, there were some.
    Accumulation over micro-batches begins without any, and an optimizer whose gradients are filled
    by another one's backward is cleared before its own.

    Args:
        parameters: The parameters of the optimizer.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = parameters
        self._least: Tensor | None = None
        self._cleared = False

    def begin(self) -> None:
        """Begin anew: a step was made."""
        self._least, self._cleared = None, False

    def before_backward(self) -> None:
        """Look at the gradients that are there before a backward adds to them."""
        if self._cleared:
            return
        # What is measured here is not the network's: no tape may show it.
        with torch.no_grad(), torch._C.DisableTorchFunction():
            present = [p.grad for p in self._parameters if p.grad is not None]
            if not present:
                self._cleared = True
                return
            norm = torch.linalg.vector_norm(stacked(tensor_norms(present)))
            self._least = norm if self._least is None else torch.minimum(self._least, norm)

    @property
    def norm(self) -> Tensor | None:
        """L2 norm of what was left over, 0-d; None where no backward was seen."""
        if not self._cleared:
            return self._least
        device = self._parameters[0].device if self._parameters else None
        return torch.zeros((), device=device)
