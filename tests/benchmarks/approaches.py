"""What is compared on a sick training: nothing, what people do, and ours, for the same steps."""

from __future__ import annotations

import copy
import math
import random
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from lightning_plateau import PlateauCallback
from lightning_plateau.framework import Callback
from tests.benchmarks.monitors import ZScoreClipping
from tests.faults.learner import accuracy
from tests.faults.observation import fit
from tests.faults.program import Training

Build = Callable[[], Training]


class Ruler(Callback):
    """Counts the batches that were trained on."""

    steps = 0

    def on_train_batch_end(self, *_: Any) -> None:
        """Count."""
        self.steps += 1


class PlateauSchedule(Callback):
    """torch's ReduceLROnPlateau on the validation loss, as Lightning steps it."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Take the optimizer."""
        self.schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
            trainer.optimizers[0], factor=0.1, patience=3
        )

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Step."""
        self.schedule.step(float(trainer.callback_metrics["val_loss"]))


class BestWeights(Callback):
    """Early stopping on the validation loss that ends with the weights that were best.

    Args:
        patience: Validations without a better one after which training stops.
    """

    def __init__(self, patience: int = 5) -> None:
        self.patience = patience
        self.least, self.bad = math.inf, 0
        self.best: dict[str, Any] | None = None

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Compare."""
        loss = float(trainer.callback_metrics["val_loss"])
        if loss < self.least:
            self.least, self.bad = loss, 0
            self.best = copy.deepcopy(pl_module.state_dict())
            return
        self.bad += 1
        if self.bad >= self.patience:
            trainer.should_stop = True

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Put the best weights back."""
        if self.best is not None:
            pl_module.load_state_dict(self.best)


@dataclass(frozen=True)
class Ended:
    """How a training ended.

    Attributes:
        accuracy: Accuracy on the validation samples.
        steps: Batches trained on.
        notes: What was done and why, for reading.
    """

    accuracy: float
    steps: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Approach:
    """A way to treat a training.

    Attributes:
        name: Name in the table.
        callbacks: Makes the callbacks, given a folder to write to.
        settings: Arguments of the Trainer.
    """

    name: str
    callbacks: Callable[[str], list[Callback]] = lambda folder: []
    settings: Mapping[str, Any] = field(default_factory=dict)

    def train(self, build: Build, seed: int) -> Ended:
        """Train once from ``seed``."""
        return self.trained(seeded(build, seed), seed)

    def trained(self, training: Training, seed: int) -> Ended:
        """Train what was built, the order of samples drawn from ``seed``."""
        ruler = Ruler()
        torch.manual_seed(seed)
        changed = replace(training, settings={**training.settings, **self.settings})
        with tempfile.TemporaryDirectory() as folder:
            callbacks = self.callbacks(folder)
            error = fit(changed, [*callbacks, ruler])
            notes = tuple(line for one in callbacks for line in _told(one))
        return Ended(
            accuracy(training.module, training.validation),
            ruler.steps,
            (*notes, *([error] if error else [])),
        )


class RandomRepair(Approach):
    """Half of the steps as it is, then from fresh weights with a repair that is drawn by lot."""

    def train(self, build: Build, seed: int) -> Ended:
        """Train twice, each for half of the epochs."""
        first = super().trained(_halved(seeded(build, seed)), seed)
        chance = random.Random(seed)
        name = chance.choice(list(REPAIRS))
        second = super().trained(REPAIRS[name](_halved(seeded(build, seed + 1))), seed + 1)
        return Ended(second.accuracy, first.steps + second.steps, (name,))


def seeded(build: Build, seed: int) -> Training:
    """Return the training, built from ``seed``."""
    torch.manual_seed(seed)
    return build()


def _told(callback: Callback) -> list[str]:
    if not isinstance(callback, PlateauCallback):
        return []
    journal = callback.journal
    made = [f"{i.step}: {i.remedy} for {i.code}" for i in journal.interventions]
    ended = [f"{o.step}: {o.remedy} {o.verdict}: {o.reason}" for o in journal.outcomes]
    notes = [f"{n.step}: {n.text}" for n in journal.notes]
    found = [f"found {f.code} {f.confidence:.2f} at {f.step}" for f in callback.findings]
    return [*made, *ended, *notes, *found]


def _halved(training: Training) -> Training:
    epochs = max(1, training.settings["max_epochs"] // 2)
    return replace(training, settings={**training.settings, "max_epochs": epochs})


def _scaled(factor: float) -> Callable[[Training], Training]:
    def repair(training: Training) -> Training:
        make = training.module._optimizer

        def scaled(parameters: Any) -> Any:
            optimizer = make(parameters)
            for group in optimizer.param_groups:
                group["lr"] *= factor
            return optimizer

        training.module._optimizer = scaled
        return training

    return repair


def _adam(training: Training) -> Training:
    training.module._optimizer = lambda parameters: torch.optim.Adam(parameters, lr=1e-3)
    return training


def _clipped(training: Training) -> Training:
    return replace(training, settings={**training.settings, "gradient_clip_val": 1.0})


def _rectified(training: Training) -> Training:
    for part in list(training.module.modules()):
        for name, child in part.named_children():
            if isinstance(child, nn.Sigmoid | nn.Tanh):
                setattr(part, name, nn.ReLU())
    return training


def _kaiming(training: Training) -> Training:
    for part in training.module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
            nn.init.zeros_(part.bias)
    return training


def _normalized(training: Training) -> Training:
    for part in list(training.module.modules()):
        if isinstance(part, nn.Sequential):
            for name, child in list(part.named_children())[:-1]:
                if isinstance(child, nn.Linear):
                    part[int(name)] = nn.Sequential(child, nn.BatchNorm1d(child.out_features))
                if isinstance(child, nn.Conv2d):
                    part[int(name)] = nn.Sequential(child, nn.BatchNorm2d(child.out_channels))
    return training


REPAIRS: dict[str, Callable[[Training], Training]] = {
    "a tenth of the learning rate": _scaled(0.1),
    "ten times the learning rate": _scaled(10.0),
    "Adam": _adam,
    "clipping": _clipped,
    "ReLU": _rectified,
    "Kaiming initialization": _kaiming,
    "batch norm": _normalized,
}


def _ours(policy: Any) -> Callable[[str], list[Callback]]:
    return lambda folder: [PlateauCallback(policy=policy, dirpath=folder, quiet=True)]


APPROACHES = (
    Approach("untreated"),
    RandomRepair("restart with a repair drawn by lot"),
    Approach("`gradient_clip_val=1`", settings={"gradient_clip_val": 1.0}),
    Approach("`ReduceLROnPlateau`", lambda _: [PlateauSchedule()]),
    Approach("`EarlyStopping`, best weights", lambda _: [BestWeights()]),
    Approach("ZClip", lambda _: [ZScoreClipping()]),
    Approach("lightning_plateau `safe`", _ours("safe")),
    Approach("lightning_plateau `auto`", _ours("auto")),
)
