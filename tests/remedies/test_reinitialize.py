from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, AdamW

from lightning_plateau import PlateauCallback
from lightning_plateau.core.signal import ACTIVATION_DEAD
from lightning_plateau.remedies.reinitialize import Reinitialize
from lightning_plateau.remedies.replace_activation import ReplaceActivation
from lightning_plateau.testing import history
from lightning_plateau.training.run import Run
from tests.digits import Digits, digits, loader, trainer
from tests.remedies.test_contract import forward_pass
from tests.trainings import Guarding, Regressor, batches, fit


def run_of(make: Any, losses: Any = (1.0,) * 40, dead: float = 0.0) -> Run:
    guarding = Guarding()
    fit(Regressor(make), batches(3), guarding)
    run = guarding.run
    run.step = 0
    run.snapshots.keep(run)
    run.step = 40
    shares = {ACTIVATION_DEAD: {"net.2 (relu)": [dead] * 4}}
    run.refresh(history(shares, loss=losses, tapes=[forward_pass()]))
    return run


def test_all_layers_of_a_run_that_has_learned_nothing() -> None:
    run = run_of(partial(AdamW, lr=0.01))
    held = run.module.net[1].weight.clone()
    Reinitialize().apply(run)
    assert float(run.module.net[0].bias.detach().abs().sum()) == 0.0
    assert torch.equal(run.module.net[1].weight, held)
    optimizer = run.trainer.optimizers[0]
    assert run.module.net[0].weight not in optimizer.state
    assert run.module.net[1].weight in optimizer.state


def test_a_fused_optimizer_forgets_too() -> None:
    run = run_of(partial(SGD, lr=0.01, momentum=0.9, fused=True))
    change = Reinitialize().apply(run)
    weight = run.module.net[0].weight
    assert float(run.trainer.optimizers[0].state[weight]["momentum_buffer"].abs().sum()) == 0.0
    Reinitialize().revert(run, change)
    assert float(run.trainer.optimizers[0].state[weight]["momentum_buffer"].abs().sum()) > 0.0


def test_only_dead_layers_of_a_run_that_has_learned() -> None:
    learned = [1.0] * 10 + [0.5] * 30
    none = run_of(partial(SGD, lr=0.01), learned)
    assert (
        Reinitialize().obstacle(none) == "no layer has a weight of its own that may be drawn anew"
    )
    some = run_of(partial(SGD, lr=0.01), learned, dead=0.9)
    last = some.module.net[3].weight.clone()
    assert Reinitialize().apply(some).after == {"weights": "fresh in 1 layers"}
    assert torch.equal(some.module.net[3].weight, last)


def test_what_looks_pretrained_is_not_overwritten() -> None:
    run = run_of(partial(SGD, lr=0.01))
    structured = torch.randn(64, 64)
    structured += 5 * torch.outer(structured[0], structured[1])
    run.snapshots.initial.state["module"]["net.0.weight"] = structured
    for remedy in (Reinitialize(), ReplaceActivation()):
        assert remedy.obstacle(run) == "net.0.weight looks pretrained"
    run.snapshots.initial = None
    assert "no snapshot" in str(Reinitialize().obstacle(run))


def test_frozen_and_untaped_layers_stay() -> None:
    run = run_of(partial(SGD, lr=0.01))
    run.module.net.requires_grad_(False)
    assert "no layer has a weight" in str(Reinitialize().obstacle(run))
    run.refresh(history(loss=[1.0] * 40))
    assert "not taped" in str(Reinitialize().obstacle(run))


@pytest.mark.parametrize("layers", ["some", 3])
def test_the_choice_of_layers_is_checked(layers: Any) -> None:
    with pytest.raises(
        ValueError, match=f"layers must be 'all', 'dead' or None, but is {layers!r}"
    ):
        Reinitialize(layers=layers)
    with pytest.raises(ValueError, match="to must be one of leaky_relu, elu, gelu, but is 'swish'"):
        ReplaceActivation(to="swish")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"rate must be a positive finite number, but is 0\.0"):
        ReplaceActivation(rate=0.0)


