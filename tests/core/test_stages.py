from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lightning_plateau import PlateauCallback
from lightning_plateau.core.stages import hidden_activations, stages
from lightning_plateau.core.tape import Tape
from tests.digits import Digits, loader, trainer


def tape_of(module: Digits, folder: Any) -> Tape:
    callback = PlateauCallback(policy="observe", dirpath=str(folder))
    trainer(callback, max_steps=1).fit(module, loader(32))
    tape = callback.history.last_tape
    assert tape is not None
    return tape


def test_layers_lead_to_their_activations_through_norm_and_pooling(tmp_path: Any) -> None:
    tape = tape_of(Digits(), tmp_path)
    found = [(s.weight, s.bias, s.activation and s.activation.name) for s in stages(tape)]
    assert found == [
        ("net.0.weight", "", "relu"),  # batch norm has the bias
        ("net.6.weight", "net.6.bias", None),
    ]
    assert [operation.layer for operation in hidden_activations(tape)] == ["net.2"]


class Gated(Digits):
    """A gate, a shared weight, an activation on the output, and one that is hidden."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared, self.last = nn.Linear(64, 8), nn.Linear(8, 8), nn.Linear(8, 10)
        self.gate, self.act, self.squash = nn.Sigmoid(), nn.Tanh(), nn.Softsign()

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.act(self.first(images.flatten(1)))
        hidden = hidden * self.gate(self.shared(hidden)) + self.shared(hidden)
        return self.squash(self.last(torch.relu(hidden)))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return cross_entropy(self(batch[0]), batch[1])


def test_gates_outputs_and_shared_weights_are_left_out(tmp_path: Any) -> None:
    tape = tape_of(Gated(), tmp_path)
    assert [stage.weight for stage in stages(tape)] == ["first.weight", "last.weight"]
    assert [operation.name for operation in hidden_activations(tape)] == ["relu"]
