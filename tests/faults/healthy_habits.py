"""Healthy: inputs, layers and habits that look like faults, and do no harm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from lightning_plateau.framework import LightningModule
from tests.faults import data
from tests.faults.learner import Learner, accuracy, adam, answers, explained, sgd
from tests.faults.program import Training, program


def _digits(batch_size: int = 64, **settings: Any) -> Any:
    images, labels = data.digits()
    return data.loaders(images.flatten(1) / 16, labels, batch_size=batch_size, **settings)


def _classifier(
    net: nn.Module, epochs: int, least: float = 0.9, *, loaders: Any = None, **settings: Any
) -> Training:
    train, validation = loaders or _digits()
    module = Learner(net, **settings)
    return Training(
        module,
        train,
        validation,
        {"max_epochs": epochs},
        lambda: accuracy(module, validation) > least,
    )


@program()
def pixels_as_they_are() -> Training:
    """Pixels in 0 … 16 as they are; a rate that suits them."""
    images, labels = data.digits()
    loaders = data.loaders(images.flatten(1), labels, batch_size=64)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    return _classifier(net, 12, loaders=loaders)


@program(part="validation")
def a_rare_class() -> Training:
    """One digit against the nine others, in their natural proportion."""
    images, labels = data.digits()
    loaders = data.loaders(images.flatten(1) / 16, (labels == 3).long(), batch_size=64)
    net = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 2))
    return _classifier(net, 20, 0.96, loaders=loaders, optimizer=adam(3e-3))


@program()
def rare_class_drawn_more_often() -> Training:
    """The rare class is drawn as often as the other, so its samples come many times an epoch."""
    images, labels = data.digits()
    rare = (labels == 8).long()
    _, validation = data.loaders(images.flatten(1) / 16, rare)
    weights = torch.tensor([1.0, 9.0])[rare[:1348]]
    dataset = TensorDataset(images[:1348].flatten(1) / 16, rare[:1348])
    train = DataLoader(dataset, 64, sampler=WeightedRandomSampler(weights.tolist(), 1348))
    net = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 2))
    return _classifier(net, 12, 0.93, loaders=(train, validation), optimizer=adam(3e-3))


@program()
def one_batch_by_heart() -> Training:
    """The sanity check that every recipe advises: a single batch, over and over."""
    made = _classifier(
        nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)), 100, optimizer=adam(3e-3)
    )
    return Training(
        made.module,
        made.train,
        made.validation,
        {"max_epochs": 100, "overfit_batches": 1},
        lambda: accuracy(made.module, made.train) > 0.1,
    )


class StochasticDepth(nn.Module):
    """A residual layer that is left out half of the time."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.LayerNorm(size), nn.Linear(size, size), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        if self.training and float(torch.rand(())) < 0.5:
            return x
        return x + self.layer(x)


@program(part="validation")
def layers_left_out_at_random() -> Training:
    """Stochastic depth: some layers get no gradient in some steps."""
    net = nn.Sequential(
        nn.Linear(64, 48), *[StochasticDepth(48) for _ in range(6)], nn.Linear(48, 10)
    )
    return _classifier(net, 12, optimizer=adam(2e-3))


