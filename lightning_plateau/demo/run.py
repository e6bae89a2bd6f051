"""The demo itself: train twice from the same seed, only watched and then treated, and compare."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from lightning_plateau.callback import PlateauCallback
from lightning_plateau.core.history import History
from lightning_plateau.core.journal import Journal
from lightning_plateau.demo.digits import digits
from lightning_plateau.demo.faults import FAULTS, Fault, find_fault
from lightning_plateau.demo.networks import accuracy
from lightning_plateau.framework import Trainer, quietly
from lightning_plateau.report.console import show
from lightning_plateau.report.html import REPORT_FILE
from lightning_plateau.report.phrases import wrapped
from lightning_plateau.report.plots import overview, save_overview
from lightning_plateau.report.saved_run import HISTORY_FILE, JOURNAL_FILE

PolicyName = Literal["observe", "safe", "auto"]
DEFAULT_FAULT = "learning-rate-too-high"


@dataclass(frozen=True)
class DemoResult:
    """What came of the two trainings.

    Attributes:
        untreated: Test accuracy, 0 … 1, of the run that was only observed.
        treated: The same of the run under the policy.
        callback: The callback of the treated run.
        folder: Where its journal, history and plot lie; the observed run's are in ``untreated``.
    """

    untreated: float
    treated: float
    callback: PlateauCallback
    folder: Path


def describe_faults() -> str:
    """Return the faults, each with what is wrong."""
    broad = max(len(name) for name in FAULTS) + 2
    return "\n".join(f"{fault.name:<{broad}}{fault.story}" for fault in FAULTS.values())


def check_extras() -> None:
    """Check before the first step that what the demo needs is there.

    Raises:
        ImportError: If scikit-learn or matplotlib is not installed; the message names the extra.
    """
    digits()
    overview(History(), Journal())


def run_demo(
    fault: str = DEFAULT_FAULT,
    *,
    policy: PolicyName = "auto",
    seed: int = 1,
    epochs: int | None = None,
    out: Path | None = None,
    progress_bar: bool = True,
) -> DemoResult:
    """Train with a planted fault, once only watched and once treated, and show the difference.

    Args:
        fault: Name of the fault, or of ``healthy``.
        policy: What the callback may do in the second training.
        seed: Seed of both.
        epochs: Epochs of each training; by default what the fault needs, seconds.
        out: Folder for ``journal.jsonl``, ``history.npz`` and ``overview.png``; by default
            ``plateau-demo/<fault>`` in the working directory.
        progress_bar: Whether to show Lightning's progress bar.

    Raises:
        ValueError: If there is no such fault, or ``epochs`` is below 1.
        ImportError: If scikit-learn or matplotlib is not installed; the message names the extra.
    """
    planted = find_fault(fault)
    check_extras()
    if epochs is not None and epochs < 1:
        raise ValueError(f"epochs must be at least 1, but is {epochs}")
    folder = Path("plateau-demo") / planted.name if out is None else out
    show("\n".join(wrapped(f"{planted.name}: {planted.story}", 100)))
    results = {}
    callbacks = {}
    trainings: tuple[tuple[str, PolicyName, Path], ...] = (
        ("untreated", "observe", folder / "untreated"),
        ("treated", policy, folder),
    )
    for name, used, place in trainings:
        show(f"\n=== training, policy {used!r}, seed {seed}")
        callbacks[name] = PlateauCallback(policy=used, dirpath=str(_emptied(place)))
        results[name] = train(
            planted, callbacks[name], seed=seed, epochs=epochs, progress_bar=progress_bar
        )
    callback = callbacks["treated"]
    plot = save_overview(folder / "overview.png", callback.history, callback.journal)
    result = DemoResult(results["untreated"], results["treated"], callback, folder)
    show(_comparison(result, policy, plot))
    return result


def _emptied(folder: Path) -> Path:
    """Return ``folder`` without what an earlier demo left: a journal is appended to."""
    for name in (JOURNAL_FILE, HISTORY_FILE, REPORT_FILE):
        (folder / name).unlink(missing_ok=True)
    return folder


def train(
    fault: Fault,
    callback: PlateauCallback,
    *,
    seed: int = 1,
    epochs: int | None = None,
    progress_bar: bool = False,
) -> float:
    """Train once from ``seed``, watched by ``callback``, return the test accuracy, 0 … 1."""
    with quietly():
        torch.manual_seed(seed)
        training = fault.build()
        torch.manual_seed(seed)  # the same order of samples, however many numbers the build drew
        trainer = Trainer(
            max_epochs=training.epochs if epochs is None else epochs,
            accelerator="cpu",
            callbacks=[callback],
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=progress_bar,
            num_sanity_val_steps=0,
        )
        trainer.fit(training.module, training.train, training.validation)
    return accuracy(training.module, training.test)


def _comparison(result: DemoResult, policy: str, plot: Path) -> str:
    rows = (("observe", result.untreated), (policy, result.treated))
    lines = ["", "accuracy on the 360 test images, same seed"]
    lines += [f"  {name:<8} {100 * share:5.1f} %" for name, share in rows]
    return "\n".join([*lines, f"{'plot':<10}{plot}"])
