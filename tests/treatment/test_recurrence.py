"""A divergence is rolled back; one that comes back again and again ends the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_plateau import PlateauCallback
from lightning_plateau.core.remedy import Verdict
from lightning_plateau.core.signal import LOSS
from lightning_plateau.economy import Economy
from lightning_plateau.treatment.policy import Policy
from tests.digits import Digits, loader, trainer

ONLY = Policy(remedies=("roll-back", "stop-training"), probation_steps=60, cooldown_steps=20)


@pytest.fixture(autouse=True)
def looked_at_on_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no look be spared because the machine is busy with something else."""
    monkeypatch.setattr(Economy, "affordable", lambda _: True)


class Thrown(Digits):
    """Something throws the weights far away, at some steps."""

    def __init__(self, *at: int) -> None:
        super().__init__()
        self.at = at
        self.rates: list[float] = []

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        if self.trainer.global_step in self.at:
            with torch.no_grad():
                for parameter in self.parameters():
                    if parameter.ndim > 1:
                        parameter.mul_(-20.0)


def treated(folder: Path, module: Thrown, epochs: int) -> tuple[PlateauCallback, Any]:
    torch.manual_seed(0)
    own = PlateauCallback(
        policy=ONLY, select=["LP402"], dirpath=str(folder), quiet=True, every_n_steps=20
    )
    fit = trainer(own, max_epochs=epochs)
    fit.fit(module, loader(1600, 32))
    return own, fit


@pytest.mark.slow
def test_a_divergence_at_step_400_is_rolled_back(tmp_path: Path) -> None:
    module = Thrown(400)
    own, fit = treated(tmp_path, module, 16)
    losses = own.history[LOSS]
    assert np.median(losses.values[400:440]) > 5 * np.median(losses.values[360:400])
    assert np.median(losses.values[-100:]) <= np.median(losses.values[300:400])
    assert (module.rates[0], module.rates[-1]) == (0.1, 0.05)
    # What counts goes on: nothing is made twice, nothing left out.
    assert fit.global_step == 800
    assert losses.steps.tolist() == list(range(800))
    [made], [outcome] = own.journal.interventions, own.journal.outcomes
    assert (made.remedy, made.code) == ("roll-back", "LP402")
    assert made.before["state_of_step"] == made.step > 400 >= made.after["state_of_step"] > 0
    assert (outcome.number, outcome.verdict) == (made.number, Verdict.KEPT)
    assert {"finding", "intervention", "outcome"} <= {entry.kind for entry in own.journal}
    lines = (tmp_path / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(list(own.journal))


@pytest.mark.slow
def test_the_third_time_that_it_comes_back_ends_the_training(tmp_path: Path) -> None:
    own, fit = treated(tmp_path, Thrown(400, 900, 1400, 1900, 2400), 56)
    made = own.journal.interventions
    assert [one.remedy for one in made] == ["roll-back"] * 3 + ["stop-training"]
    assert fit.global_step < 2800
    found = {finding.code: finding for finding in own.findings}
    assert "came back after each of 3 remedies: roll-back at step" in found["LP910"].message
    assert any(getattr(entry.record, "code", "") == "LP910" for entry in own.journal)
