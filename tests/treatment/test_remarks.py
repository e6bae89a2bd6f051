"""What is a remark, or less likely than not, is told and never treated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from torch import Tensor
from torch.optim import SGD

from lightning_plateau import PlateauCallback
from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.rule import Rule
from tests.trainings import Regressor, batches, fit


@dataclass(frozen=True)
class Always(Rule):
    """A rule that always speaks."""

    code: ClassVar[str] = "LP304"
    name: ClassVar[str] = "no-gradient"
    needs_failure: ClassVar[bool] = False
    remedies: ClassVar = ("decay-learning-rate",)

    said_as: Severity = Severity.ERROR
    confidence: float = 0.9

    @property
    def severity(self) -> Severity:  # type: ignore[override]
        """How it speaks."""
        return self.said_as

    def check(self, history: History) -> Finding | None:
        """Return the finding."""
        return self.finding(history, self.confidence, "something is there")


@pytest.mark.parametrize(
    ("rule", "treated"),
    [
        (Always(), True),
        (Always(Severity.INFO), False),
        (Always(confidence=0.6), True),
        (Always(confidence=0.4), False),
    ],
)
def test_a_remark_or_a_guess_is_not_treated(rule, treated, tmp_path) -> None:
    callback = PlateauCallback(
        policy="auto", rules=[rule], every_n_steps=10, dirpath=str(tmp_path), quiet=True
    )
    fit(Regressor(partial(SGD, lr=0.01)), batches(40), callback)
    assert [finding.code for finding in callback.findings] == ["LP304"]
    assert bool(callback.journal.interventions) is treated


@dataclass(frozen=True)
class AlwaysFlat(Always):
    """A rule that always takes the loss for flat."""

    code: ClassVar[str] = "LP401"
    name: ClassVar[str] = "flat-loss"


class Raised(Regressor):
    """A regressor whose loss is so much higher."""

    by = 0.0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) + self.by


@pytest.mark.parametrize(("by", "treated"), [(0.0, False), (100.0, True)])
def test_a_loss_is_not_taken_for_flat_while_noise_may_hide_its_fall(
    by: float, treated: bool, tmp_path: Path
) -> None:
    callback = PlateauCallback(
        policy="auto", rules=[AlwaysFlat()], every_n_steps=10, dirpath=str(tmp_path), quiet=True
    )
    module = Raised(partial(SGD, lr=1e-9))
    module.by = by
    fit(module, batches(40), callback)
    assert bool(callback.journal.interventions) is treated
