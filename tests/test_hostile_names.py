"""Layers and metrics of any name are recorded, logged, saved, told and drawn as they are called."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_plateau import PlateauCallback
from lightning_plateau.cli import main
from lightning_plateau.core import signal
from lightning_plateau.core.history import History
from lightning_plateau.core.journal import Journal
from lightning_plateau.framework import PACKAGE, LightningModule
from lightning_plateau.report.logged_run import logged_files, read_logged
from tests.digits import loader, trainer

FILES = ["history.npz", "journal.jsonl", "report.html"]
loggers = __import__(f"{PACKAGE}.loggers", fromlist=["CSVLogger"])
NAMES = (
    "слой-層 🙂 é\u0301",
    "../../etc/passwd",
    "a\\b/c:d*e?",
    "<script>alert(1)</script>&amp;",
    "[red]markup[/red] [/] [link=x]",
    "{0} %s %(x)d {{7*7}} $HOME",
    "\"quoted\" 'twice', and; more",
    "two\nlines\r\tand a tab",
    "\x1b[31m\x07bell\x00null",
    "   ",
    "x" * 300,
    "__proto__",
)


LAYERS = tuple(name.replace(".", "") for name in NAMES)
"""The same without dots, which torch refuses in the names of layers."""


SOFTMAX = NAMES[3] + "\x1b[2J"


class Hostile(LightningModule):
    """One layer and one metric of each name; the last layer is a softmax, so that one is told."""

    def __init__(self) -> None:
        super().__init__()
        layers: dict[str, nn.Module] = {name: nn.Linear(64, 64) for name in LAYERS}
        self.net = nn.ModuleDict({**layers, SOFTMAX: nn.Softmax(dim=1)})

    def forward(self, images: Tensor) -> Tensor:
        values = images.flatten(1)
        for layer in self.net.values():
            values = layer(values)
        return values

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self(images), labels)
        self.log("train_loss", loss)
        self.log_dict({f"train {name}": loss.detach() for name in NAMES})
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images, labels = batch
        self.log_dict(dict.fromkeys(NAMES, F.cross_entropy(self(images), labels)))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def watched(folder: Path, logger: Any) -> PlateauCallback:
    """Train eight steps, logged each second; nothing fails, and the softmax is told by its name."""
    own = PlateauCallback(dirpath=str(folder), every_n_steps=3)
    fit = trainer(own, logger=logger, log_every_n_steps=2)
    fit.fit(Hostile(), loader(256), loader(64, shuffle=False))
    assert not own.disabled
    assert [one.message for one in own.findings if one.code == "LP903"] == []
    assert next(one.where for one in own.findings if one.code == "LP701").count(SOFTMAX) == 1
    return own


@pytest.fixture
def run(tmp_path: Path) -> tuple[PlateauCallback, Path, Path]:
    """A run, its folder, and that of CSVLogger."""
    logger = loggers.CSVLogger(tmp_path / "logs")
    home = tmp_path / "plateau"
    return watched(home, logger), home, Path(logger.log_dir)


def assert_says_the_softmax(text: str) -> None:
    """The name is there as it is, without what steers a terminal."""
    assert NAMES[3] in text
    assert "\x1b" not in text


def test_a_run_is_recorded_logged_saved_and_told(run: Any, capsys: Any) -> None:
    own, home, logged = run
    assert sorted(one.name for one in home.iterdir()) == FILES
    history = History.load(home / "history.npz")
    for layer, name in zip(LAYERS, NAMES, strict=True):
        assert f"net.{layer}.weight" in history[signal.GRADIENT_NORMS].labels
        assert len(history[signal.metric(name)]) == 1
    assert Journal.read(home / "journal.jsonl").findings == own.journal.findings
    with (logged / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(bool(row["plateau/gradient_norm"]) for row in rows) == 4
    capsys.readouterr()
    for command in ("diagnose", "report"):
        assert main([command, "--all", str(home)]) == (command == "diagnose")
        assert_says_the_softmax(capsys.readouterr().out)
        main([command, "--json", str(home)])
        assert SOFTMAX in json.loads(capsys.readouterr().out)["findings"][0]["where"]
    main(["report", str(home), "--plot"])
    assert_says_the_softmax(capsys.readouterr().out)


def test_the_page_shows_names_as_text(run: Any) -> None:
    _, home, _ = run
    page = (home / "report.html").read_text("utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_run_without_the_library_is_read_from_its_log(run: Any, capsys: Any) -> None:
    _, _, logged = run
    capsys.readouterr()
    assert main(["diagnose", str(logged)]) in (0, 1)
    assert main(["report", str(logged)]) == 0
    assert "\x1b" not in capsys.readouterr().out
    read = read_logged([logged / "metrics.csv"]).history
    assert {signal.metric(name).tag for name in NAMES} <= {one.tag for one in read}


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    logger = loggers.TensorBoardLogger(tmp_path / "logs")
    watched(tmp_path / "plateau", logger)
    logger.finalize("success")
    read = read_logged(logged_files(Path(logger.log_dir))).history
    assert len(read[signal.GRADIENT_NORM]) == 4
