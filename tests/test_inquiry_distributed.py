"""A training on two ranks that is stuck: both ask the same, and end as if nobody had asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_plateau import PlateauCallback, inquiry
from lightning_plateau.framework import Callback
from tests.experiments.conducting import ending
from tests.test_inquiry import Muffled, experiments


class Saving(Callback):
    """Writes down what a rank ends with, after the callback that it comes after."""

    def __init__(self, folder: Path, callback: PlateauCallback) -> None:
        self.folder, self.callback = folder, callback

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        state = {name: tensor.clone() for name, tensor in pl_module.state_dict().items()}
        series = {
            tag: one.values.tolist()
            for tag, one in self.callback.history.series.items()
            if tag.startswith("experiment/")
        }
        codes = [finding.code for finding in self.callback.findings]
        said = (experiments(self.callback), series, codes, self.callback.disabled)
        torch.save((said, state), self.folder / f"{trainer.global_rank}.pt")


@pytest.mark.distributed
@pytest.mark.slow
def test_two_ranks_ask_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inquiry, "LEAST_S", 1e3)
    found = {}
    for when in ("when-stuck", "never"):
        folder = tmp_path / when
        folder.mkdir()
        callback = PlateauCallback(
            dirpath=str(folder),
            every_n_steps=10,
            experiments=when,  # type: ignore[arg-type]
            quiet=True,
        )
        saving = Saving(folder, callback)
        settings = {"strategy": "ddp_fork", "devices": 2, "callbacks": [callback, saving]}
        ending(None, Muffled, steps=80, **settings)
        found[when] = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]
    (first, here), (second, there) = found["when-stuck"]
    assert first == second
    made, series, codes, disabled = first
    assert len(made) > 2
    assert len(series) > 2
    assert "LP803" in codes
    assert not disabled
    for state, alone in zip((here, there), (s for _, s in found["never"]), strict=True):
        assert all(torch.equal(state[name], alone[name]) for name in state)
