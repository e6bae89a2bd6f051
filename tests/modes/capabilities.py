"""What the table asks of each mode: each a real training, with assertions.

Every function returns why the library refuses what is asked, as it would tell the user, or ``""``
where it works. What neither works nor is refused is an error.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_plateau import PlateauCallback
from lightning_plateau.core import signal
from lightning_plateau.core.history import History
from lightning_plateau.experiments.budget import Budget
from lightning_plateau.experiments.experiment import Bench, Result, conduct
from lightning_plateau.experiments.overfit_one_batch import OverfitOneBatch
from lightning_plateau.recording.probes.gradients import tensor_norms
from lightning_plateau.remedies.clip_gradients import ClipGradients
from lightning_plateau.remedies.decay_learning_rate import DecayLearningRate
from lightning_plateau.remedies.roll_back import RollBack
from lightning_plateau.remedies.skip_step import SkipStep
from lightning_plateau.remedies.switch_optimizer import SwitchOptimizer
from lightning_plateau.training.run import Run
from lightning_plateau.training.snapshot import random_state
from lightning_plateau.training.surroundings import holds_replicas
from tests.modes.mode import Mode
from tests.modes.programs import batches, dataset
from tests.ranks import on_ranks

AT = 3
LIMIT = 1e-3
Script = Callable[[Run, int], None]


class Scripted(PlateauCallback):
    """Does something to the run after each step, as a remedy would; no rule is asked."""

    def __init__(self, folder: Path, script: Script | None = None, **settings: Any) -> None:
        self.script = script
        defaults = {"rules": [], "every_n_steps": 1, "policy": "observe", "log": False}
        super().__init__(dirpath=str(folder), quiet=True, **{**defaults, **settings})

    @property
    def run(self) -> Run:
        assert self._watch is not None
        return self._watch.treatment._run

    def on_train_batch_end(self, *arguments: Any) -> None:
        before = self._clock
        super().on_train_batch_end(*arguments)
        if self.script is not None and self._clock > before:
            self.run.refresh(self.history)
            self.script(self.run, self._clock)

    @property
    def _clock(self) -> int:
        return 0 if self._watch is None else self._watch.recorder.clock


def train(
    mode: Mode, folder: Path, *own: Any, poisoned: bool = False, resume: Path | None = None
) -> Any:
    """Train as the mode says, from the same seed each time, and return the Trainer."""
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - the global generator is what is compared
    module, data = mode.module(), mode.data(dataset(poisoned=poisoned))
    settings = {
        "max_epochs": 2,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": str(folder),
    }
    fit = mode.trainer(callbacks=[*own, *mode.company()], **{**settings, **mode.settings()})
    if mode.before is not None and resume is None:
        mode.before(fit, module, data)
    checked = [batches(dataset(first=1000)) for _ in range(mode.validations)] or None
    fit.fit(module, data, checked, ckpt_path=resume)
    return fit


def state(trainer: Any) -> list[Tensor]:
    """Return every tensor that a training leaves, its metrics, and where random numbers stand."""
    left = [here(tensor) for tensor in trainer.lightning_module.state_dict().values()]
    left += [metric for _, metric in sorted(trainer.callback_metrics.items())]
    for optimizer in trainer.optimizers:
        for held in optimizer.state_dict()["state"].values():
            left += [here(value) for value in held.values() if isinstance(value, Tensor)]
    generators = random_state()
    words, position = generators["numpy"][1:3]
    numbers = torch.tensor([*generators["python"][1], position], dtype=torch.int64)
    return [*(tensor.clone() for tensor in left), generators["torch"], words, numbers]


def here(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this rank holds: all of it, unless it is spread."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


_UNWATCHED: dict[str, tuple[list[Tensor], list[float]]] = {}


def unwatched(mode: Mode, folder: Path) -> tuple[list[Tensor], list[float]]:
    """Return how the mode ends without the library: its state, and its learning rates."""
    if mode.name not in _UNWATCHED:
        fit = train(mode, folder)
        _UNWATCHED[mode.name] = state(fit), rates(fit)
    return _UNWATCHED[mode.name]


def rates(trainer: Any) -> list[float]:
    return [float(group["lr"]) for o in trainer.optimizers for group in o.param_groups]


def assert_as_unwatched(mode: Mode, folder: Path, trainer: Any) -> None:
    expected, _ = unwatched(mode, folder)
    assert all(torch.equal(a, b) for a, b in zip(state(trainer), expected, strict=True))


def assert_sound(callback: PlateauCallback, trainer: Any) -> None:
    """The library still watches, all weights are finite, and replicas are equal."""
    assert not callback.disabled, complaint(callback)
    assert callback.history.step > AT
    weights = [here(parameter.detach()) for parameter in trainer.lightning_module.parameters()]
    assert all(torch.isfinite(weight).all() for weight in weights)
    if holds_replicas(trainer):
        assert _alike(weights, trainer.strategy.broadcast(weights))


def complaint(callback: PlateauCallback) -> str:
    return "; ".join(f.message for f in callback.findings if f.code == "LP903")


def record(mode: Mode, folder: Path) -> str:
    """Watch a whole training with every rule: it ends bit for bit as without.

    So it does where remedies may be tried, and none is called for.
    """
    unwatched(mode, folder)
    for policy in ("auto", "safe", "observe"):
        own = PlateauCallback(policy=policy, every_n_steps=3, dirpath=str(folder), quiet=True)
        fit = train(mode, folder, own)
        assert_sound(own, fit)
        assert not own.journal.interventions
        assert_as_unwatched(mode, folder, fit)
    losses = own.history[signal.LOSS]
    assert losses.steps.tolist() == list(range(own.history.step))
    assert np.isfinite(losses.values).all()
    assert np.isfinite(own.history[signal.GRADIENT_NORM].values).all()
    return complaint(own)


def skip(mode: Mode, folder: Path) -> str:
    """Leave out the step of a batch whose loss is NaN."""
    own = Scripted(folder, policy="safe")
    fit = train(mode, folder, own, poisoned=True)
    assert not own.disabled, complaint(own)
    reason = SkipStep().obstacle(own.run)
    if reason is None:
        assert own.history[signal.SKIPPED_STEPS].values.sum() >= 1
        assert_sound(own, fit)
    return reason or ""


def clip(mode: Mode, folder: Path) -> str:
    """Clip gradients from the middle of a training on, as the optimizers then receive them."""
    said, norms = [], []

    def keep(optimizer: Any, *_: Any) -> None:
        held = [p.grad for group in optimizer.param_groups for p in group["params"]]
        found = tensor_norms([gradient for gradient in held if gradient is not None])
        if found:  # none in the epoch in which averaging only counts its statistics
            norms.append(float(torch.stack([norm.float() for norm in found]).norm()))

    def script(run: Run, step: int) -> None:
        if step == AT:
            remedy = ClipGradients(limit=LIMIT)
            said.append(remedy.obstacle(run))
            if said == [None]:
                remedy.apply(run)
                for adapter in run.adapters:
                    adapter.optimizer.register_step_post_hook(keep)

    own = Scripted(folder, script, policy="safe")
    assert_sound(own, train(mode, folder, own))
    if said == [None]:
        assert norms
        assert max(norms) <= 1.01 * LIMIT
    return said[0] or ""


def learning_rate(mode: Mode, folder: Path) -> str:
    """Halve the learning rate in the middle: it ends as half of what it would have been."""
    said = []

    def script(run: Run, step: int) -> None:
        if step == AT:
            remedy = DecayLearningRate(factor=0.5)
            said.append(remedy.obstacle(run))
            if said == [None]:
                remedy.apply(run)

    _, expected = unwatched(mode, folder)
    own = Scripted(folder, script)
    fit = train(mode, folder, own)
    assert_sound(own, fit)
    if any(type(c.scheduler).__name__ == "SWALR" for c in fit.lr_scheduler_configs):
        assert said == [None]
        return "StochasticWeightAveraging sets the rates itself from its own epoch on"
    if said == [None]:
        assert np.allclose(rates(fit), 0.5 * np.array(expected))
    return said[0] or ""


def roll_back(mode: Mode, folder: Path) -> str:
    """Return to the weights of two steps ago, and go on from there."""
    said, kept = [], []

    def script(run: Run, step: int) -> None:
        weights = [here(p.detach()).clone() for p in run.module.parameters()]
        if step == AT - 1:
            assert run.snapshots.keep(run)
            kept.extend(weights)
        if step == AT + 1:
            run.refresh(History())  # whether it is worth it is not the question here
            remedy = RollBack(factor=1.0)
            said.append(remedy.obstacle(run))
            if said == [None]:
                assert not _alike(weights, kept)
                remedy.apply(run)
                assert _alike([here(p) for p in run.module.parameters()], kept)
        if step == AT + 2 and said == [None]:
            assert not _alike(weights, kept)

    own = Scripted(folder, script)
    assert_sound(own, train(mode, folder, own))
    return said[0] or ""


def _alike(left: list[Any], right: list[Any]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def switch(mode: Mode, folder: Path) -> str:
    """Put another optimizer in place, which then trains."""
    said, weights = [], []

    def script(run: Run, step: int) -> None:
        if step == AT:
            remedy = SwitchOptimizer()
            said.append(remedy.obstacle(run))
            weights.extend(here(p.detach()).clone() for p in run.module.parameters())
            if said == [None]:
                said.append(remedy.apply(run).after["optimizer"])

    own = Scripted(folder, script)
    fit = train(mode, folder, own)
    assert_sound(own, fit)
    if said[0] is None:
        assert type(fit.optimizers[0]).__name__ == said[1]
        assert not _alike([here(p) for p in fit.lightning_module.parameters()], weights)
    return said[0] or ""


class Experimenting(Scripted):
    """Makes an experiment before one of the batches."""

    result: Any = None

    def on_train_batch_start(self, *arguments: Any) -> None:
        trainer, module, batch = arguments[:3]
        if self._clock == AT and self.result is None:
            obstacle = self._watch.inquiry.obstacle
            bench = Bench(trainer, module, [copy.deepcopy(batch)], Budget(1e6))
            self.result = (
                conduct(OverfitOneBatch(), bench)
                if obstacle is None
                else Result("overfit-one-batch", failure=obstacle)
            )
        super().on_train_batch_start(*arguments)


def experiments(mode: Mode, folder: Path) -> str:
    """Experiment on a copy in the middle of a training, which ends bit for bit as without."""
    unwatched(mode, folder)
    own = Experimenting(folder)
    fit = train(mode, folder, own)
    assert_sound(own, fit)
    assert_as_unwatched(mode, folder, fit)
    reason: str = own.result.failure or own.result.inconclusive
    assert bool(reason) != bool(own.result.rows)
    return reason


def resume(mode: Mode, folder: Path) -> str:
    """Go on from a checkpoint written amid an epoch: nothing recorded before it is lost."""
    path = folder / "amid.ckpt"

    def script(run: Run, step: int) -> None:
        if step == AT:
            run.trainer.save_checkpoint(path)

    whole = Scripted(folder, script)
    train(mode, folder, whole)
    rest = Scripted(folder)
    assert_sound(rest, train(mode, folder, rest, resume=path))
    (before, after) = (own.history[signal.LOSS] for own in (whole, rest))
    assert after.steps.tolist() == list(range(rest.history.step))
    assert np.array_equal(after.values[:AT], before.values[:AT])
    assert np.isfinite(after.values).all()
    return ""


def ask(mode: Mode, capability: str, folder: Path) -> str:
    """Return what comes of one cell; of several ranks all must come to the same."""
    if mode.ranks == 1:
        return ASKED[capability](mode, folder)
    said = on_ranks(partial(ASKED[capability], mode, folder), mode.ranks)
    assert len(set(said)) == 1, said
    return str(said[0])


ASKED: dict[str, Callable[[Mode, Path], str]] = {
    "record": record,
    "skip": skip,
    "clip": clip,
    "learning rate": learning_rate,
    "roll back": roll_back,
    "switch": switch,
    "experiments": experiments,
    "resume": resume,
}
