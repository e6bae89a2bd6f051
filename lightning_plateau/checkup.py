"""The check before training: a short training on a copy, experiments, and a verdict."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any

from lightning_plateau.callback import PlateauCallback
from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.journal import Journal, Note
from lightning_plateau.core.plain import to_plain
from lightning_plateau.core.rule import Rule
from lightning_plateau.diagnosis import diagnose, select_rules
from lightning_plateau.framework import PACKAGE, Callback, LightningModule, Trainer, quietly
from lightning_plateau.ranking import rank
from lightning_plateau.report.console import width
from lightning_plateau.report.outcomes import outcomes
from lightning_plateau.report.phrases import counted, wrapped
from lightning_plateau.report.terminal import WIDTH, summary
from lightning_plateau.training.snapshot import randomness_kept

STEPS = 200
MOST_S = 60.0
HORIZON = 10
"""A check is the first tenth of the training that it imagines, where none is planned."""
VALIDATION_BATCHES = 10


@dataclass(frozen=True)
class Checkup:
    """What a check found.

    Attributes:
        findings: What is wrong, the most probable cause first.
        experiments: One line for each experiment, with what it measured.
        history: What was recorded of the short training.
        elapsed_s: Seconds that the check took.
        error: What the user's code raised; empty where nothing.
    """

    findings: tuple[Finding, ...] = ()
    experiments: tuple[str, ...] = ()
    history: History = field(default_factory=History)
    elapsed_s: float = 0.0
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong: remarks do not count."""
        return not self.error and all(f.severity is Severity.INFO for f in self.findings)

    def text(self, width: int = WIDTH) -> str:
        """Return the verdict on one screen, with the lines to change.

        Args:
            width: Most characters of a line.
        """
        lines = [summary(self.findings, Journal(), self.history, width=width)]
        if self.error and all(f.severity is Severity.INFO for f in self.findings):
            lines = ["lightning-plateau: the training raised an error; the cause is not known."]
        if self.error:
            lines += wrapped(self.error, width, label="raised    ", most=3)
        tried = "; ".join(outcomes(self.history))
        lines += wrapped(tried, width, label="tried     ", most=5)
        lines += wrapped(
            f"{counted(self.history.step, 'step')} in {self.elapsed_s:.1f} s, on a copy",
            width,
            label="checked   ",
        )
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text(width())

    def to_dict(self) -> dict[str, Any]:
        """Return the checkup in plain types, for JSON."""
        return {
            "healthy": self.ok,
            "steps": self.history.step,
            "elapsed_s": round(self.elapsed_s, 3),
            "error": self.error,
            "findings": to_plain(self.findings),
            "experiments": list(self.experiments),
        }


