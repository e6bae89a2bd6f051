from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_wine
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from lightning_plateau import PlateauCallback
from lightning_plateau.framework import LightningModule
from lightning_plateau.remedies.standardize_input import StandardizeInput
from lightning_plateau.treatment.policy import Policy
from tests.digits import trainer
from tests.remedies.test_contract import trained


class Wine(LightningModule):
    """Thirteen features from 0.1 to 1,700 as they are, plain SGD: nothing is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(13, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.head = nn.Linear(64, 3)

    def forward(self, features: Tensor) -> Tensor:
        return self.head(self.net(features))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.02)


def wine() -> tuple[Tensor, Tensor]:
    data = load_wine()
    return torch.tensor(data.data, dtype=torch.float32), torch.tensor(data.target)


def loader() -> DataLoader:
    generator = torch.Generator().manual_seed(0)
    return DataLoader(TensorDataset(*wine()), 16, shuffle=True, generator=generator)


def accuracy(module: Wine) -> float:
    features, labels = wine()
    with torch.no_grad():
        return float((module.eval()(features).argmax(1) == labels).float().mean())


def treated(folder: Path, epochs: int, **more: Any) -> tuple[Wine, Any, PlateauCallback]:
    torch.manual_seed(0)
    callback = PlateauCallback(policy="auto", dirpath=str(folder))
    module, fit = Wine(), trainer(callback, max_epochs=epochs)
    fit.fit(module, loader(), **more)
    return module, fit, callback


@pytest.mark.slow
def test_features_in_units_of_their_own_are_learned_from(tmp_path: Path) -> None:
    torch.manual_seed(0)
    alone = Wine()
    trainer(max_epochs=30).fit(alone, loader())
    module, _, callback = treated(tmp_path, 30)
    kept = [o.remedy for o in callback.journal.outcomes if o.verdict == "kept"]
    assert kept[0] == "standardize-input"
    assert accuracy(alone) < 0.6
    assert accuracy(module) > 0.9


@pytest.mark.slow
def test_a_checkpoint_holds_the_plain_network_and_resumes(tmp_path: Path) -> None:
    outputs: list[Tensor] = []

    class Asked(PlateauCallback):
        def on_train_end(self, fit: Any, module: Any) -> None:
            with torch.no_grad():
                outputs.append(module.eval()(wine()[0]))
            fit.save_checkpoint(tmp_path / "within.ckpt")
            super().on_train_end(fit, module)

    torch.manual_seed(0)
    # What else might be tried first on so few steps is not what is tested here.
    policy = Policy(remedies=("standardize-input",), cooldown_steps=0)
    callback = Asked(policy=policy, dirpath=str(tmp_path))
    module, fit = Wine(), trainer(callback, max_epochs=15)
    fit.fit(module, loader())
    assert callback.journal.outcomes[-1].remedy == "standardize-input"
    assert callback.journal.outcomes[-1].verdict == "kept"
    state = torch.load(tmp_path / "within.ckpt", weights_only=True)["state_dict"]
    plain = Wine()
    plain.load_state_dict(state)
    with torch.no_grad():
        assert torch.allclose(plain(wine()[0]), outputs[0], rtol=1e-3, atol=1e-2)
        assert torch.allclose(module.eval()(wine()[0]), outputs[0], rtol=1e-3, atol=1e-2)

    resumed, _, again = treated(tmp_path, 30, ckpt_path=tmp_path / "within.ckpt")
    assert not again.disabled
    assert accuracy(resumed) > 0.9
    without = Wine()
    trainer(max_epochs=16).fit(without, loader(), ckpt_path=tmp_path / "within.ckpt")


def test_inputs_that_are_standard_are_left_alone() -> None:
    run = trained()
    assert StandardizeInput().obstacle(run) is None
    run.batch = [torch.randn(64, 3), torch.randn(64, 1)]
    assert "that is not standard" in str(StandardizeInput().obstacle(run))


def test_numbers_that_are_not_finite_are_no_measure() -> None:
    run = trained()
    run.batch[0][0, 0] = float("nan")
    assert StandardizeInput().obstacle(run) is not None