def test_a_rate_for_sigmoids_is_lowered_for_rectifiers_and_put_back() -> None:
    run = run_of(partial(SGD, lr=0.5))
    remedy = ReplaceActivation(to="elu", rate=0.1)
    held = run.module.net[0].weight.clone()
    change = remedy.apply(run)
    assert change.before["learning_rate"] == 0.5
    assert change.after["learning_rate"] == pytest.approx(0.05)
    assert not torch.equal(run.module.net[0].weight, held)
    remedy.revert(run, change)
    assert run.learning_rates == {"learning_rate": 0.5}
    assert torch.equal(run.module.net[0].weight, held)


def test_what_was_learned_with_its_activations_keeps_them() -> None:
    learned = run_of(partial(SGD, lr=0.01), [1.0] * 10 + [0.5] * 30)
    assert "has learned something" in str(ReplaceActivation().obstacle(learned))


class Sigmoids(Digits):
    """Eight layers of sigmoids: gradients vanish."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for _ in range(8):
            layers += [nn.Linear(64, 64), nn.Sigmoid()]
        self.net = nn.Sequential(*layers, nn.Linear(64, 10))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class Dead(Sigmoids):
    def __init__(self) -> None:
        super().__init__()
        for name, part in self.net.named_children():
            if isinstance(part, nn.Linear):
                nn.init.constant_(part.bias, -8.0)
            if isinstance(part, nn.Sigmoid):
                setattr(self.net, name, nn.ReLU())


def accuracy(module: Digits) -> float:
    images, labels = digits()
    with torch.no_grad():
        return float((module.eval()(images[1000:]).argmax(1) == labels[1000:]).float().mean())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sick", "remedy"), [(Sigmoids, "replace-activation"), (Dead, "reinitialize")]
)
def test_a_training_that_would_fail_succeeds(sick: Any, remedy: str, tmp_path: Path) -> None:
    ends = []
    for callbacks in ([], [PlateauCallback(policy="auto", dirpath=str(tmp_path))]):
        torch.manual_seed(0)
        module = sick()
        trainer(*callbacks, max_epochs=10).fit(module, loader(1000))
        ends.append(accuracy(module))
    assert [made.remedy for made in callbacks[0].journal.interventions] == [remedy]
    assert ends[0] < 0.2
    assert ends[1] > 0.8


@pytest.mark.slow
def test_new_activations_are_put_in_place_again_on_resume(tmp_path: Path) -> None:
    def training(**settings: Any) -> Any:
        callback = PlateauCallback(policy="auto", dirpath=str(tmp_path))
        return trainer(callback, **settings), callback

    torch.manual_seed(0)
    first, callback = training(max_epochs=5)
    module = Sigmoids()
    first.fit(module, loader(1000))
    first.save_checkpoint(tmp_path / "last.ckpt")
    first_outcome = callback.journal.outcomes[0]
    assert (first_outcome.remedy, first_outcome.verdict) == ("replace-activation", "kept")
    second, _ = training(max_epochs=6)
    resumed = Sigmoids()
    second.fit(resumed, loader(1000), ckpt_path=tmp_path / "last.ckpt")
    assert repr(resumed.net) == repr(module.net)
    assert accuracy(resumed) > accuracy(module) - 0.1
    without = Sigmoids()
    trainer(max_epochs=6).fit(without, loader(1000), ckpt_path=tmp_path / "last.ckpt")


class Recurrent(Regressor):
    def __init__(self, optimizer: Any) -> None:
        super().__init__(optimizer)
        self.rnn = nn.LSTM(3, 8, batch_first=True)
        self.rnn.weight_hh_l0.data.fill_(9.0)


def test_recurrent_layers_get_orthogonal_weights_and_get_the_old_ones_back() -> None:
    guarding = Guarding()
    fit(Recurrent(partial(SGD, lr=0.0)), batches(3), guarding)
    run = guarding.run
    run.step = 0
    run.snapshots.keep(run)
    run.refresh(history(loss=[1.0] * 40, tapes=[forward_pass()]))
    held = run.module.rnn.weight_hh_l0.detach().clone()
    change = Reinitialize().apply(run)
    gates = run.module.rnn.weight_hh_l0.detach().view(4, 8, 8)
    assert torch.allclose(gates @ gates.transpose(1, 2), torch.eye(8).expand(4, 8, 8), atol=1e-5)
    assert not run.module.rnn.bias_hh_l0.any()
    Reinitialize().revert(run, change)
    assert torch.equal(run.module.rnn.weight_hh_l0, held)
