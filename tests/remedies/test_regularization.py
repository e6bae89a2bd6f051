from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Adam, AdamW

from lightning_plateau import PlateauCallback
from lightning_plateau.core.signal import VALIDATION_LOSS
from lightning_plateau.core.tape import Tape
from lightning_plateau.remedies.augment_batch import AugmentBatch
from lightning_plateau.remedies.dropout import Dropout
from lightning_plateau.remedies.l1_penalty import L1Penalty
from lightning_plateau.remedies.weight_decay import WeightDecay
from lightning_plateau.testing import history
from lightning_plateau.training.run import Run
from lightning_plateau.training.training_input import Jitter, TrainingInput
from lightning_plateau.treatment.policy import Policy
from tests.digits import Digits, loader, trainer
from tests.remedies.test_contract import forward_pass, trained
from tests.trainings import Guarding, Regressor, batches, fit

REGULARIZERS = (WeightDecay, L1Penalty, Dropout, AugmentBatch)


def run_of(make: Any) -> Run:
    guarding = Guarding()
    fit(Regressor(make), batches(3), guarding)
    guarding.run.refresh(history({VALIDATION_LOSS: [1.0, 2.0]}, tapes=[forward_pass()]))
    return guarding.run


@pytest.mark.parametrize("remedy", REGULARIZERS)
def test_without_validation_there_is_nothing_to_judge_it_by(remedy: Any) -> None:
    run = trained()
    run.refresh(history(loss=[1.0] * 40, tapes=[forward_pass()]))
    assert remedy().obstacle(run) == "there is no validation to judge it by"


@pytest.mark.parametrize(
    ("make", "obstacle"),
    [
        (partial(SGD, lr=0.1), None),
        (partial(AdamW, lr=0.1), None),
        (partial(AdamW, lr=0.1, weight_decay=0.3), "weight_decay is set to 0.3"),
        (partial(Adam, lr=0.1, weight_decay=1e-4), "weight_decay is set to 0.0001"),
        (partial(LBFGS, lr=0.1), "an optimizer has no weight decay"),
    ],
)
def test_the_weight_decay_of_the_user_wins(make: Any, obstacle: str | None) -> None:
    run = run_of(make)
    assert WeightDecay().obstacle(run) == obstacle
    if obstacle is None:
        WeightDecay().apply(run)
        decay = run.trainer.optimizers[0].param_groups[0]["weight_decay"]
        assert decay == {"SGD": 5e-4, "AdamW": 0.1}[type(run.trainer.optimizers[0]).__name__]


def test_small_weights_become_zero_and_biases_stay() -> None:
    run = run_of(partial(SGD, lr=0.1))
    L1Penalty(strength=1.0).apply(run)
    layer = run.module.net[0]
    before = layer.weight.detach().clone()
    for parameter in run.module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    bias = layer.bias.detach().clone()
    run.trainer.optimizers[0].step()
    expected = before.sign() * (before.abs() - 0.1).clamp_min(0.0)
    assert torch.allclose(layer.weight, expected, atol=1e-6)
    assert torch.equal(layer.bias, bias)


def test_the_derived_penalty_is_a_small_part_of_the_loss() -> None:
    run = run_of(partial(SGD, lr=0.1))
    run.refresh(history(loss=[2.0] * 40))
    strength = float(L1Penalty().apply(run).after["l1_penalty"] or 0.0)
    total = sum(float(p.detach().abs().sum()) for p in run.module.parameters() if p.dim() >= 2)
    assert strength * total == pytest.approx(0.1)


class Dropping(Regressor):
    def __init__(self, optimizer: Any) -> None:
        super().__init__(optimizer)
        self.net.insert(3, nn.Dropout(0.1))


def test_dropout_is_raised_where_there_is_some() -> None:
    guarding = Guarding()
    fit(Dropping(partial(SGD, lr=0.1)), batches(3), guarding)
    run = guarding.run
    run.refresh(history({VALIDATION_LOSS: [1.0]}, tapes=[forward_pass()]))
    change = Dropout(add=0.3).apply(run)
    assert run.module.net[3].p == pytest.approx(0.4)
    Dropout().revert(run, change)
    assert run.module.net[3].p == 0.1


