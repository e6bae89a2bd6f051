"""A training that is stuck is asked why, on a copy; one that is not is left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_plateau import PlateauCallback, inquiry
from lightning_plateau.core.signal import EXPERIMENT_OVERFIT, EXPERIMENT_ZERO_INPUTS
from lightning_plateau.experiments.zero_inputs import ZeroInputs
from tests.digits import Digits, loader, trainer
from tests.experiments.conducting import assert_bitwise_equal, ending


@pytest.fixture(autouse=True)
def time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test depend on how busy the machine is."""
    monkeypatch.setattr(inquiry, "LEAST_S", 1e3)


class Muffled(Digits):
    """The scores are confined to a hundredth about zero, whatever the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, images: Tensor) -> Tensor:
        return 0.01 * torch.tanh(100 * super().forward(images))


def watched(module: Any, folder: Path, **settings: Any) -> PlateauCallback:
    callback = PlateauCallback(
        dirpath=str(folder), every_n_steps=10, **{"policy": "observe", **settings}
    )
    fit = trainer(callback, max_epochs=16)
    fit.fit(module, loader(256), loader(64, shuffle=False, first=1500))
    assert not callback.disabled
    return callback


def experiments(callback: PlateauCallback) -> list[str]:
    texts = [note.text for note in callback.journal.notes]
    return [text.split()[1] for text in texts if text.startswith("experiment ")]


def test_a_stuck_training_is_asked_why(tmp_path: Path) -> None:
    callback = watched(Muffled(), tmp_path)
    assert {"zero-inputs", "overfit-one-batch"} <= set(experiments(callback))
    assert len(experiments(callback)) == len(set(experiments(callback)))
    assert EXPERIMENT_ZERO_INPUTS in callback.history
    codes = [finding.code for finding in callback.findings]
    assert "LP803" in codes
    assert codes.index("LP803") < codes.index("LP401")


def test_what_cannot_be_afforded_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ZeroInputs, "cost", 1e9)
    made = experiments(watched(Muffled(), tmp_path))
    assert "zero-inputs" not in made
    assert "overfit-one-batch" in made


def test_a_healthy_training_is_left_alone(tmp_path: Path) -> None:
    callback = watched(Digits(), tmp_path)
    assert experiments(callback) == []
    assert callback.findings == ()


def test_never_means_never(tmp_path: Path) -> None:
    assert experiments(watched(Muffled(), tmp_path, experiments="never")) == []
    with pytest.raises(ValueError, match="experiments must be 'when-stuck' or 'never'"):
        PlateauCallback(experiments="always")  # type: ignore[arg-type]


def test_a_check_begins_with_experiments(tmp_path: Path) -> None:
    callback = watched(Digits(), tmp_path, check=True, experiments="never")
    made = experiments(callback)
    assert made[0] == "zero-inputs"
    assert {"step-size", "overfit-one-batch", "shuffled-labels"} <= set(made)
    assert EXPERIMENT_OVERFIT in callback.history
    assert callback.findings == ()


@pytest.mark.parametrize("policy", ["observe", "safe"])
@pytest.mark.parametrize("check", [False, True])
def test_the_training_ends_bitwise_the_same(policy: Any, check: bool, tmp_path: Path) -> None:
    settings = {"policy": policy, "check": check, "every_n_steps": 10}
    callback = PlateauCallback(dirpath=str(tmp_path), **settings)
    disturbed, _ = ending(callback, Muffled, steps=130)
    alone, _ = ending(None, Muffled, steps=130)
    assert_bitwise_equal(disturbed, alone)
    assert len(experiments(callback)) > 2


class Overflowing(Muffled):
    """Runs out of memory where a batch is repeated; in the training batches differ."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        key = float(batch[0].sum())
        self.times = self.times + 1 if key == getattr(self, "key", None) else 0
        self.key = key
        if self.times == 4:
            raise torch.OutOfMemoryError("tried to allocate 20 GiB")
        return super().training_step(batch, batch_idx)


def test_an_experiment_that_fails_becomes_a_finding(tmp_path: Path) -> None:
    callback = PlateauCallback(dirpath=str(tmp_path), every_n_steps=10)
    disturbed, _ = ending(callback, Overflowing, steps=130)
    alone, _ = ending(None, Overflowing, steps=130)
    assert_bitwise_equal(disturbed, alone)
    said = [f for f in callback.findings if f.code == "LP903"]
    failed = [finding.message.split()[2] for finding in said]
    assert failed == ["step-size", "overfit-one-batch"]  # a finding for each of them
    assert all("failed: OutOfMemoryError: tried to allocate 20 GiB" in f.message for f in said)
    assert not callback.disabled


def test_a_resumed_run_asks_nothing_twice(tmp_path: Path) -> None:
    callback = watched(Muffled(), tmp_path / "first")
    state = callback.state_dict()
    assert set(state["inquiry"]["made"]) == set(experiments(callback))
    resumed = PlateauCallback(dirpath=str(tmp_path / "second"), every_n_steps=10)
    del state["inquiry"]["spent_s"]  # as from a version that kept less
    resumed.load_state_dict(state)
    assert experiments(resumed) == experiments(callback)
    trainer(resumed, max_epochs=8).fit(Muffled(), loader(256))
    made = experiments(resumed)
    assert made
    assert len(made) == len(set(made))
