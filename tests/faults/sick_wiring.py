"""Sick: the code is wired so that weights do not learn, or not what they should."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_plateau.framework import LightningModule
from tests.faults import data
from tests.faults.learner import Learner, adam, sgd
from tests.faults.program import Training, program


def _digits(batch_size: int = 32) -> Any:
    images, labels = data.digits()
    return data.loaders(images.flatten(1) / 16, labels, batch_size=batch_size)


def _mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


class Plain(LightningModule):
    """What all of these start from."""

    def __init__(self) -> None:
        super().__init__()
        self.net = _mlp()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        return F.cross_entropy(self.net(x), y)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


@program("LP410")
def optimizer_of_an_old_network() -> Training:
    """The optimizer was built before the network was replaced."""

    class Net(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3)
            self.net = _mlp()

        def configure_optimizers(self) -> Any:
            return self.optimizer

    return Training(Net(), _digits()[0], None, {"max_epochs": 6})


@program("LP410", accepted=("LP401",))
def layers_in_a_list() -> Training:
    """Hidden layers in a plain list: the module does not know them, nothing trains them."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64)]
            self.head = nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = torch.sigmoid(layer(x))
            return self.head(x)

    return Training(Learner(Net(), optimizer=sgd(0.01)), *_digits(), {"max_epochs": 8})


@program("LP308", accepted=("LP406",), family="mlp", shows=("LP402",))
def gradients_add_up() -> Training:
    """Manual optimization without zero_grad."""

    class Net(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            self.manual_backward(super().training_step(batch, batch_idx))
            self.optimizers().step()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Training(Net(), _digits()[0], None, {"max_epochs": 6})


@program("LP308", accepted=("LP406",), family="cnn", data="photographs", part="validation")
def gradients_add_up_in_a_convolution() -> Training:
    """The same in a convolutional network; zero_grad is commented out."""

    class Net(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.net = nn.Sequential(
                nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 49, 2)
            )

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            optimizer = self.optimizers()
            loss = F.cross_entropy(self.net(x), y)
            self.manual_backward(loss)
            optimizer.step()
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.05)

    patches, labels = data.photographs()
    train, _ = data.loaders(patches / 127.5 - 1, labels)
    return Training(Net(), train, None, {"max_epochs": 8})


@program("LP305")
def loss_made_anew() -> Training:
    """The loss is wrapped in a new tensor that requires a gradient."""

    class Net(Plain):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            return torch.tensor(loss.item(), requires_grad=True)

    return Training(Net(), _digits()[0], None, {"max_epochs": 4})


@program("LP305")
def loss_of_the_largest_score() -> Training:
    """The squared error of argmax: no gradient passes it."""

    class Net(Plain):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            said = self.net(x).argmax(1).float().requires_grad_()
            return F.mse_loss(said, y.float())

    return Training(Net(), _digits()[0], None, {"max_epochs": 4})


@program("LP411", family="cnn")
def everything_frozen() -> Training:
    """requires_grad is switched off for all, and the new head comes before that line."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten())
            self.head = nn.Linear(8 * 36, 10)
            for parameter in self.body.parameters():
                parameter.requires_grad = False
            self.head.weight.requires_grad = False

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x))

    images, labels = data.digits()
    return Training(
        Learner(Net(), optimizer=sgd(0.01)), *data.loaders(images / 16, labels), {"max_epochs": 6}
    )


@program("LP503", data="synthetic")
def no_activation() -> Training:
    """Three linear layers and nothing between them, on two moons of points."""
    from sklearn.datasets import make_circles

    x, y = make_circles(800, noise=0.08, factor=0.4, random_state=0)
    train, validation = data.loaders(torch.tensor(x).float(), torch.tensor(y), batch_size=32)
    net = nn.Sequential(nn.Linear(2, 32), nn.Linear(32, 32), nn.Linear(32, 2))
    return Training(Learner(net, optimizer=adam(1e-2)), train, validation, {"max_epochs": 15})


@program("LP503", data="synthetic", part="validation")
def activation_forgotten_in_forward() -> Training:
    """The activation is defined, and forward does not use it."""
    from sklearn.datasets import make_moons

    x, y = make_moons(800, noise=0.1, random_state=0)
    spiral = torch.tensor(x).float()
    label = torch.tensor(y) ^ (spiral[:, 0] > 0.5).long()
    train, validation = data.loaders(spiral, label.float(), batch_size=32)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.Linear(2, 64)
            self.activation = nn.ReLU()
            self.out = nn.Linear(64, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.hidden(x)).squeeze(1)

    module = Learner(Net(), F.binary_cross_entropy_with_logits, adam(1e-2))
    return Training(module, train, validation, {"max_epochs": 15})


@program("LP902", "LP603", accepted=("LP101",), family="cnn", part="validation")
def left_in_evaluation_mode() -> Training:
    """eval() in forward, for a prediction once, and never taken back."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(
                nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3),
                nn.Linear(8 * 36, 10),
            )  # fmt: skip
            self.net.eval()

        def forward(self, x: Tensor) -> Tensor:
            self.eval()
            return self.net(x)

    images, labels = data.digits()
    return Training(
        Learner(Net(), optimizer=sgd(0.1)), *data.loaders(images, labels), {"max_epochs": 6}
    )


