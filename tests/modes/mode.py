"""One row of the table: a way to train, and what cannot be done in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.utils.data import ConcatDataset

from lightning_plateau.framework import PACKAGE, Trainer
from tests.modes import programs
from tests.modes.programs import Net, batches

CAPABILITIES = (
    "record", "skip", "clip", "learning rate", "roll back", "switch", "experiments", "resume",
)  # fmt: skip


@dataclass(frozen=True)
class Mode:
    """A way to train.

    Attributes:
        name: What it is called in the documentation.
        module: Makes the module.
        settings: Makes what is passed to the Trainer besides.
        company: Makes the callbacks beside ours.
        data: Makes the loader of training from a dataset.
        validations: Loaders of validation.
        trainer: Makes the Trainer of its callbacks and settings.
        before: What is done with Trainer, module and loader before ``fit``.
        limits: By capability the reason why it is refused, or what part of it is missing.
        slow: Whether a training takes more than a second.
        ranks: Processes that train together.
    """

    name: str
    module: Callable[[], Net] = Net
    settings: Callable[[], Mapping[str, Any]] = dict
    company: Callable[[], Sequence[Any]] = tuple
    data: Callable[[Any], Any] = batches
    validations: int = 1
    trainer: Callable[..., Any] = Trainer
    before: Callable[[Any, Any, Any], object] | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    slow: bool = False
    ranks: int = 1


def lightning(module: str, name: str) -> Any:
    """Return a name of the Lightning in use."""
    return getattr(__import__(f"{PACKAGE}.{module}", fromlist=[name]), name)


def beside(name: str, *arguments: Any, **settings: Any) -> Callable[[], list[Any]]:
    return lambda: [lightning("callbacks", name)(*arguments, **settings)]


def scaled() -> dict[str, Any]:
    """Return half precision with a gradient scaler; on the CPU Lightning itself uses none."""
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    return {"plugins": [lightning("plugins", "MixedPrecision")("16-mixed", "cpu", scaler)]}


def spread(data_parallel: int, tensor_parallel: int) -> Callable[[], dict[str, Any]]:
    """Return what spreads parameters over ranks that share data or layers, on CPUs."""

    def made() -> dict[str, Any]:
        kind = lightning("strategies", "ModelParallelStrategy")
        strategy = kind(data_parallel, tensor_parallel, process_group_backend="gloo")
        return {"strategy": strategy, "devices": data_parallel * tensor_parallel}

    return made


def replicated(ranks: int = 2, **settings: Any) -> Callable[[], dict[str, Any]]:
    """Return what puts a replica on each of several ranks, on CPUs."""

    def made() -> dict[str, Any]:
        strategy = lightning("strategies", "DDPStrategy")(process_group_backend="gloo", **settings)
        return {"strategy": strategy, "devices": ranks}

    return made


def from_yaml(*, callbacks: Sequence[Any], **settings: Any) -> Any:
    """Return the Trainer that a LightningCLI makes of a YAML file, the callbacks beside it."""
    path = Path(settings["default_root_dir"]) / "trainer.yaml"
    path.write_text(yaml.safe_dump({"seed_everything": 1, "trainer": settings}))
    return lightning("cli", "LightningCLI")(
        Net,
        run=False,
        args=["--config", str(path)],
        trainer_defaults={"callbacks": list(callbacks)},
        save_config_kwargs={"overwrite": True},
    ).trainer


def find_learning_rate(trainer: Any, module: Any, loader: Any) -> None:
    tuner = lightning("tuner", "Tuner")(trainer)
    tuner.lr_find(module, loader, num_training=5, min_lr=1e-3, max_lr=1e-1)


def find_batch_size(trainer: Any, module: Any, loader: Any) -> None:
    """Try larger batches, and go back to the size that the other cells are compared with."""
    module.batch_size = programs.SIZE
    module.train_dataloader = module.val_dataloader = lambda: batches(loader.dataset)
    tuner = lightning("tuner", "Tuner")(trainer)
    tuner.scale_batch_size(module, steps_per_trial=2, max_trials=2, init_val=programs.SIZE)
    del module.train_dataloader, module.val_dataloader


def plain(**settings: Any) -> Callable[[], Mapping[str, Any]]:
    return partial(dict, settings)


MANUAL = "you step the optimizer yourself, and may hold on to it"
TWO = "there are 2 optimizers, which are tuned to each other"
UNTAPED = "compiled modules are not taped: activations are not watched"
SPREAD = "the parameters are spread over the ranks"
OF_SHARDS = {
    "roll back": SPREAD,
    "switch": SPREAD,
    "experiments": f"{SPREAD}, and cannot be copied",
}
BAREBONES = {"barebones": True, "enable_checkpointing": None, "logger": None}

MODES = (
    Mode("32-true"),
    Mode("bf16-mixed", settings=plain(precision="bf16-mixed")),
    Mode("16-mixed with a gradient scaler", settings=scaled),
    Mode("16-mixed with a gradient scaler, fused optimizer", programs.Fused, scaled),
    Mode("bf16-true", settings=plain(precision="bf16-true")),
    Mode("fused optimizer", programs.Fused),
    Mode("learning-rate schedule by steps", programs.Scheduled),
    Mode("several parameter groups", programs.Grouped),
    Mode("gradient accumulation", settings=plain(accumulate_grad_batches=2, max_epochs=4)),
    Mode(
        "gradient accumulation that changes",
        company=beside("GradientAccumulationScheduler", {0: 1, 1: 3}),
        settings=plain(max_epochs=3),
    ),
    Mode(
        "gradient_clip_val by norm",
        settings=plain(gradient_clip_val=0.5),
        limits={"clip": "gradient_clip_val is set to 0.5"},
    ),
    Mode(
        "gradient_clip_val by value",
        settings=plain(gradient_clip_val=0.5, gradient_clip_algorithm="value"),
        limits={"clip": "gradient_clip_val is set to 0.5"},
    ),
    Mode("manual optimization", programs.Manual, limits={"switch": MANUAL}),
    Mode(
        "manual optimization, two optimizers",
        programs.TwoOptimizers,
        limits={"switch": TWO, "experiments": "the module has 2 optimizers"},
    ),
    Mode(
        "LBFGS",
        programs.Lbfgs,
        limits={
            "skip": "LBFGS evaluates its closure several times a step",
            "clip": "LBFGS evaluates its closure several times a step",
            "switch": "LBFGS is none of sgd, adam, adamw, rmsprop, adagrad",
        },
    ),
    Mode(
        "sparse gradients",
        programs.Sparse,
        limits={"switch": TWO, "experiments": "the module has 2 optimizers"},
    ),
    Mode("tied weights", programs.Tied),
    Mode("frozen layers", programs.Frozen),
    Mode("unused parameters", programs.Unused),
    Mode("complex parameters", programs.Complex),
    Mode("gradient checkpointing", programs.Checkpointed),
    Mode(
        "torch.compile of a submodule",
        programs.Compiled,
        limits={"record": UNTAPED},
        slow=True,
    ),
    Mode(
        "torch.compile of the whole module",
        programs.compiled_whole,
        validations=0,
        limits={"record": UNTAPED},
        slow=True,
    ),
    Mode(
        "StochasticWeightAveraging beside it",
        company=beside("StochasticWeightAveraging", 1e-3, swa_epoch_start=2, annealing_epochs=1),
        settings=plain(max_epochs=3),
        limits={
            "learning rate": "StochasticWeightAveraging sets the rates itself from its own epoch on"
        },
    ),
    Mode("WeightAveraging beside it", company=beside("WeightAveraging")),
    Mode("EarlyStopping beside it", company=beside("EarlyStopping", "val_loss", patience=3)),
    Mode(
        "ModelCheckpoint beside it",
        company=beside("ModelCheckpoint", monitor="val_loss", save_last=True),
        settings=plain(enable_checkpointing=True),
    ),
    Mode("IterableDataset without a length", data=lambda d: batches(programs.Stream(d))),
    Mode("CombinedLoader, dictionaries", data=programs.as_dictionary),
    Mode("dataclasses for batches", data=programs.as_dataclass),
    Mode("no validation", validations=0),
    Mode("several validation loaders", programs.TwoValidations, validations=2),
    Mode("sanity check with every batch", settings=plain(num_sanity_val_steps=-1)),
    Mode("no sanity check", settings=plain(num_sanity_val_steps=0)),
    Mode("val_check_interval", settings=plain(val_check_interval=2)),
    Mode("overfit_batches", settings=plain(overfit_batches=2, max_epochs=5)),
    Mode("limit_train_batches", settings=plain(limit_train_batches=4, max_epochs=3)),
    Mode("fast_dev_run", settings=plain(fast_dev_run=6)),
    Mode("barebones", settings=plain(**BAREBONES)),
    Mode("LightningCLI with a YAML file", trainer=from_yaml),
    Mode("Tuner.lr_find before fit", before=find_learning_rate),
    Mode("Tuner.scale_batch_size before fit", before=find_batch_size),
    Mode("DDP, two ranks", settings=replicated(), data=programs.twice, slow=True, ranks=2),
    Mode(
        "DDP, four ranks",
        settings=replicated(4),
        data=lambda d: programs.twice(ConcatDataset([d, d])),
        slow=True,
        ranks=4,
    ),
    Mode(
        "DDP with find_unused_parameters, two ranks",
        programs.Unused,
        replicated(find_unused_parameters=True),
        data=programs.twice,
        slow=True,
        ranks=2,
    ),
    Mode(
        "DDP with gradient accumulation, two ranks",
        settings=lambda: {**replicated()(), "accumulate_grad_batches": 2, "max_epochs": 4},
        data=programs.twice,
        slow=True,
        ranks=2,
    ),
    Mode(
        "DDP with 16-mixed and a gradient scaler, two ranks",
        settings=lambda: {**replicated()(), **scaled()},
        data=programs.twice,
        slow=True,
        ranks=2,
    ),
    Mode(
        "DDP with manual optimization, two ranks",
        programs.Manual,
        replicated(),
        data=programs.twice,
        limits={"switch": MANUAL},
        slow=True,
        ranks=2,
    ),
    Mode(
        "DDP with torch.compile of a submodule, two ranks",
        programs.Compiled,
        replicated(),
        data=programs.twice,
        limits={"record": UNTAPED},
        slow=True,
        ranks=2,
    ),
    Mode(
        "ModelParallelStrategy with fully_shard, two ranks",
        programs.Sharded,
        spread(2, 1),
        data=programs.twice,
        limits=OF_SHARDS,
        slow=True,
        ranks=2,
    ),
    Mode(
        "ModelParallelStrategy with parallelize_module, two ranks",
        programs.Parallel,
        spread(1, 2),
        limits=OF_SHARDS,
        slow=True,
        ranks=2,
    ),
    Mode(
        "ModelParallelStrategy with loss_parallel, two ranks",
        programs.LossParallel,
        spread(1, 2),
        limits=OF_SHARDS,
        slow=True,
        ranks=2,
    ),
)
