"""What each experiment measures on a fault, and on its healthy twin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_plateau.experiments.batch_mixing import BatchMixing
from lightning_plateau.experiments.experiment import Experiment, Result
from lightning_plateau.experiments.gradient_flow import GradientFlow
from lightning_plateau.experiments.gradient_through_time import GradientThroughTime
from lightning_plateau.experiments.learning_curve import LearningCurve
from lightning_plateau.experiments.learning_rate_range import LearningRateRange
from lightning_plateau.experiments.overfit_one_batch import OverfitOneBatch
from lightning_plateau.experiments.replay_batch import ReplayBatch
from lightning_plateau.experiments.shuffled_labels import ShuffledLabels
from lightning_plateau.experiments.step_size import StepSize
from lightning_plateau.experiments.train_against_eval import TrainAgainstEval
from lightning_plateau.experiments.zero_inputs import ZeroInputs
from tests.digits import Digits, digits, loader
from tests.experiments.conducting import Conducting, ending


class Perceptron(Digits):
    """Two layers, trained by stochastic gradient descent."""

    def __init__(self, rate: float = 0.1) -> None:
        super().__init__(rate)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def made(experiment: Experiment, make: Any = Perceptron, data: Any = None, at: int = 8) -> Result:
    callback = Conducting([experiment], at=[at])
    ending(callback, make, steps=at + 1, data=data)
    [result] = callback.results
    assert result.failure == ""
    return result


def row(experiment: Experiment, make: Any = Perceptron, data: Any = None, at: int = 8) -> Any:
    return made(experiment, make, data, at).rows[0]


class Blind(Perceptron):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(torch.zeros_like(images))


def test_zero_inputs() -> None:
    found = row(ZeroInputs(), Blind)
    assert found["real"] == found["zeroed"] == found["swapped"]
    found = row(ZeroInputs())
    assert len(set(found.values())) == 3


class Autoencoder(Perceptron):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 64))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return F.mse_loss(self(batch[0]), batch[0].flatten(1))

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Nothing to see."""


def test_inputs_that_are_targets_too_cannot_be_taken_away() -> None:
    result = made(ZeroInputs(), Autoencoder)
    assert result.rows == ()
    assert "does not tell inputs from labels" in result.inconclusive


class Mixing(Perceptron):
    """A reshape in the wrong order."""

    def forward(self, images: Tensor) -> Tensor:
        mixed = images.flatten(1).reshape(64, -1).t()
        return super().forward(mixed.reshape(images.shape))


def test_batch_mixing() -> None:
    assert row(BatchMixing(), Mixing)["halved"] > 0.1
    assert row(BatchMixing())["halved"] < 1e-4
    # Batch norm mixes samples in training mode, and is right to.
    assert row(BatchMixing(), Digits)["halved"] < 1e-4
    assert row(BatchMixing(), Autoencoder)["halved"] < 1e-4


def test_step_size() -> None:
    found = row(StepSize(), lambda: Perceptron(0.1))
    assert found["1"] < found["0.1"] < found["0"]
    found = row(StepSize(), lambda: Perceptron(30.0), at=0)
    assert found["1"] > 2 * found["0"]
    short = row(StepSize(), lambda: Perceptron(1e-4))
    assert short["10"] - short["0"] < 5 * (short["1"] - short["0"]) < 0
    assert len(made(StepSize()).rows) == 3


def test_overfit_one_batch() -> None:
    healthy = row(OverfitOneBatch(), lambda: Perceptron(0.5))
    assert healthy["own"] < 0.65 * healthy["before"] < healthy["blind"]
    slow = row(OverfitOneBatch(), lambda: Perceptron(1e-5))
    assert slow["own"] > 0.95 * slow["before"]
    assert slow["adam"] < 0.65 * slow["before"]
    blind = row(OverfitOneBatch(), Blind)
    assert blind["adam"] == pytest.approx(blind["blind"], rel=0.02)
    assert np.isnan(row(OverfitOneBatch(), Autoencoder)["blind"])