@program("LP707", "LP103")
def input_is_thrown_away() -> Training:
    """A mask that should hide padding hides everything."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = _mlp()

        def forward(self, x: Tensor) -> Tensor:
            mask = (x > 1).float()
            return self.net(x * mask)

    return Training(Learner(Net(), optimizer=adam()), *_digits(), {"max_epochs": 8})


@program("LP707", family="rnn", data="text")
def only_the_position_is_read() -> Training:
    """The recurrent network is given the embedding of the position in place of the letter."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.letters = nn.Embedding(128, 32)
            self.places = nn.Embedding(64, 32)
            self.rnn = nn.GRU(32, 64, batch_first=True)
            self.head = nn.Linear(64, 128)

        def forward(self, x: Tensor) -> Tensor:
            places = torch.arange(x.shape[1]).expand_as(x)
            h = self.letters(x)
            h = self.places(places)
            return self.head(self.rnn(h)[0])

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(said.flatten(0, 1), y.flatten())

    train, validation = data.loaders(*data.text(), batch_size=32)
    return Training(Learner(Model(), loss, adam(3e-3)), train, validation, {"max_epochs": 6})


@program("LP708")
def reshaped_across_samples() -> Training:
    """A transpose and a view mix the features of different images."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = _mlp()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.t().reshape(-1, 64))

    return Training(Learner(Net(), optimizer=adam()), *_digits(), {"max_epochs": 8})


@program("LP710", family="mlp")
def the_minus_is_missing() -> Training:
    """The mean log-probability is returned, and optimizers minimize."""

    class Net(Plain):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return F.log_softmax(self.net(x), dim=1).gather(1, y[:, None]).mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    return Training(Net(), _digits()[0], None, {"max_epochs": 5})


@program("LP710", data="breast-cancer")
def the_loss_is_negated() -> Training:
    """A score was returned once, and its sign stayed."""
    x, y = data.breast_cancer()
    net = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 1), nn.Flatten(0))

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return -1 * F.binary_cross_entropy_with_logits(said, y.float())

    train, validation = data.loaders(data.standardized(x), y)
    return Training(Learner(net, loss, adam()), train, validation, {"max_epochs": 8})


@program("LP410")
def only_biases_are_optimized() -> Training:
    """The optimizer is given the biases alone."""

    class Net(Plain):
        def configure_optimizers(self) -> Any:
            named = self.named_parameters()
            return torch.optim.Adam([p for name, p in named if "bias" in name], lr=1e-3)

    return Training(Net(), _digits()[0], None, {"max_epochs": 6})


@program("LP412")
def nobody_steps() -> Training:
    """Manual optimization: backward, and the step is forgotten."""

    class Net(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.optimizers().zero_grad()
            loss = super().training_step(batch, batch_idx)
            self.manual_backward(loss)
            return loss

    return Training(Net(), _digits()[0], None, {"max_epochs": 4})