def check(  # noqa: PLR0913 - settings by name, each with a default
    module: LightningModule | Callable[[], LightningModule],
    train_dataloaders: Any = None,
    val_dataloaders: Any = None,
    datamodule: Any = None,
    *,
    steps: int = STEPS,
    most_s: float = MOST_S,
    thorough: bool = False,
    trainer: Mapping[str, Any] | None = None,
    select: list[str] | None = None,
    ignore: list[str] | None = None,
    progress_bar: bool = True,
) -> Checkup:
    """Check a training before it is begun: what would keep its loss from going down?

    A copy of the module is trained for a few steps and watched; experiments on copies of the copy
    tell causes apart. The module, its data and the random states are left as they are.

    Args:
        module: The LightningModule, or what makes one: a function or a class without arguments.
        train_dataloaders: Training batches, as ``Trainer.fit`` takes them.
        val_dataloaders: Validation batches.
        datamodule: A LightningDataModule in place of both.
        steps: Optimizer steps of the short training.
        most_s: Seconds after which it ends early; experiments come on top.
        thorough: Whether to ask too which learning rate would be best, and whether more data would
            help; it takes about twice as long.
        trainer: Settings of your Trainer that matter here: ``precision``, ``max_epochs``,
            ``gradient_clip_val`` … Callbacks, loggers and strategies are left out: one device
            checks.
        select: Codes, beginnings of codes or names of the rules to use.
        ignore: The same, of the rules to leave out.
        progress_bar: Whether to show how far the check is.

    Raises:
        TypeError: If the module cannot be copied; pass a function that makes it.
        ValueError: If ``steps`` or ``most_s`` is not positive, or a rule is unknown.

    Example:
        >>> check(None, steps=0)
        Traceback (most recent call last):
            ...
        ValueError: steps must be at least 1, but is 0
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, but is {steps}")
    if not most_s > 0:
        raise ValueError(f"most_s must be positive, but is {most_s}")
    rules = select_rules(None, select, ignore)
    began_s = time.monotonic()
    error = ""
    with TemporaryDirectory() as folder:
        callback = PlateauCallback(
            policy="observe",
            rules=list(rules),
            every_n_steps=max(1, min(20, steps // 4)),
            dirpath=folder,
            check="thorough" if thorough else True,
            quiet=True,
        )
        with quietly():
            tried = _copied(module)
            with randomness_kept(), _untouched(module):
                error = _train(
                    tried,
                    (train_dataloaders, val_dataloaders, datamodule),
                    [callback, _End(steps, most_s), *([_Bar(steps)] if progress_bar else [])],
                    steps,
                    trainer or {},
                )
    history = replace(callback.history, finished=False)
    found = _diagnosed(history, rules, planned=_is_planned(trainer or {}))
    codes = {finding.code for finding in found}
    passed = [f for f in callback.findings if (f.certain or error) and f.code not in codes]
    symptoms = [rule.code for rule in rules if rule.symptom]
    return Checkup(
        findings=rank([*found, *passed], symptoms),
        experiments=_experiments(callback.journal),
        history=history,
        elapsed_s=time.monotonic() - began_s,
        error=error,
    )


def _diagnosed(history: History, rules: Sequence[Rule], *, planned: bool) -> tuple[Finding, ...]:
    """Diagnose the short training as it is, and as the beginning of the one that is planned.

    In a long training there is time for a loss that hardly falls; a check is over before that.
    """
    unplanned = replace(history, profile=replace(history.profile, planned_steps=None))
    found = {finding.code: finding for finding in diagnose(unplanned, rules)}
    if planned:
        found |= {finding.code: finding for finding in diagnose(history, rules)}
    return tuple(found.values())


def _is_planned(settings: Mapping[str, Any]) -> bool:
    return any(settings.get(name) is not None for name in ("max_steps", "max_epochs"))


def _copied(module: Any) -> Any:
    if not isinstance(module, LightningModule):
        if not callable(module):
            raise TypeError(
                f"module must be a LightningModule of {PACKAGE} or make one, but is {module!r}"
            )
        return module()
    try:
        return copy.deepcopy(module)
    except Exception as error:
        kind = type(error).__name__
        raise TypeError(
            f"the module cannot be copied ({kind}: {error}); pass a function that makes it"
        ) from error


@contextmanager
def _untouched(module: Any) -> Iterator[None]:
    """Insist that the training of a copy does not reach the original."""
    held = list(module.parameters()) if isinstance(module, LightningModule) else []
    gradients = [parameter.grad for parameter in held]
    for parameter in held:
        parameter.grad = None
    try:
        yield
    finally:
        strayed = any(parameter.grad is not None for parameter in held)
        for parameter, gradient in zip(held, gradients, strict=True):
            parameter.grad = gradient
    if strayed:
        raise TypeError(
            "training_step uses the module by another name than self, so that a copy of it trains "
            "the original: use self, or pass a function that makes the module"
        )


def _train(
    module: Any,
    data: tuple[Any, Any, Any],
    callbacks: list[Callback],
    steps: int,
    settings: Mapping[str, Any],
) -> str:
    """Train for a few steps; return what the user's code raised, empty where nothing."""
    module.__dict__["configure_callbacks"] = list  # those of the real training have no place here
    train, validation, datamodule = data
    try:
        trainer = Trainer(**_settings(settings, steps), callbacks=callbacks)
        trainer.fit(module, train, validation, datamodule=datamodule)
    except Exception as error:  # noqa: BLE001 - the check reports what the training would raise
        return f"{type(error).__name__}: {error}"
    return ""


_LEFT_OUT = frozenset(
    [
        "barebones",
        "callbacks",
        "devices",
        "fast_dev_run",
        "logger",
        "max_time",
        "min_epochs",
        "min_steps",
        "num_nodes",
        "profiler",
        "strategy",
        "sync_batchnorm",
    ]
)


def _settings(given: Mapping[str, Any], steps: int) -> dict[str, Any]:
    silent = import_module(f"{PACKAGE}.loggers.logger").DummyLogger
    imagined = {"max_steps": HORIZON * steps, "max_epochs": 10_000}
    devices = given.get("devices")
    return {
        "devices": devices[:1] if isinstance(devices, list) and devices else 1,
        **({} if _is_planned(given) else imagined),
        **{name: value for name, value in given.items() if name not in _LEFT_OUT},
        "logger": [silent()],
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "enable_progress_bar": False,
        "num_sanity_val_steps": 0,
        "limit_val_batches": VALIDATION_BATCHES,
    }


def _experiments(journal: Journal) -> tuple[str, ...]:
    prefix = "experiment "
    texts = [entry.record.text for entry in journal if isinstance(entry.record, Note)]
    return tuple(text.removeprefix(prefix) for text in texts if text.startswith(prefix))


class _End(Callback):
    """Ends the training after so many steps, or so many seconds."""

    def __init__(self, steps: int, most_s: float) -> None:
        self._steps, self._most_s = steps, most_s
        self._began_s = math.inf

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._began_s = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Stop where it is enough."""
        late = time.monotonic() - self._began_s > self._most_s
        # The count goes up after this hook.
        if late or trainer.fit_loop.epoch_loop._batches_that_stepped + 1 >= self._steps:
            trainer.should_stop = True


class _Bar(Callback):
    """Shows how far the check is."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._bar: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the bar."""
        self._bar = import_module("tqdm").tqdm(
            total=self._steps,
            desc="lightning-plateau check",
            unit="step",
            leave=False,
            mininterval=0.5,
        )

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Move it on."""
        self._bar.update()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take it away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
