"""The column of the progress bar, in both bars of Lightning."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
import rich
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar
from rich.console import Console
from torch.utils.data import DataLoader, TensorDataset

from lightning_plateau import PlateauCallback
from lightning_plateau.core.finding import Severity
from lightning_plateau.report.announcer import LOGGER
from lightning_plateau.report.progress_column import ProgressColumn, bar_state
from tests.report.runs import DECAY, FLAT, SOFTMAX, TOO_HIGH
from tests.trainings import Regressor

ERASED = r"\n|\r\x1b\[2K"
QUIET = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}


def loader(rows: int = 1920) -> DataLoader:
    torch.manual_seed(0)
    points = torch.randn(rows, 3)
    return DataLoader(TensorDataset(points, points.sum(1, keepdim=True)), batch_size=16)


def trained(callback: PlateauCallback, bar, tmp_path, module=None) -> None:
    torch.manual_seed(0)
    trainer = Trainer(max_epochs=1, callbacks=[callback, bar], accelerator="cpu", **QUIET)
    trainer.fit(module or Regressor(), loader())


def states(said: str) -> list[str]:
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said)
    return re.findall(r"plateau[=:]\s*([^\n\r,\]]*)", plain)


@pytest.fixture
def terminal(monkeypatch):
    """Where a terminal of rich writes; nobody has set up logging."""
    stream = io.StringIO()
    monkeypatch.setattr(rich, "_console", Console())
    monkeypatch.setattr(LOGGER, "hasHandlers", lambda: False)
    return stream


def rich_bar(stream: io.StringIO) -> RichProgressBar:
    return RichProgressBar(
        refresh_rate=1, console_kwargs={"file": stream, "force_terminal": True, "width": 200}
    )


def test_states_in_words():
    symptom = replace(FLAT, explained_by="LP701")
    assert bar_state((SOFTMAX, symptom)) == "LP701 softmax-before-cross-entropy"
    assert bar_state((SOFTMAX, TOO_HIGH)) == "LP701 softmax-before-cross-entropy +1"
    assert bar_state((replace(FLAT, severity=Severity.INFO),)) == "healthy"
    assert bar_state((SOFTMAX,), DECAY) == "on trial: decay-learning-rate"


def test_the_bar_of_tqdm_shows_the_state(tmp_path, capsys):
    callback = PlateauCallback(progress_bar=True, dirpath=str(tmp_path), every_n_steps=20)
    bar = TQDMProgressBar(refresh_rate=1)
    trained(callback, bar, tmp_path)
    said = capsys.readouterr()
    seen = [s.strip() for s in states(said.out + said.err)]
    assert seen[0] == "watching"
    assert seen[-1] == "healthy"
    assert "get_metrics" not in vars(bar)


def test_the_bar_of_rich_shows_the_state_and_lines_stand_above_it(tmp_path, terminal):
    class Broken(Regressor):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return loss * float("nan") if batch_idx == 30 else loss

    callback = PlateauCallback(progress_bar=True, dirpath=str(tmp_path), every_n_steps=20)
    bar = rich_bar(terminal)
    trained(callback, bar, tmp_path, Broken())
    said = terminal.getvalue()
    assert states(said)[-1].strip().startswith("healthy")
    assert "LP201" in said
    plain = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line).strip() for line in re.split(ERASED, said)]
    lines = [line for line in plain if line.startswith("step ") and "LP201" in line]
    assert lines
    assert not [line for line in lines if "━" in line]
    assert "get_metrics" not in vars(bar)


def test_without_being_asked_for_there_is_no_column(tmp_path, capsys, terminal):
    for bar in (TQDMProgressBar(refresh_rate=1), rich_bar(terminal)):
        trained(PlateauCallback(dirpath=str(tmp_path), quiet=True), bar, tmp_path)
    said = capsys.readouterr()
    assert "Epoch" in terminal.getvalue()
    assert states(said.out + said.err + terminal.getvalue()) == []


def test_a_bar_of_ones_own_keeps_its_metrics_and_gets_them_back():
    class Bar:
        def get_metrics(self, trainer, model):
            return {"loss": 1.0}

    bar, column = Bar(), ProgressColumn()
    column.attach(None)
    column.attach(bar)
    column.attach(bar)
    assert bar.get_metrics(None, None) == {"loss": 1.0, "plateau": "watching"}
    column.detach()
    column.detach()
    assert bar.get_metrics(None, None) == {"loss": 1.0}


def test_no_value_is_read_for_it():
    class Meta:
        """A bar whose metrics lie where nothing can be read from."""

        def get_metrics(self, trainer, model):
            return {"loss": torch.ones((), device="meta")}

    bar, column = Meta(), ProgressColumn()
    column.attach(bar)
    assert bar.get_metrics(None, None)["plateau"] == "watching"
