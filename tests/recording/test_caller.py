"""The line of the user's code: of a call, of a method, and of nothing that is not theirs."""

from __future__ import annotations

import inspect
import sysconfig
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_plateau import PlateauCallback
from lightning_plateau.core.tape import Tape
from lightning_plateau.framework import LightningModule, Trainer
from lightning_plateau.recording.caller import calling_line, method_lines, named
from lightning_plateau.recording.tape import TapeRecorder
from lightning_plateau.recording.transfer import Transfer

HERE = named(__file__)


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU())

    def training_step(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.body(x)
        return F.mse_loss(hidden, hidden.detach())


def _line(text: str) -> str:
    """Return the line of this file that holds ``text``."""
    lines = Path(__file__).read_text().splitlines()
    return f"{HERE}:{1 + next(number for number, line in enumerate(lines) if text in line)}"


def _tape(module: Net) -> Tape:
    recorder = TapeRecorder(0, module)
    recorder.start()
    loss = module.training_step(torch.randn(3, 4))
    draft, transfer, tapes = recorder.stop(loss), Transfer(), []
    transfer.add(draft.tensors(), lambda arrays: tapes.append(draft.tape(arrays)))
    transfer.send(wait=True)
    return tapes[0]


def test_the_innermost_line_of_the_user_is_named() -> None:
    assert calling_line() == _line("assert calling_line() == ")


def test_layers_are_where_the_user_calls_the_network_and_functions_where_they_stand() -> None:
    lines = {operation.name: operation.line for operation in _tape(Net())}
    assert lines["linear"] == lines["relu"] == _line("hidden = self.body(x)")
    assert lines["mse_loss"] == lines["detach"] == _line("return F.mse_loss(hidden")


def test_methods_that_the_user_has_written_are_known() -> None:
    assert method_lines(Net()) == {"training_step": _line("def training_step")}


@pytest.mark.parametrize(
    "file",
    [
        torch.__file__,
        inspect.getfile(TapeRecorder),
        f"{sysconfig.get_path('stdlib')}/runpy.py",
        "/home/ada/.local/lib/python3.11/site-packages/torch/nn/modules/linear.py",
        "/usr/lib/python3/dist-packages/lightning/pytorch/trainer/trainer.py",
        "<string>",
        "<frozen importlib._bootstrap>",
    ],
)
def test_what_is_not_the_users_has_no_name(file: str) -> None:
    assert named(file) == ""


def test_a_file_elsewhere_keeps_its_path_and_a_cell_is_called_so(tmp_path: Path) -> None:
    elsewhere = str(tmp_path.parent / "elsewhere" / "train.py")
    assert named(elsewhere) == elsewhere
    assert named("/tmp/ipykernel_71/1234.py") == "cell"


def test_findings_of_a_training_name_the_line_to_change(tmp_path: Path) -> None:
    class Twice(Net):
        def training_step(self, x: torch.Tensor) -> torch.Tensor:
            probabilities = F.softmax(self.body(x[0]), dim=1)
            return F.cross_entropy(probabilities, torch.zeros(len(x[0]), dtype=torch.long))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=100.0)

    callback = PlateauCallback(policy="observe", dirpath=tmp_path, quiet=True)
    batches = DataLoader(TensorDataset(torch.randn(32, 4)), 8)
    Trainer(
        accelerator="cpu", max_epochs=3, callbacks=[callback], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    ).fit(Twice(), batches)  # fmt: skip
    softmax = next(f for f in callback.findings if f.code == "LP701")
    assert softmax.line == _line("probabilities = F.softmax(")
    assert callback.history.profile.lines["configure_optimizers"] == _line(
        "def configure_optimizers"
    )