def test_without_any_it_comes_before_the_last_layer_and_only_in_training() -> None:
    run = run_of(partial(SGD, lr=0.1))
    Dropout(add=0.5).apply(run)
    inputs = torch.ones(64, 8)
    head = run.module.net[3]
    head.train()
    assert not torch.equal(head(inputs), head(inputs))
    plain = nn.functional.linear(inputs, head.weight, head.bias)
    head.eval()
    assert torch.equal(head(inputs), plain)
    head.train()
    with torch.no_grad():
        assert torch.equal(head(inputs), plain)


def test_images_are_moved_each_in_its_own_way() -> None:
    images = torch.zeros(200, 1, 8, 8)
    images[:, :, 4, 4] = 1.0
    moved = Jitter(noise=0.0)(images)
    places = moved.flatten(1).argmax(dim=1)
    assert moved.shape == images.shape
    assert set(places.tolist()) == {8 * row + column for row in (3, 4, 5) for column in (3, 4, 5)}
    images[:, :, 4, 4], images[:, :, 4, 1] = 0.0, 1.0
    sides = Jitter(mirror=True, noise=0.0)(images).sum(dim=(0, 1, 2))
    assert float(sides[:4].sum()) > 50
    assert float(sides[4:].sum()) > 50


def test_targets_that_are_images_are_left_with_theirs() -> None:
    run = trained()
    assert AugmentBatch().obstacle(run) is None
    tape = run.history.last_tape
    assert tape is not None
    *rest, loss = tape.operations
    target = type(loss.operands[0])("batch", 1, "1", (4, 8, 8))
    dense = type(loss)(6, "mse_loss", "", (loss.operands[0], target))
    run.refresh(
        history({VALIDATION_LOSS: [1.0]}, loss=[1.0] * 40, tapes=[Tape(0, (*rest, dense), root=6)])
    )
    assert AugmentBatch().obstacle(run) == "the targets may have to move with the images"


def test_evaluation_sees_inputs_as_they_are() -> None:
    layer = nn.Linear(2, 2)
    changed = TrainingInput(layer, lambda values: values + 1.0)
    inputs = torch.zeros(1, 2)
    assert torch.equal(layer.eval()(inputs), layer.bias[None])
    assert not torch.equal(layer.train()(inputs), layer.bias[None])
    changed.close()
    assert torch.equal(layer(inputs), layer.bias[None])


class Wide(Digits):
    """Far too wide for 60 images: it learns them by heart."""

    def __init__(self) -> None:
        super().__init__(lr=3e-3)
        first, second = nn.Conv2d(1, 32, 3, padding=1), nn.Linear(2048, 256)
        hidden = (first, nn.ReLU(), nn.Flatten(), second, nn.ReLU())
        self.net = nn.Sequential(*hidden, nn.Linear(256, 10))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, labels = batch
        return nn.functional.cross_entropy(self(images), (labels + (labels * 7 + 3) % 10) % 10)


@pytest.mark.slow
def test_an_overfitted_training_is_regularized_on_trial_and_resumes(tmp_path: Path) -> None:
    names = ("dropout", "augment-batch")

    def training(epochs: int) -> tuple[Any, PlateauCallback]:
        policy = Policy(remedies=names, cooldown_steps=0)
        callback = PlateauCallback(policy=policy, dirpath=str(tmp_path), select=["LP801"])
        return trainer(callback, max_epochs=epochs), callback

    torch.manual_seed(0)
    first, callback = training(40)
    module = Wide()
    first.fit(module, loader(64, 16), loader(256, 256, shuffle=False, seed=1))
    assert not callback.disabled
    assert {made.remedy for made in callback.journal.interventions} & set(names)
    first.save_checkpoint(tmp_path / "last.ckpt")
    second, again = training(42)
    second.fit(
        Wide(), loader(64, 16), loader(256, 256, shuffle=False), ckpt_path=tmp_path / "last.ckpt"
    )
    assert not again.disabled
    trainer(max_epochs=41).fit(Wide(), loader(64, 16), ckpt_path=tmp_path / "last.ckpt")
