from __future__ import annotations

import warnings
from typing import Any

import pytest
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.optim import SGD
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lightning_plateau import PlateauCallback
from lightning_plateau.core.history import History
from lightning_plateau.core.profile import MonitorFact, Profile
from lightning_plateau.core.signal import VALIDATION_LOSS, metric
from lightning_plateau.rules.wrong_monitor import WrongMonitor
from lightning_plateau.testing import history
from tests.digits import Digits, loader, trainer

RULE = WrongMonitor()


def run(fact: MonitorFact, values: list[float] | None = None, **settings: Any) -> History:
    series = {} if values is None else {metric(fact.metric): values}
    return history(
        {**series, VALIDATION_LOSS: [2.0, 1.5, 1.2, 1.1, 1.0]},
        loss=[2.0 - 0.01 * step for step in range(50)],
        every=10,
        epoch_ends=(1, 11, 21, 31, 41),
        profile=Profile(monitors=(fact,), has_validation=True),
        **settings,
    )


BETTER = [0.1, 0.3, 0.5, 0.6, 0.7]


@pytest.mark.parametrize("kind", ["EarlyStopping", "ReduceLROnPlateau", "ModelCheckpoint"])
@pytest.mark.parametrize(
    ("name", "mode"),
    [("val_acc", "min"), ("valAccuracy", "min"), ("valid/f1_macro", "min"), ("val_loss", "max")],
)
def test_the_wrong_way_round(kind: str, name: str, mode: str) -> None:
    found = RULE.check(run(MonitorFact(kind, name, mode), BETTER))
    assert found is not None
    assert found.severity == ("warning" if kind == "ModelCheckpoint" else "error")
    assert "LP408" in found.explains or kind == "ModelCheckpoint"


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("val_acc", "max"),
        ("val_loss", "min"),
        ("dice_loss", "min"),
        ("error_rate", "min"),
        ("neg_mse", "max"),
        ("my_score", "min"),
        ("val_perplexity", "min"),
        ("placement", "max"),
    ],
)
def test_the_right_way_round_or_unknown(name: str, mode: str) -> None:
    assert RULE.check(run(MonitorFact("EarlyStopping", name, mode), BETTER)) is None


@pytest.mark.parametrize("finished", [False, True])
def test_never_logged(finished: bool) -> None:
    missing = run(MonitorFact("EarlyStopping", "val_lss", "min"), finished=finished)
    found = RULE.check(missing)
    assert found is not None
    assert "none of 5 validations" in found.message
    assert RULE.check(history(profile=missing.profile)) is None
    assert RULE.check(run(MonitorFact("ModelCheckpoint", "step", "max"))) is None


def test_stale() -> None:
    loss = MonitorFact("ReduceLROnPlateau", "val_loss", "min")
    assert RULE.check(run(loss, [0.9, 0.7, 0.7, 0.7, 0.7])) is not None
    assert RULE.check(run(loss, [0.9, 0.8, 0.7, 0.7, 0.7])) is None
    assert RULE.check(run(loss, [0.0] * 5)) is None
    # A network that guesses has the same accuracy again and again.
    assert RULE.check(run(MonitorFact("EarlyStopping", "val_acc", "max"), [0.1] * 5)) is None


class Lowered(Digits):
    def __init__(self, metric: str, mode: str) -> None:
        super().__init__()
        self.scheduled = metric, mode

    def configure_optimizers(self) -> Any:
        name, mode = self.scheduled
        optimizer = SGD(self.parameters(), lr=0.1)
        scheduler = ReduceLROnPlateau(optimizer, mode, patience=0)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "monitor": name, "strict": False},
        }


@pytest.mark.parametrize(
    ("callbacks", "expected"),
    [
        ([], []),
        ([EarlyStopping("val_loss")], []),
        ([EarlyStopping("train_loss")], []),
        ([EarlyStopping("val_los", strict=False)], ["LP416"]),
        ([EarlyStopping("val_loss", mode="max")], ["LP416"]),
        ([ModelCheckpoint(monitor="train_loss"), EarlyStopping("val_loss")], []),
    ],
)
def test_training_with_callbacks(callbacks: list[Any], expected: list[str], tmp_path: Any) -> None:
    callback = PlateauCallback(policy="observe", dirpath=str(tmp_path), select=["LP416"])
    fit(Digits(), callback, *callbacks, folder=tmp_path)
    assert [finding.code for finding in callback.findings] == expected


@pytest.mark.parametrize(
    ("name", "mode", "expected"),
    [("val_loss", "min", 0), ("val_loss", "max", 1), ("val_accuracy", "max", 1)],
)
def test_training_with_a_scheduler(name: str, mode: str, expected: int, tmp_path: Any) -> None:
    callback = PlateauCallback(policy="observe", dirpath=str(tmp_path), select=["LP416"])
    fit(Lowered(name, mode), callback, folder=tmp_path)
    assert len(callback.findings) == expected


def fit(module: Digits, *callbacks: Any, folder: Any) -> None:
    settings = {"max_epochs": 2, "enable_checkpointing": True, "default_root_dir": folder}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer(*callbacks, **settings).fit(
            module, loader(96), loader(64, shuffle=False, first=1500)
        )