class Rarely(Perceptron):
    """Steps once in eight calls, by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer = self.optimizers()
        self.manual_backward(F.cross_entropy(self(batch[0]), batch[1]) / 8)
        if (batch_idx + 1) % 8 == 0:
            optimizer.step()
            optimizer.zero_grad()


def test_a_module_that_rarely_steps_is_not_judged() -> None:
    result = made(OverfitOneBatch(), Rarely)
    assert "calls made only" in result.inconclusive


def test_shuffled_labels() -> None:
    found = row(ShuffledLabels(), data=loader(512))
    assert found["unseen true"] < 0.9 * found["unseen before"]
    assert found["unseen shuffled"] > found["unseen true"]
    images, labels = digits()
    apart = torch.utils.data.TensorDataset(images, labels[torch.randperm(len(labels))])
    found = row(ShuffledLabels(), data=torch.utils.data.DataLoader(apart, 32))
    assert found["unseen true"] > 0.98 * found["unseen before"]
    assert made(ShuffledLabels(), data=loader(128)).inconclusive.startswith("an epoch is so short")
    same = torch.utils.data.TensorDataset(images, torch.zeros_like(labels))
    result = made(ShuffledLabels(), data=torch.utils.data.DataLoader(same, 32))
    assert result.inconclusive == "nearly all labels are the same"


class Lagging(Perceptron):
    """Running statistics that never get to where the batches are."""

    def __init__(self) -> None:
        super().__init__()
        normalized = nn.BatchNorm1d(32, momentum=1e-6)
        self.net = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 32), normalized, nn.ReLU(), nn.Linear(32, 10)
        )

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(10 * images + 5)


def test_train_against_eval() -> None:
    rows = made(TrainAgainstEval(), Lagging, at=40).rows
    assert len(rows) == 4
    assert all(row["eval"] > 1.5 * row["train"] for row in rows)
    assert all(row["train"] == row["eval"] for row in made(TrainAgainstEval()).rows)


class Logarithm(Perceptron):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return F.cross_entropy(self(batch[0]).relu().log(), batch[1])


class Root(Perceptron):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return (
            super().training_step(batch, batch_idx) + 0.0 * (self.net[1].weight * 0.0).sqrt().sum()
        )


def test_replay_batch() -> None:
    assert row(ReplayBatch(), Logarithm) == {"forward: log": 1.0}
    assert row(ReplayBatch(), Root, at=0) == {"backward: SqrtBackward0": 1.0}
    assert row(ReplayBatch()) == {"none": 1.0}


class Deep(Perceptron):
    def __init__(self) -> None:
        super().__init__()
        layers = [part for _ in range(6) for part in (nn.Linear(64, 64), nn.Sigmoid())]
        self.net = nn.Sequential(nn.Flatten(), *layers, nn.Linear(64, 10))


def test_gradient_flow() -> None:
    flow = row(GradientFlow(), Deep)
    assert list(flow) == [f"net.{1 + 2 * place}" for place in range(7)]
    assert flow["net.1"] < 1e-3 * flow["net.13"]
    shallow = row(GradientFlow())
    assert shallow["net.1"] > 1e-2 * shallow["net.3"]


class Reader(Perceptron):
    """Reads an image pixel by pixel, and answers from the last state."""

    mean = False

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.RNN(1, 16, batch_first=True)
        self.head = nn.Linear(16, 10)
        nn.init.normal_(self.net.weight_hh_l0, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        said, _ = self.net(images.flatten(1)[..., None])
        return self.head(said.mean(1) if self.mean else said[:, -1])


class AveragingReader(Reader):
    mean = True


def test_gradient_through_time() -> None:
    fading = row(GradientThroughTime(), Reader)
    assert fading["net steps"] == 64
    assert fading["net first"] < 1e-6 * fading["net largest"]
    direct = row(GradientThroughTime(), AveragingReader)
    assert direct["net first"] > 0.1 * direct["net largest"]
    assert "no recurrent layer" in made(GradientThroughTime()).inconclusive


def test_learning_rate_range() -> None:
    found = row(LearningRateRange(), lambda: Perceptron(0.01))
    best = min(found, key=found.get)
    assert float(best) > 1.0
    assert found["0.001"] > found["1"] > found[best]


def test_learning_curve() -> None:
    found = row(LearningCurve(), data=loader(512), at=16)
    assert found["1"] < found["0.25"]
    assert "too few" in made(LearningCurve(), data=loader(512), at=8).inconclusive
