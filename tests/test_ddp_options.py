"""Settings of DDP that people use: a watched training ends bit for bit as one that is not.

Where the samples do not divide, the last batch is shorter. Ranks with batches of their own number
are left out: DDP itself waits for the missing one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_plateau import PlateauCallback
from lightning_plateau.core import signal
from lightning_plateau.framework import PACKAGE
from tests.digits import Digits, digits, trainer
from tests.ranks import on_ranks

DDPStrategy = __import__(f"{PACKAGE}.strategies", fromlist=["DDPStrategy"]).DDPStrategy
STEPS, SIZE = 9, 16


class Net(Digits):
    """Digits with a layer that no step uses."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Linear(3, 3)


def strategy(**settings: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {"strategy": DDPStrategy(process_group_backend="gloo", **settings)}


OPTIONS: dict[str, tuple[Callable[[], Digits], Callable[[], dict[str, Any]]]] = {
    "find_unused_parameters": (Net, strategy(find_unused_parameters=True)),
    "static_graph": (Digits, strategy(static_graph=True)),
    "gradient_as_bucket_view": (Digits, strategy(gradient_as_bucket_view=True)),
    "all of them": (
        Digits,
        strategy(find_unused_parameters=True, static_graph=True, gradient_as_bucket_view=True),
    ),
    "small buckets": (Digits, strategy(bucket_cap_mb=0.0001)),
    "use_distributed_sampler=False": (
        Digits,
        lambda: {**strategy()(), "use_distributed_sampler": False},
    ),
    "accumulated": (
        Digits,
        lambda: {**strategy(gradient_as_bucket_view=True)(), "accumulate_grad_batches": 2},
    ),
}


def data(size: int) -> DataLoader:  # type: ignore[type-arg]
    images, labels = digits()
    return DataLoader(TensorDataset(images[:size], labels[:size]), SIZE)


def end(option: str, size: int, *own: PlateauCallback) -> list[Tensor]:
    """Train on this rank; return the state of module and optimizer, and of random numbers."""
    module, settings = OPTIONS[option]
    torch.manual_seed(1)
    fit = trainer(*own, devices=2, max_epochs=2, **settings())
    fit.fit(module(), data(size), data(40))
    left = [*fit.lightning_module.state_dict().values()]
    for held in fit.optimizers[0].state_dict()["state"].values():
        left += [value for value in held.values() if isinstance(value, Tensor)]
    return [*(tensor.clone() for tensor in left), torch.get_rng_state()]


def compared(option: str, size: int, folder: Path) -> Any:
    """Train on this rank without the library and with it, and say how the two differ."""
    bare = end(option, size)
    own = PlateauCallback(policy="observe", every_n_steps=3, dirpath=str(folder), quiet=True)
    watched = end(option, size, own)
    different = sum(not torch.equal(a, b) for a, b in zip(bare, watched, strict=True))
    complaints = [one.message for one in own.findings if one.code == "LP903"]
    steps = own.history[signal.LOSS].steps.tolist()
    return own.disabled, different, complaints, steps == list(range(own.history.step)), bool(steps)


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("size", [2 * SIZE * STEPS, 2 * SIZE * STEPS - 21], ids=["even", "uneven"])
@pytest.mark.parametrize("option", OPTIONS)
def test_observed_it_ends_as_without(option: str, size: int, tmp_path: Path) -> None:
    for said in on_ranks(partial(compared, option, size, tmp_path), 2):
        assert said == (False, 0, [], True, True)


@pytest.mark.distributed
@pytest.mark.slow
def test_sync_batchnorm_without_a_gpu_fails_as_it_does_unwatched(tmp_path: Path) -> None:
    def refusal(*own: PlateauCallback) -> str:
        fit = trainer(*own, devices=2, sync_batchnorm=True, **strategy()())
        with pytest.raises(ValueError, match="GPU") as caught:
            fit.fit(Digits(), data(64))
        return str(caught.value)

    def work() -> tuple[str, str]:
        return refusal(), refusal(PlateauCallback(dirpath=str(tmp_path), quiet=True))

    for bare, watched in on_ranks(work, 2):
        assert bare == watched
