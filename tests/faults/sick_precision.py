"""Sick: numbers of sixteen bits that hold no more than 65,504."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from tests.faults import data
from tests.faults.learner import Learner, adam, sgd
from tests.faults.program import Training, program


def _half(scale: float = 65536.0) -> dict[str, Any]:
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=20)
    return {"plugins": [MixedPrecision("16-mixed", "cpu", scaler)]}


@program("LP205", "LP206", "LP204", data="breast-cancer", accepted=("LP101", "LP207", "LP201"))
def raw_areas_in_half_precision() -> Training:
    """Squares of areas in square millimetres leave the range of float16."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(30, 32), nn.Linear(32, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x) ** 2)

    train, validation = data.loaders(*data.breast_cancer())
    module = Learner(Net(), optimizer=adam())
    return Training(module, train, validation, {"max_epochs": 6, **_half()})


@program("LP205", "LP206", "LP204", "LP101", data="diabetes", part="validation")
def squares_of_raw_targets_in_half_precision() -> Training:
    """Squared errors of targets in the thousands overflow where they are taken."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return (said - 10 * y.half()).square().mean()

    train, validation = data.loaders(*data.diabetes())
    net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(0))
    return Training(Learner(net, loss, adam()), train, validation, {"max_epochs": 6, **_half()})


@program(
    "LP205",
    "LP206",
    "LP204",
    "LP101",
    accepted=("LP406",),
    shows=("LP203", "LP206"),
    part="validation",
)
def a_model_in_half_precision() -> Training:
    """half() on a model and on raw bytes: a sum overflows."""
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(),
        nn.Linear(512, 10),
    ).half()  # fmt: skip
    images, labels = data.digits()
    train = DataLoader(TensorDataset((images * 16).half(), labels), 32, shuffle=True)
    module = Learner(net, optimizer=sgd(0.05, momentum=0.9))
    return Training(module, train, None, {"max_epochs": 4})


@program("LP203", "LP406", "LP204", shows=("LP203", "LP201"), data="wine", accepted=("LP301",))
def an_update_beyond_all_numbers() -> Training:
    """A rate of 1e30, from a line that divides by a number of samples that is zero at first."""
    x, y = data.wine()
    train, validation = data.loaders(data.standardized(x), y, batch_size=16)
    net = nn.Sequential(nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, 3))
    return Training(Learner(net, F.cross_entropy, sgd(1e30)), train, validation, {"max_epochs": 4})
