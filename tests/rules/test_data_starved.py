from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader, Dataset

from lightning_plateau import PlateauCallback
from lightning_plateau.core.finding import Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.signal import DATA_WAIT
from lightning_plateau.rules.data_starved import DataStarved
from lightning_plateau.testing import history
from tests.digits import Digits, digits, loader, trainer

RULE = DataStarved()


def windows(*waited: float, work: float = 0.02, every: int = 50) -> History:
    # The first row lies at step 0, and no window ends there.
    times = {"waited": [0.0, *waited], "elapsed": [0.0, *(one + work for one in waited)]}
    return history({DATA_WAIT: times}, every=every)


@pytest.mark.parametrize(
    ("run", "severity"),
    [
        (windows(0.03, 0.03), Severity.INFO),
        (windows(0.03, 0.03, 0.03), Severity.WARNING),
        (windows(0.03, 0.015, 0.03), Severity.INFO),
        (windows(0.0, 0.02, 0.02, work=0.03), Severity.INFO),
    ],
    ids=["early", "little else", "now and then", "a third"],
)
def test_how_bad(run: History, severity: Severity) -> None:
    found = RULE.check(run)
    assert found is not None
    assert found.severity is severity
    assert found.explains == ()


@pytest.mark.parametrize(
    "well",
    [
        windows(0.5),
        windows(0.009, 0.009, 0.009, work=0.001),
        windows(0.02, 0.02, 0.02, work=0.1),
        windows(0.0, 2.0, 0.0, 0.0, work=0.1),
        windows(0.3, 0.3, 0.3, every=4),
        windows(0.012, 0.012, work=0.01, every=40),
        windows(float("nan"), float("inf"), -1.0),
        History(),
    ],
    ids=[
        "one window",
        "a toy",
        "a sixth",
        "one stall",
        "few steps",
        "no second yet",
        "nonsense",
        "empty",
    ],
)
def test_silent(well: History) -> None:
    assert RULE.check(well) is None


class Slow(Dataset[Any]):
    """Samples that take their time."""

    def __init__(self, wait_s: float) -> None:
        self.wait_s = wait_s

    def __len__(self) -> int:
        return 256

    def __getitem__(self, index: int) -> Any:
        time.sleep(self.wait_s)
        images, labels = digits()
        return images[index], labels[index]


@pytest.mark.slow
@pytest.mark.parametrize("starved", [True, False])
def test_in_a_real_training(starved: bool, tmp_path: Path) -> None:
    own = PlateauCallback(policy="observe", dirpath=str(tmp_path), every_n_steps=10, quiet=True)
    data = DataLoader(Slow(0.005), 16, shuffle=True) if starved else loader(256, 16)
    trainer(own, max_epochs=5).fit(Digits(), data)
    found = [one for one in own.findings if one.code == "LP904"]
    assert len(own.history[DATA_WAIT]) >= 3
    assert bool(found) is starved
