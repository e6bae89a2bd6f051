"""How a training ends: later than planned, or with averaged weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_plateau import PlateauCallback
from lightning_plateau.remedies.average_weights import AverageWeights
from lightning_plateau.remedies.extend_training import ExtendTraining
from lightning_plateau.treatment.policy import Policy
from tests.digits import Digits, loader, trainer
from tests.remedies.test_contract import trained


class Slow(Digits):
    """It still learns at the planned end."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("allowed", [True, False])
def test_a_training_that_still_learns_goes_on_if_it_may(allowed: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    policy = Policy(remedies=("extend-training",), allow_user_overrides=allowed)
    callback = PlateauCallback(policy=policy, dirpath=str(tmp_path), select=["LP414"])
    fit = trainer(callback, max_epochs=8)
    fit.fit(Slow(), loader(512), loader(256, 256, shuffle=False))
    assert not callback.disabled
    assert fit.current_epoch == (10 if allowed else 8)
    made = [intervention.remedy for intervention in callback.journal.interventions]
    assert made[:1] == (["extend-training"] if allowed else [])


def test_the_planned_end_is_the_users() -> None:
    run = trained()
    run.trainer.should_stop = False
    assert ExtendTraining().obstacle(run) is None
    run.allow_user_overrides = False
    assert "max_epochs is yours" in str(ExtendTraining().obstacle(run))


def test_the_average_is_what_training_ends_with() -> None:
    run = trained()
    weight = run.module.net[0].weight
    first = weight.detach().clone()
    AverageWeights(decay=0.5).apply(run)
    assert AverageWeights().obstacle(run) == "the weights are averaged already"
    [averaging] = [c for c in run.trainer.callbacks if type(c).__name__ == "EMAWeightAveraging"]
    averaging._average_model.update_parameters(run.module)
    with torch.no_grad():
        weight.add_(1.0)
    averaging._average_model.update_parameters(run.module)
    run.close()
    assert torch.allclose(weight, first + 0.5)
    assert averaging not in run.trainer.callbacks


class Swinging(Digits):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])


@pytest.mark.slow
def test_averaging_in_a_real_training_and_back(tmp_path: Path) -> None:
    class Averaged(PlateauCallback):
        def on_train_batch_end(self, fit: Any, *rest: Any) -> None:
            super().on_train_batch_end(fit, *rest)
            if fit.global_step == 10 and self._watch is not None:
                run = self._watch.treatment._run
                AverageWeights(decay=0.9).apply(run)

    torch.manual_seed(0)
    callback = Averaged(policy="observe", dirpath=str(tmp_path))
    fit, module = trainer(callback, max_epochs=4), Swinging(lr=3e-3)
    fit.fit(module, loader(512), loader(256, 256, shuffle=False))
    assert not callback.disabled
    assert [type(c).__name__ for c in fit.callbacks].count("EMAWeightAveraging") == 0
    assert float(fit.callback_metrics["val_loss"]) < 2.0
