"""A process that is ended amid an epoch leaves all that was told, and its run can be resumed."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lightning_plateau import PlateauCallback
from lightning_plateau.core import signal as signals
from lightning_plateau.core.history import History
from lightning_plateau.core.journal import Journal
from lightning_plateau.framework import PACKAGE
from tests.digits import Digits, digits, trainer

STEPS, EVERY, SAVED, ENDED = 24, 5, 15, 19
"""Steps of the epoch, between checkpoints, to the last checkpoint, and to the end."""
BROKEN = (7, 16)
"""Steps whose loss is NaN: one before the last checkpoint, one between it and the end."""
WAIT_S = 60.0
ModelCheckpoint = __import__(f"{PACKAGE}.callbacks", fromlist=["ModelCheckpoint"]).ModelCheckpoint


class Softmaxed(Digits):
    """Softmax before cross-entropy; at step 19 it waits to be ended, where it is told to."""

    def __init__(self, waits: str = "") -> None:
        super().__init__()
        self.net[5].p = 0.0
        self.waits = waits

    def forward(self, images: Any) -> Any:
        return super().forward(images).softmax(dim=1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        images, labels = batch
        broken = images * math.nan if self.global_step in BROKEN else images
        loss = super().training_step((broken, labels), batch_idx)
        if self.waits == "amid a step" and self.global_step == ENDED:
            self.wait()
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        if self.waits == "between steps" and self.global_step == ENDED:
            self.wait()

    def wait(self) -> None:
        """Say what the journal has written so far, and wait for a signal."""
        own = next(one for one in self.trainer.callbacks if isinstance(one, PlateauCallback))
        sys.stdout.write(json.dumps(own.journal.state_dict()["entries"]) + "\n")
        sys.stdout.flush()
        limit_s = time.monotonic() + WAIT_S
        while not self.trainer.received_sigterm and time.monotonic() < limit_s:
            time.sleep(0.01)


def train(folder: Path, waits: str = "", resume: Path | None = None) -> Any:
    """Train for one epoch of equal batches: Lightning does not wind a loader forward."""
    torch.manual_seed(0)
    images, labels = digits()
    same = TensorDataset(images[:16].repeat(STEPS, 1, 1, 1), labels[:16].repeat(STEPS))
    own = PlateauCallback(dirpath=str(folder / "plateau"), every_n_steps=3, quiet=True)
    saving = ModelCheckpoint(folder, "{step}", every_n_train_steps=EVERY, save_top_k=-1)
    fit = trainer(own, saving, enable_checkpointing=True)
    fit.fit(Softmaxed(waits), DataLoader(same, 16), ckpt_path=resume)
    return fit, own


def ended(folder: Path, waits: str, which: signal.Signals) -> list[str]:
    """Train in a process, end it where it waits; return what its journal had written by then."""
    program = (
        "import sys, pathlib; from tests.test_killed import train; "
        "train(pathlib.Path(sys.argv[1]), sys.argv[2])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-W", "ignore", "-c", program, str(folder), waits]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        process.send_signal(which)
        _, errors = process.communicate(timeout=WAIT_S)
    assert said, errors
    if which is signal.SIGKILL:  # of SIGTERM Lightning makes a SystemExit
        assert process.returncode == -which
    written: list[str] = json.loads(said)
    return written


def told(journal: Journal) -> Counter[tuple[str, int, str]]:
    """Count findings and interventions by kind, step and what they are."""
    found = [("finding", one.step, one.code) for one in journal.findings]
    done = [("intervention", one.step, one.remedy) for one in journal.interventions]
    return Counter([*found, *done])


@pytest.mark.slow
@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGKILL], ids=lambda one: one.name)
@pytest.mark.parametrize("waits", ["amid a step", "between steps"])
def test_nothing_is_lost_and_nothing_told_twice(
    which: signal.Signals, waits: str, tmp_path: Path
) -> None:
    written = ended(tmp_path, waits, which)
    home, path = tmp_path / "plateau", tmp_path / f"step={SAVED}.ckpt"
    left = (home / "journal.jsonl").read_bytes()
    assert left.decode().splitlines()[: len(written)] == written
    first = Journal.read(home / "journal.jsonl")
    assert [one.step for one in first.interventions] == list(BROKEN)
    if which is signal.SIGTERM:  # the step under way is made, and the history is written
        assert len(History.load(home / "history.npz")[signals.LOSS]) in (ENDED, ENDED + 1)
    held = torch.load(path, weights_only=True)["callbacks"]["PlateauCallback"]
    assert held["journal"]["entries"] == written[: len(held["journal"]["entries"])]

    fit, own = train(tmp_path, resume=path)
    assert not own.disabled
    losses = own.history[signals.LOSS]
    assert losses.steps.tolist() == list(range(fit.global_step))
    assert np.flatnonzero(~np.isfinite(losses.values)).tolist() == list(BROKEN)
    assert (home / "earlier-1" / "journal.jsonl").read_bytes() == left
    again = Journal.read(home / "journal.jsonl")
    assert told(again) == told(own.journal)
    assert set(told(first)) <= set(told(again))
    assert max(told(again).values()) == 1
