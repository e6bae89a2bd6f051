from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import LBFGS, SGD
from torchmetrics.classification import MulticlassAccuracy

from lightning_plateau import PlateauCallback
from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.remedies.decay_learning_rate import DecayLearningRate
from lightning_plateau.remedies.raise_learning_rate import RaiseLearningRate
from lightning_plateau.remedies.switch_optimizer import SwitchOptimizer
from lightning_plateau.testing import history
from lightning_plateau.training.run import Run
from lightning_plateau.treatment import rehearsal
from lightning_plateau.treatment.policy import Policy
from lightning_plateau.treatment.tournament import NOTHING, Candidate, compete
from tests.digits import Digits, digits, loader, trainer
from tests.remedies.test_contract import all_of
from tests.trainings import Guarding, ManualRegressor, Regressor, batches, fit, scaled

FLAT = Finding("LP401", "flat-loss", 10, Severity.ERROR, 0.8, "")


class Measured(Regressor):
    """Logs and measures in its step, as people do."""

    def __init__(self, optimizer: Any) -> None:
        super().__init__(optimizer)
        self.metric = MulticlassAccuracy(2)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.metric.update(torch.tensor([1]), torch.tensor([batch_idx % 2]))
        self.log("loss", loss)
        return loss


def run_of(make: Any, module: Any = Measured, **settings: Any) -> Run:
    guarding = Guarding()
    fit(module(make), batches(6), guarding, **settings)
    run = guarding.run
    run.batches.extend(batches(4))
    run.refresh(history(loss=[10.0] + [1.0] * 40))
    return run


def test_a_rehearsal_leaves_no_trace() -> None:
    run = run_of(partial(SGD, lr=0.1, momentum=0.9))
    run.module.net[0].weight.grad = torch.ones(8, 3)
    before, metric = all_of(run), copy.deepcopy(vars(run.module.metric))
    with rehearsal.taken_back(run):
        losses = rehearsal.rehearse(run, list(run.batches), 12)
    assert len(losses) == 12
    assert len(set(losses)) == 12
    assert all_of(run) == before
    assert float(run.module.net[0].weight.grad.sum()) == 24.0
    assert str(vars(run.module.metric)) == str(metric)
    assert "log" not in vars(run.module)


def test_the_best_comes_first_and_the_run_is_left_as_it_was() -> None:
    run = run_of(partial(SGD, lr=1e-5))
    before = all_of(run)
    remedies = (DecayLearningRate(0.5), RaiseLearningRate(1e4), SwitchOptimizer(to="adam", lr=1e-4))
    standings = compete(run, [Candidate(r, FLAT) for r in remedies], list(run.batches))
    assert standings[0].candidate.name == "raise-learning-rate"
    assert {s.candidate.name for s in standings} == {NOTHING, *(r.name for r in remedies)}
    assert all_of(run) == before


def test_what_breaks_comes_last() -> None:
    run = run_of(partial(SGD, lr=0.01))
    remedies = (RaiseLearningRate(1e30), RaiseLearningRate(2.0))
    standings = compete(run, [Candidate(r, FLAT) for r in remedies], list(run.batches))
    assert standings[-1].candidate.remedy == remedies[0]


@pytest.mark.parametrize(
    ("make", "module", "settings", "words"),
    [
        (partial(SGD, lr=0.1), ManualRegressor, {}, "you step the optimizer yourself"),
        (partial(LBFGS, lr=0.1), Regressor, {}, "several times a step"),
        (partial(SGD, lr=0.1), Regressor, {"plugins": "scaler"}, "a gradient scaler is at work"),
        (partial(SGD, lr=0.1), Regressor, {}, None),
    ],
)
def test_where_nothing_can_be_rehearsed(make: Any, module: Any, settings: Any, words: Any) -> None:
    run = run_of(make, module, **({"plugins": scaled()} if settings else {}))
    obstacle = rehearsal.obstacle(run)
    assert obstacle is None if words is None else words in str(obstacle)


class Deep(Digits):
    """Too small a rate for SGD in a deep network: the optimizer makes the difference."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for _ in range(6):
            layers += [nn.Linear(64, 64), nn.Tanh()]
        self.net = nn.Sequential(*layers, nn.Linear(64, 10))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), lr=0.002)


@pytest.mark.slow
def test_the_winner_is_tried_first(tmp_path: Path) -> None:
    torch.manual_seed(0)
    policy = Policy(safety="unsafe", tournament=True)
    # A flat loss for no known reason has several remedies, which compete.
    callback = PlateauCallback(policy=policy, select=["LP401"], dirpath=str(tmp_path))
    module = Deep()
    trainer(callback, max_epochs=8).fit(module, loader(1000))
    assert not callback.disabled
    notes = [note.text for note in callback.journal.notes if note.text.startswith("tournament")]
    assert notes
    first = callback.journal.interventions[0]
    assert notes[0].split(": ")[1].startswith(first.remedy)
    images, labels = digits()
    with torch.no_grad():
        assert float((module.eval()(images[1000:]).argmax(1) == labels[1000:]).float().mean()) > 0.7