@program()
def twenty_residual_layers() -> Training:
    """A deep stack of residual layers behind layer norm."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.up, self.down = nn.LayerNorm(32), nn.Linear(32, 64), nn.Linear(64, 32)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.down(F.silu(self.up(self.norm(x))))

    net = nn.Sequential(nn.Linear(64, 32), *[Block() for _ in range(20)], nn.Linear(32, 10))
    return _classifier(net, 6, optimizer=adam(1e-3))


@program()
def normalized_weights() -> Training:
    """Spectral and weight norm as parametrizations of the layers."""
    net = nn.Sequential(
        weight_norm(nn.Linear(64, 48)), nn.ReLU(), spectral_norm(nn.Linear(48, 48)), nn.ReLU(),
        nn.Linear(48, 10),
    )  # fmt: skip
    return _classifier(net, 12, optimizer=adam(2e-3))


@program(part="validation")
def sigmoid_units() -> Training:
    """One hidden layer of sigmoids, as thirty years ago."""
    net = nn.Sequential(nn.Linear(64, 48), nn.Sigmoid(), nn.Linear(48, 10))
    return _classifier(net, 25, optimizer=adam(5e-3))


@program()
def shared_layer_over_time() -> Training:
    """One layer applied ten times with small steps, as a differential equation."""

    class Flow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.start, self.slope, self.end = (
                nn.Linear(64, 32),
                nn.Linear(32, 32),
                nn.Linear(32, 10),
            )

        def forward(self, x: Tensor) -> Tensor:
            state = self.start(x)
            for _ in range(10):
                state = state + 0.1 * torch.tanh(self.slope(state))
            return self.end(state)

    return _classifier(Flow(), 12, optimizer=adam(3e-3))


@program(part="validation")
def batch_norm_without_memory() -> Training:
    """Batch norm that keeps no running statistics, and dropout before it."""
    net = nn.Sequential(
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.BatchNorm1d(64, track_running_stats=False),
        nn.Linear(64, 10),
    )
    return _classifier(net, 12, optimizer=adam(2e-3))


@program()
def wide_and_sparse() -> Training:
    """A wide layer of ReLU under an L1 penalty: most units are silent for most samples."""
    net = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))

    class Sparse(Learner):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            x, y = batch
            hidden = net[1](net[0](x))
            return F.cross_entropy(net[2](hidden), y) + 1e-2 * hidden.mean(0).abs().sum()

    train, validation = _digits()
    module = Sparse(net, optimizer=adam(2e-3))
    return Training(
        module, train, validation, {"max_epochs": 15}, lambda: accuracy(module, validation) > 0.9
    )


@program(family="mlp", data="breast-cancer")
def missing_values() -> Training:
    """A tenth of the features is NaN in the batch; the network replaces and marks them."""

    class Marked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(60, 24), nn.ReLU(), nn.Linear(24, 2))

        def forward(self, x: Tensor) -> Tensor:
            missing = x.isnan()
            return self.net(torch.cat([x.nan_to_num(0.0), missing.float()], dim=1))

    features, labels = data.breast_cancer()
    x = data.standardized(features)
    generator = torch.Generator().manual_seed(1)
    x = x.masked_fill(torch.rand(x.shape, generator=generator) < 0.1, torch.nan)
    loaders = data.loaders(x, labels)
    return _classifier(Marked(), 20, 0.92, loaders=loaders, optimizer=adam(2e-3))


@program(family="transformer", data="text", part="validation")
def masked_attention() -> Training:
    """Padded sequences; attention to padding is masked by minus infinity."""

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(128, 32, padding_idx=0)
            self.q, self.k, self.v = (nn.Linear(32, 32) for _ in range(3))
            self.head = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 2))

        def forward(self, x: Tensor) -> Tensor:
            words = self.embed(x)
            scores = self.q(words) @ self.k(words).transpose(1, 2) / 32**0.5
            scores = scores.masked_fill((x == 0)[:, None], float("-inf"))
            read = words + scores.softmax(-1) @ self.v(words)
            kept = (x != 0).float()[..., None]
            return self.head((read * kept).sum(1) / kept.sum(1))

    rows, _ = data.text()
    lengths = torch.randint(12, 33, (len(rows),), generator=torch.Generator().manual_seed(2))
    x = rows.masked_fill(torch.arange(32) >= lengths[:, None], 0)
    spaces = ((x == 32).float().sum(1) / lengths > 0.25).long()
    loaders = data.loaders(x, spaces)
    return _classifier(Reader(), 12, 0.9, loaders=loaders, optimizer=adam(3e-3))


@program(family="linear", data="text")
def bag_of_many_words() -> Training:
    """Pairs of letters, hashed into 4,000 places of which most are never seen."""
    rows, following = data.text()
    pairs = (rows[:, :-1] * 131 + rows[:, 1:]) % 4000
    letters = (following[:, -1] >= 97).long()

    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bag = nn.EmbeddingBag(4000, 16, mode="mean")
            self.last = nn.Embedding(4000, 16)
            self.head = nn.Linear(32, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.cat([self.bag(x), self.last(x[:, -1])], dim=1))

    loaders = data.loaders(pairs, letters)
    return _classifier(Bag(), 6, 0.75, loaders=loaders, optimizer=adam(4e-3))


@program(family="factorization", data="wine")
def factorized_matrix() -> Training:
    """Rows and columns of a table meet in a dot product; nothing bends in between."""
    features, _ = data.wine()
    x = data.standardized(features)
    rows, columns = torch.meshgrid(torch.arange(178), torch.arange(13), indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()], dim=1)
    order = torch.randperm(len(places), generator=torch.Generator().manual_seed(0))

    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.row, self.column = nn.Embedding(178, 4), nn.Embedding(13, 4)
            nn.init.normal_(self.row.weight, std=0.3)
            nn.init.normal_(self.column.weight, std=0.3)

        def forward(self, x: Tensor) -> Tensor:
            return (self.row(x[:, 0]) * self.column(x[:, 1])).sum(1)

    train, validation = data.loaders(places[order], x.flatten()[order], batch_size=64)
    module = Learner(Product(), F.mse_loss, adam(1e-2, weight_decay=1e-4))
    return Training(
        module, train, validation, {"max_epochs": 12}, lambda: explained(module, validation) > 0.2
    )


@program(family="rbf", data="iris", part="validation")
def distances_to_prototypes() -> Training:
    """No linear layer at all: the classes are told by distances to learned prototypes."""

    class Prototypes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.centers = nn.Parameter(torch.randn(3, 4) * 0.5)

        def forward(self, x: Tensor) -> Tensor:
            return -torch.cdist(x, self.centers)

    features, labels = data.iris()
    loaders = data.loaders(data.standardized(features), labels, batch_size=16)
    return _classifier(Prototypes(), 40, 0.85, loaders=loaders, optimizer=adam(2e-2))


@program(family="graph")
def graph_convolutions() -> Training:
    """One graph of all images, one step an epoch; the loss is that of the labelled nodes."""
    images, labels = data.digits()
    x = images[:600].flatten(1) / 16
    near = torch.cdist(x, x).topk(7, largest=False).indices
    adjacency = torch.zeros(600, 600).scatter_(1, near, 1.0 / 7)

    class Graph(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(64, 32), nn.Linear(32, 10)

        def forward(self, x: Tensor, links: Tensor) -> Tensor:
            return links @ self.last(F.dropout(F.relu(links @ self.first(x)), 0.5, self.training))

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, links, y = batch
            return F.cross_entropy(self(x, links)[:400], y[:400])

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            x, links, y = batch
            self.log("val_loss", F.cross_entropy(self(x, links)[400:], y[400:]), batch_size=200)

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=1e-2, weight_decay=5e-4)

    graph: Any = DataLoader([(x, adjacency, labels[:600])], batch_size=None)
    module = Graph()

    def labels_the_rest() -> bool:
        said = module.eval()(x, adjacency)[400:].argmax(1)
        return float((said == labels[400:600]).double().mean()) > 0.85

    return Training(module, graph, graph, {"max_epochs": 150}, labels_the_rest)


@program(family="physics", data="synthetic")
def equation_as_a_loss() -> Training:
    """A network learns the motion of a spring from its equation, by second derivatives."""

    class Spring(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(
                nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)
            )

        def forward(self, t: Tensor) -> Tensor:
            return self.net(t)

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            t = batch[0].requires_grad_()
            x = self(t)
            (v,) = torch.autograd.grad(x.sum(), t, create_graph=True)
            (a,) = torch.autograd.grad(v.sum(), t, create_graph=True)
            start = torch.zeros(1, 1, requires_grad=True)
            there = self(start)
            (speed,) = torch.autograd.grad(there.sum(), start, create_graph=True)
            law = (a + 4 * x).square().mean()
            return law + 10 * ((there - 1).square() + speed.square()).sum()

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=5e-3)

    times = torch.linspace(0, 2, 256)[torch.randperm(256)][:, None]
    train: Any = DataLoader(TensorDataset(times), 64, shuffle=True)
    module = Spring()

    def swings() -> bool:
        t = torch.linspace(0, 2, 50)[:, None]
        with torch.no_grad():
            return float((module(t) - (2 * t).cos()).abs().max()) < 0.35

    return Training(module, train, None, {"max_epochs": 300}, swings)


@program(family="rnn", data="synthetic", part="validation")
def series_in_its_order() -> Training:
    """A GRU forecasts a seasonal series; batches follow time, nothing is shuffled."""
    t = torch.arange(2000.0)
    noise = torch.randn(2000, generator=torch.Generator().manual_seed(3))
    series = torch.sin(t / 8) + 0.5 * torch.sin(t / 21) + 0.1 * noise
    windows = series.unfold(0, 33, 1)

    class Forecast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.head = nn.GRU(1, 24, batch_first=True), nn.Linear(24, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.gru(x[..., None])[0][:, -1]).squeeze(1)

    train, validation = data.loaders(windows[:, :-1], windows[:, -1], batch_size=64, shuffle=False)
    module = Learner(Forecast(), F.mse_loss, adam(5e-3))
    return Training(
        module, train, validation, {"max_epochs": 12}, lambda: explained(module, validation) > 0.8
    )


@program(data="digits")
def counts_as_numbers() -> Training:
    """Regression of a count: whole numbers, not scaled, the bias set to their mean."""
    images, _ = data.digits()
    counts = (images > 0).flatten(1).sum(1, keepdim=True).float()
    train, validation = data.loaders(images.flatten(1) / 16, counts, batch_size=32)
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))
    nn.init.constant_(net[2].bias, float(counts.mean()))
    module = Learner(net, F.mse_loss, adam(5e-3))
    return Training(
        module, train, validation, {"max_epochs": 20}, lambda: explained(module, validation) > 0.6
    )


@program(data="diabetes", part="validation")
def root_of_the_mean_square() -> Training:
    """The loss is the root of the mean squared error, safe at zero."""
    features, target = data.diabetes()
    train, validation = data.loaders(
        data.standardized(features), data.standardized(target[:, None]), batch_size=32
    )
    net = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1))
    module = Learner(net, lambda said, y: (F.mse_loss(said, y) + 1e-8).sqrt(), adam(3e-3))
    return Training(
        module, train, validation, {"max_epochs": 20}, lambda: explained(module, validation) > 0.3
    )


@program()
def curriculum_of_noise() -> Training:
    """The images get noisier from epoch to epoch, so the loss rises as the task grows harder."""

    class Curriculum(Learner):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            x, y = batch
            return F.cross_entropy(self(x + 0.04 * self.current_epoch * torch.randn_like(x)), y)

    train, validation = _digits(32)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    module = Curriculum(net, optimizer=adam(2e-3))
    return Training(
        module, train, validation, {"max_epochs": 15}, lambda: accuracy(module, validation) > 0.9
    )


@program(part="validation")
def a_second_task_half_way() -> Training:
    """Half way the labels change: the loss leaps once, and falls again."""

    class TwoTasks(Learner):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            x, y = batch
            return F.cross_entropy(self(x), y if self.current_epoch < 10 else 9 - y)

    train, validation = _digits(32)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    module = TwoTasks(net, optimizer=sgd(0.1))

    def knows_the_second() -> bool:
        said, y = answers(module, validation)
        return float((9 - said.argmax(1) == y).double().mean()) > 0.85

    return Training(module, train, None, {"max_epochs": 20}, knows_the_second)


@program(family="siamese", data="digits")
def pairs_alike_or_not() -> Training:
    """Two images go through one network, which says whether they are of one digit."""
    images, labels = data.digits()
    x = images.flatten(1) / 16
    generator = torch.Generator().manual_seed(4)
    first = torch.randint(len(x), (6000,), generator=generator)
    second = torch.randint(len(x), (6000,), generator=generator)
    alike = labels[first] == labels[second]
    kept = alike | (torch.rand(6000, generator=generator) < 0.12)
    pairs = torch.stack([x[first], x[second]], dim=1)[kept]

    class Twins(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
            self.head = nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head((self.net(x[:, 0]) - self.net(x[:, 1])).abs())

    loaders = data.loaders(pairs, alike[kept].long(), batch_size=32)
    return _classifier(Twins(), 12, 0.75, loaders=loaders, optimizer=adam(2e-3))
