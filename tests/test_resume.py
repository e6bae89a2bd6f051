"""Trainings that go on under other circumstances than they began under."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_plateau import PlateauCallback
from lightning_plateau.core import signal
from lightning_plateau.framework import Callback, LightningModule
from tests.digits import digits, trainer
from tests.ranks import on_ranks

STATES = Path(__file__).parent / "states"
AT, STEPS = 6, 10


class Small(LightningModule):
    """Softmax before cross-entropy."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images.flatten(1)).softmax(dim=1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self(images), labels)

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


class Renamed(Small):
    """The same with its layers under other names."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.net = self.net, nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images.flatten(1)).softmax(dim=1)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        held = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k.replace("net.", "body."): v for k, v in held.items()}


class Saving(Callback):
    """Saves amid the epoch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == AT:
            trainer.save_checkpoint(self.path)


def train(
    folder: Path, own: PlateauCallback, *, ranks: int = 1, resume: Path | None = None,
    module: type[LightningModule] = Small,
) -> Any:  # fmt: skip
    """Train for ten steps, saving amid them; return what was recorded and found, and the end.

    How many steps there were is the Trainer's to say: resumed, Lightning 2.4 makes the batch once
    more after which the checkpoint was written.
    """
    torch.manual_seed(0)
    images, labels = digits()
    some = 16 * STEPS * ranks
    data = DataLoader(TensorDataset(images[:some], labels[:some]), 16)
    saving = [Saving(folder / "amid.ckpt")] if resume is None else []
    settings: dict[str, Any] = {"strategy": "ddp", "devices": ranks} if ranks > 1 else {}
    fit = trainer(own, *saving, **settings)
    fit.fit(module(), data, ckpt_path=resume)
    losses = own.history[signal.LOSS]
    told = [(one.code, one.message) for one in own.findings]
    weights = [p.detach().flatten().tolist() for p in fit.lightning_module.parameters()]
    counted = fit.global_step
    return own.disabled, losses.steps.tolist(), losses.values.tolist(), told, counted, weights


def own(folder: Path, **settings: Any) -> PlateauCallback:
    return PlateauCallback(dirpath=str(folder), quiet=True, **{"every_n_steps": 3, **settings})


def assert_goes_on(before: Any, after: Any) -> None:
    """Nothing that was recorded before the checkpoint is lost, and recording goes on."""
    disabled, steps, losses, told, counted, _ = after
    assert not disabled
    assert steps == list(range(counted))
    assert counted in (STEPS, STEPS + 1)
    assert losses[:AT] == before[2][:AT]
    assert np.isfinite(losses).all()
    assert "LP701" in dict(told)
    assert "LP903" not in dict(told)


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
@pytest.mark.parametrize("policy", ["observe", "auto"])
def test_at_another_number_of_ranks(policy: Any, first: int, then: int, tmp_path: Path) -> None:
    def work(ranks: int, resume: Path | None) -> Any:
        return train(tmp_path, own(tmp_path, policy=policy), ranks=ranks, resume=resume)

    def ends(ranks: int, resume: Path | None) -> list[Any]:
        alone = partial(work, ranks, resume)
        return on_ranks(alone, ranks) if ranks > 1 else [alone()]

    before, *_ = ends(first, None)
    after = ends(then, tmp_path / "amid.ckpt")
    assert_goes_on(before, after[0])
    assert all(other == after[0] for other in after[1:])


CHANGED = {
    "policy": ({"policy": "auto"}, {"policy": "observe"}),
    "more policy": ({"policy": "observe"}, {"policy": "auto"}),
    "interval": ({"every_n_steps": 3}, {"every_n_steps": 4}),
    "every step": ({"every_n_steps": 5}, {"every_n_steps": 1}),
    "more rules": ({"select": ["LP701"]}, {}),
    "fewer rules": ({}, {"select": ["LP701"]}),
    "no experiments": ({"check": True}, {"experiments": "never"}),
    "experiments": ({"experiments": "never"}, {"check": True}),
}


@pytest.mark.parametrize("name", CHANGED)
def test_with_other_settings(name: str, tmp_path: Path) -> None:
    first, then = CHANGED[name]
    before = train(tmp_path, own(tmp_path, **first))
    assert_goes_on(before, train(tmp_path, own(tmp_path, **then), resume=tmp_path / "amid.ckpt"))


def test_with_layers_of_other_names(tmp_path: Path) -> None:
    before = train(tmp_path, own(tmp_path))
    callback = own(tmp_path)
    after = train(tmp_path, callback, resume=tmp_path / "amid.ckpt", module=Renamed)
    assert_goes_on(before, after)
    layers = callback.history[signal.GRADIENT_NORMS]
    known = np.isfinite(layers.values)
    for label, rows in (("net.0.weight", slice(AT)), ("body.0.weight", slice(AT, None))):
        assert known[rows, layers.labels.index(label)].all()


@pytest.mark.parametrize("state", sorted(STATES.glob("*.state")), ids=lambda path: path.stem)
def test_from_a_state_that_an_older_version_has_written(state: Path, tmp_path: Path) -> None:
    callback = own(tmp_path)
    disabled, steps, losses, told, counted, _ = train(tmp_path, callback, resume=state)
    assert not disabled, told
    assert steps == list(range(counted))
    assert np.isfinite(losses).all()
    assert told[0][0] == "LP701"
    assert "LP903" not in dict(told)


def _from_the_future(state: Any) -> None:
    state["recorder"]["version"] += 1


def _without_a_recorder(state: Any) -> None:
    del state["recorder"]


def _of_another_library(state: Any) -> None:
    state.clear()
    state["patience"] = 3


def _with_a_broken_journal(state: Any) -> None:
    state["journal"] = "nonsense"


def _with_a_broken_ledger(state: Any) -> None:
    state["ledger"] = {"nonsense": 1}


BROKEN = [
    _from_the_future, _without_a_recorder, _of_another_library, _with_a_broken_journal,
    _with_a_broken_ledger,
]  # fmt: skip


@pytest.mark.parametrize("spoil", BROKEN)
def test_a_state_that_cannot_be_read_is_told_and_the_run_watched_anew(
    spoil: Any, tmp_path: Path
) -> None:
    train(tmp_path, own(tmp_path))
    checkpoint = torch.load(tmp_path / "amid.ckpt", weights_only=True)
    spoil(checkpoint["callbacks"]["PlateauCallback"])
    torch.save(checkpoint, tmp_path / "spoilt.ckpt")
    after = train(tmp_path, own(tmp_path), resume=tmp_path / "spoilt.ckpt")
    disabled, steps, _, told, counted, _ = after
    assert not disabled
    assert steps == list(range(counted - AT))
    assert "cannot be read" in dict(told)["LP903"]
    assert "LP701" in dict(told)
