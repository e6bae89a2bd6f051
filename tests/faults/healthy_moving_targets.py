"""Healthy: losses whose level tells little, for the training makes its targets itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_plateau.framework import LightningModule
from tests.faults import data
from tests.faults.program import Training, program


def _perceptron(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, outputs))


@program(data="diabetes")
def bootstrapped_values() -> Training:
    """Values of actions, learned from a copy that is renewed every hundred steps."""

    class Net(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.values, self.copy = _perceptron(8, 4), _perceptron(8, 4)
            self.copy.requires_grad_(False)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            now, action, reward, after = batch
            if self.global_step % 100 == 0:
                self.copy.load_state_dict(self.values.state_dict())
            with torch.no_grad():
                target = reward + 0.9 * self.copy(after).max(1).values
            said = self.values(now).gather(1, action[:, None]).squeeze(1)
            return F.smooth_l1_loss(said, target)

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.values.parameters(), lr=1e-3)

    table = data.diabetes()[0]
    now = data.standardized(table)[:, :8].repeat(8, 1)
    action = torch.randint(4, (len(now),))
    reward = torch.tanh((now @ torch.randn(8, 4)).gather(1, action[:, None]).squeeze(1))
    after = 0.9 * now + 0.3 * torch.randn_like(now)
    module = Net()

    def learned() -> bool:
        with torch.no_grad():
            said = module.values(now).gather(1, action[:, None]).squeeze(1)
        return bool(torch.corrcoef(torch.stack([said, reward]))[0, 1] > 0.4)

    loader = DataLoader(TensorDataset(now, action, reward, after), 64, shuffle=True)
    return Training(module, loader, None, {"max_epochs": 24}, learned)


@program()
def clipped_policy_with_a_critic() -> Training:
    """A policy whose ratio is clipped, a critic, and a bonus for entropy; rewards for digits."""

    class Net(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.policy, self.critic = _perceptron(64, 10), _perceptron(64, 1)
            self.rollout: tuple[Tensor, ...] = ()

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if batch_idx % 4 == 0:
                self._collect(*batch)
            x, action, before, reward = self.rollout
            chosen, value = Categorical(logits=self.policy(x)), self.critic(x).squeeze(1)
            advantage = reward - value.detach()
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
            ratio = (chosen.log_prob(action) - before).exp()
            gained = torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
            return -gained + 0.5 * F.mse_loss(value, reward) - 0.01 * chosen.entropy().mean()

        def _collect(self, x: Tensor, y: Tensor) -> None:
            with torch.no_grad():
                chosen = Categorical(logits=self.policy(x))
                action = chosen.sample()
            self.rollout = x, action, chosen.log_prob(action), (action == y).float()

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=2e-3)

    images, labels = data.digits()
    module, (train, validation) = Net(), data.loaders(images.flatten(1) / 16, labels, batch_size=64)

    def learned() -> bool:
        with torch.no_grad():
            hits = [(module.policy(x).argmax(1) == y).float().mean() for x, y in validation]
        return bool(torch.stack(hits).mean() > 0.2)

    return Training(module, train, None, {"max_epochs": 30}, learned)


@program(family="embedding", data="drawn")
def factors_that_understand_late() -> Training:
    """Factors of a table of measurements: known cells are learned long before unknown ones."""

    class Net(LightningModule):
        def __init__(self, rows: int, columns: int) -> None:
            super().__init__()
            self.rows, self.columns = nn.Embedding(rows, 16), nn.Embedding(columns, 16)
            self.mean = nn.Parameter(torch.zeros(()))
            for table in (self.rows, self.columns):
                nn.init.normal_(table.weight, std=0.1)

        def error(self, batch: Any) -> Tensor:
            row, column, value = batch
            said = (self.rows(row) * self.columns(column)).sum(1) + self.mean
            return F.mse_loss(said, value)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self.error(batch)

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", self.error(batch))

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=5e-3)

    rows, columns, cells = 200, 120, 8_000
    row, column = torch.randint(rows, (cells,)), torch.randint(columns, (cells,))
    true = (torch.randn(rows, 4)[row] * torch.randn(columns, 4)[column]).sum(1) / 2 + 3
    value = true + 0.3 * torch.randn(cells)
    known = TensorDataset(row[:7_200], column[:7_200], value[:7_200])
    unknown = TensorDataset(row[7_200:], column[7_200:], value[7_200:])
    module = Net(rows, columns)

    def learned() -> bool:
        with torch.no_grad():
            return bool(module.error(unknown.tensors) < 0.6 * value.var())

    loaders = DataLoader(known, 64, shuffle=True), DataLoader(unknown, 512)
    return Training(module, *loaders, {"max_epochs": 12}, learned)
