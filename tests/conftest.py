"""What every test starts from: one thread, fixed seeds, a quiet Lightning."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.overrides import _get_current_function_mode_stack, _pop_mode

from lightning_plateau.framework import LightningModule  # noqa: F401 - chooses the package first
from tests.digits import digits

torch.set_num_threads(1)
for _package in ("lightning", "lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
    logging.getLogger(_package).setLevel(logging.ERROR)


@pytest.fixture(autouse=True)
def fixed_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start each test from the same random state.

    `seed_everything` leaves its seed in the environment, where distributed samplers read it.
    """
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - what users' augmentations draw from
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in a folder of its own: without a logger Lightning writes where it stands."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Insist that no tape and no global hook outlives the test that started it."""
    from torch.nn.modules import module as hooks

    before = len(hooks._global_forward_hooks), len(hooks._global_forward_pre_hooks)
    yield
    left = [type(mode).__name__ for mode in _get_current_function_mode_stack()]
    while _get_current_function_mode_stack():  # for the sake of the tests that follow
        _pop_mode()
    assert "TapeRecorder" not in left
    assert (len(hooks._global_forward_hooks), len(hooks._global_forward_pre_hooks)) == before


@pytest.fixture(scope="session")
def images() -> tuple[torch.Tensor, torch.Tensor]:
    """1,797 images of digits ``[N, 1, 8, 8]`` in [0, 1], and their labels ``[N]``."""
    return digits()
