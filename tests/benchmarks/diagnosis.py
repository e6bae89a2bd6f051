"""What a diagnosis costs: all rules on 2,000 steps of 300 layers, and the rules that cost most.

    python -m tests.benchmarks.diagnosis

Times are of the process, not of the clock, and the least of several runs: a busy machine adds to
the others.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_plateau import PlateauCallback
from lightning_plateau.core.history import History, Series
from lightning_plateau.core.signal import GRADIENT_NORM, GRADIENT_NORMS, LOSS, SKIPPED_STEPS
from lightning_plateau.diagnosis import all_rules, diagnose
from lightning_plateau.framework import Trainer
from tests.benchmarks.workloads import Classifier

STEPS = 2000
EVERY = 50
EACH_STEP = (LOSS, GRADIENT_NORM, GRADIENT_NORMS, SKIPPED_STEPS)


class Chain(nn.Module):
    """Residual blocks of a linear layer, batch norm and a ReLU each.

    Args:
        blocks: Number of blocks; three layers each.
    """

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU()) for _ in range(blocks)
        )
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores."""
        for block in self.blocks:
            x = x + 0.1 * block(x)
        return self.head(x)


def recorded(blocks: int = 100) -> History:
    """Return what is recorded of a short training of ``3 · blocks`` layers."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(24 * 32, 16, generator=generator)
    labels = (inputs @ torch.randn(16, 10, generator=generator)).argmax(1)
    callback = PlateauCallback(policy="observe", dirpath=tempfile.mkdtemp(), quiet=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[callback],
        ).fit(Classifier(Chain(blocks)), DataLoader(TensorDataset(inputs, labels), 32))
    return callback.history


def lengthened(history: History, steps: int = STEPS) -> History:
    """Return ``history`` as if it went on for ``steps`` steps, its values repeated with noise."""
    random = np.random.default_rng(0)
    each_step = {signal.tag for signal in EACH_STEP}

    def longer(series: Series) -> Series:
        at = np.arange(0, steps, 1 if series.signal.tag in each_step else EVERY)
        rows = series.values[np.arange(len(at)) % len(series)]
        noisy = rows * random.uniform(0.9, 1.1, rows.shape)
        return Series(series.signal, at, noisy, series.labels)

    longer_series = {tag: longer(series) for tag, series in history.series.items() if len(series)}
    return replace(history, series=longer_series, step=steps, finished=False)


def fresh(history: History) -> History:
    """Return ``history`` as a recorder gives it out after a drain.

    Nothing was derived yet from its series, nor from the tape that was added last.
    """
    series = {tag: replace(one, signal=one.signal) for tag, one in history.series.items()}
    tapes = (*history.tapes[:-1], *(replace(tape, step=tape.step) for tape in history.tapes[-1:]))
    return replace(history, series=series, tapes=tapes)


def least(action: Callable[[History], object], make: Callable[[], History], times: int) -> float:
    """Return the least processor time of what is done with a history, in milliseconds.

    Args:
        action: What is timed.
        make: Makes the history, anew each time; that is not timed.
        times: How often.
    """
    taken = []
    for _ in range(times):
        history = make()
        began = time.process_time()
        action(history)
        taken.append(time.process_time() - began)
    return 1e3 * min(taken)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--rules", type=int, default=15, help="rules to list")
    arguments = parser.parse_args(argv)
    history, rules = lengthened(recorded()), all_rules()
    whole, again = (
        least(partial(diagnose, rules=rules), make, arguments.times)
        for make in (partial(fresh, history), lambda: history)
    )
    print(f"all {len(rules)} rules: {whole:.2f} ms; asked again: {again:.2f} ms")
    costs = {rule: least(rule.check, partial(fresh, history), arguments.times) for rule in rules}
    for rule, cost in sorted(costs.items(), key=lambda pair: -pair[1])[: arguments.rules]:
        print(f"  {rule.code} {rule.name:36} {cost:7.2f} ms alone")


if __name__ == "__main__":
    main()
