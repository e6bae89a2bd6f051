"""The parameters of one optimizer, and what is remembered of them from step to step."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from lightning_plateau.recording.agreement import GradientAgreement
from lightning_plateau.recording.leftovers import Leftovers


@dataclass
class Watched:
    """The parameters of one optimizer, and where their gradients lie in a row."""

    parameters: list[Tensor]
    names: list[str]
    before: list[Tensor] = field(default_factory=list)
    leftovers: Leftovers = field(init=False)
    agreement: GradientAgreement = field(init=False)
    norm: Tensor | None = None

    def __post_init__(self) -> None:
        self.leftovers = Leftovers(self.parameters)
        self.agreement = GradientAgreement(self.parameters)
