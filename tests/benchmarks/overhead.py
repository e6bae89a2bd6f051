"""What watching costs: every monitor on every workload, as a ratio to the bare Trainer.

    python -m tests.benchmarks.overhead
    python -m tests.benchmarks.overhead --workload mlp --rounds 9 --write-docs

Rounds are interleaved: each takes every monitor once, in an order of its own, in one process. A
ratio compares a monitor with the bare Trainer of the same round; the tables show the median over
the rounds, with an interval that holds 90 % of bootstrap samples. One table is of the beginning of
a run, where it is looked at closely again and again, one of its later steps. On the CPU the time of
the process counts, which a busy machine leaves as it is; elsewhere the clock does.
"""

from __future__ import annotations

import argparse
import gc
import logging
import platform
import random
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_plateau import PlateauCallback
from lightning_plateau.core.finding import Severity
from lightning_plateau.framework import PACKAGE, Callback, Trainer
from tests.benchmarks.monitors import MONITORS, Monitor
from tests.benchmarks.workloads import WORKLOADS, Workload

STEPS_TO_COUNT = 40
PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "overhead.md"
MARKS = "<!-- measured: begin -->", "<!-- measured: end -->"
READS = ("_local_scalar_dense", "is_nonzero", "equal", "item")


@dataclass(frozen=True)
class Cost:
    """Seconds of a step, by the clock and of the processor."""

    wall_s: float
    cpu_s: float

    @property
    def s(self) -> float:
        """The time that counts."""
        return self.wall_s if torch.cuda.is_available() else self.cpu_s


class Stopwatch(Callback):
    """Times spans of steps.

    Args:
        spans: The spans, in order.
    """

    def __init__(self, spans: Sequence[range]) -> None:
        self.spans = spans
        self.costs: list[Cost] = []

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Start at the first step of a span."""
        if any(batch_idx == span.start for span in self.spans):
            _wait()
            self.began = time.perf_counter(), time.process_time()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop at the last."""
        for span in self.spans:
            if batch_idx == span.stop - 1:
                _wait()
                wall, cpu = self.began
                now = time.perf_counter(), time.process_time()
                self.costs.append(Cost((now[0] - wall) / len(span), (now[1] - cpu) / len(span)))


class HostReads(TorchDispatchMode):
    """Counts the operations that read a value on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count, and run."""
        self.count += func._schema.name.partition("::")[2] in READS
        return func(*args, **(kwargs or {}))


class Readings(Callback):
    """Notes after each step how many values were read so far.

    Args:
        reads: The counter.
    """

    def __init__(self, reads: HostReads) -> None:
        self.reads = reads
        self.counts: list[int] = []

    def on_train_batch_start(self, *_: Any) -> None:
        """Note the count."""
        self.counts.append(self.reads.count)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def train(
    workload: Workload,
    monitor: Monitor,
    spans: Sequence[range],
    others: Sequence[Callback] = (),
) -> list[Cost]:
    """Train once under ``monitor``; return the cost of a step in each span of steps."""
    watch = Stopwatch(spans)
    gc.collect()  # or one training pays for what another left behind
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        callbacks = monitor.callbacks(folder)
        trainer = Trainer(
            max_epochs=1,
            accelerator="auto",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[*callbacks, *others, watch],
            **monitor.settings,
        )
        trainer.fit(workload.module(), workload.loader(spans[-1].stop))
    for callback in callbacks:
        if isinstance(callback, PlateauCallback):
            _expect_health(workload, callback)
    return watch.costs


def _expect_health(workload: Workload, callback: PlateauCallback) -> None:
    """Say if something was found or done: what that costs is not what watching costs."""
    found = [f.code for f in callback.findings if f.severity is not Severity.INFO]
    done = [made.remedy for made in callback.journal.interventions]
    if found or done:
        print(f"{workload.name}: found {found}, done {done}", file=sys.stderr, flush=True)


def host_reads(workload: Workload, monitor: Monitor) -> float:
    """Return how many values an ordinary step reads on the host, beyond the bare Trainer's."""

    def of_a_step(monitor: Monitor) -> float:
        reads = HostReads()
        readings = Readings(reads)
        with reads:
            train(workload, monitor, [range(STEPS_TO_COUNT)], [readings])
        return float(np.median(np.diff(readings.counts)))

    return of_a_step(monitor) - of_a_step(MONITORS[0])


def measure(
    workload: Workload, monitors: Sequence[Monitor], rounds: int, *, later: bool
) -> dict[str, list[list[Cost]]]:
    """Return by monitor the costs of each span of steps, a value a round."""
    costs: dict[str, list[list[Cost]]] = defaultdict(list)
    order = list(monitors)
    for number in range(rounds + 1):
        random.Random(number).shuffle(order)
        for monitor in order:
            spans = [workload.begins]
            if number and later and monitor.lasting and workload.later is not None:
                spans.append(workload.later)
            cost = train(workload, monitor, spans)
            if number:  # the first round warms the allocator and the caches
                costs[monitor.name].append(cost)
        print(f"{workload.name}: round {number} of {rounds}", file=sys.stderr, flush=True)
    return costs


def ratio(costs: Sequence[float], bare: Sequence[float]) -> tuple[float, float, float]:
    """Return the median ratio over the rounds, and the bounds of its 90 % interval.

    Example:
        >>> ratio([2.0, 2.0, 2.0], [1.0, 1.0, 1.0])
        (2.0, 2.0, 2.0)
    """
    ratios = np.array(costs) / np.array(bare)
    picks = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.quantile(np.median(picks, axis=1), (0.05, 0.95))
    return float(np.median(ratios)), float(low), float(high)


def table(
    results: dict[str, dict[str, list[list[Cost]]]], span: int, reads: dict[str, float]
) -> str:
    """Return the table of one span in Markdown: a row a monitor, a column a workload."""
    workloads = [name for name, costs in results.items() if len(costs["bare"][0]) > span]
    last = [" host reads a step |"] if reads else []
    lines = [
        "| monitor | " + " | ".join(workloads) + " |" + "".join(last),
        "|---" * (len(workloads) + 1 + len(last)) + "|",
    ]
    for monitor in MONITORS:
        cells = [_cell(monitor.name, results[workload], span) for workload in workloads]
        if all(cell == "–" for cell in cells):
            continue
        if reads:
            count = reads.get(monitor.name)
            cells.append("–" if count is None else f"{count:.1f}")
        lines.append(f"| {monitor.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(name: str, costs: dict[str, list[list[Cost]]], span: int) -> str:
    own = [round_[span].s for round_ in costs.get(name, []) if len(round_) > span]
    bare = [round_[span].s for round_ in costs["bare"]]
    if len(own) != len(bare):
        return "–"
    if name == "bare":
        return f"{1e3 * float(np.median(bare)):.2f} ms"
    middle, low, high = ratio(own, bare)
    return f"{middle:.3f} ({low:.2f} – {high:.2f})"


def machine() -> str:
    """Return a line on where it was measured."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return (
        f"{device}, {torch.get_num_threads()} thread, {platform.machine()}, Python "
        f"{platform.python_version()}, torch {torch.__version__.partition('+')[0]}, {PACKAGE}"
    )


def write(text: str, page: Path = PAGE, marks: tuple[str, str] = MARKS) -> None:
    """Put what was measured between its marks on the page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(marks[0])
    _, _, after = rest.partition(marks[1])
    page.write_text(f"{before}{marks[0]}\n{text}\n{marks[1]}{after}", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workload", action="append", choices=list(WORKLOADS))
    parser.add_argument("--monitor", action="append", help="beginning of a monitor's name")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--begins", action="store_true", help="only the beginning of runs")
    parser.add_argument("--write-docs", action="store_true")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    logging.getLogger(PACKAGE).setLevel(logging.ERROR)
    quiet = logging.getLogger("lightning_plateau")
    quiet.setLevel(logging.CRITICAL)
    quiet.addHandler(logging.NullHandler())
    wanted = tuple(arguments.monitor or [""])
    monitors = [
        m
        for m in MONITORS
        if m.available and (m.name == "bare" or m.name.strip("`").startswith(wanted))
    ]
    results = {
        name: measure(WORKLOADS[name], monitors, arguments.rounds, later=not arguments.begins)
        for name in arguments.workload or WORKLOADS
    }
    reads = {monitor.name: host_reads(WORKLOADS["mlp"], monitor) for monitor in monitors}
    text = f"{machine()}; {arguments.rounds} rounds.\n\nThe beginning of a run:\n\n"
    text += table(results, 0, reads)
    if not arguments.begins:
        text += f"\n\nLater steps of a run:\n\n{table(results, 1, {})}"
    print(text)
    if arguments.write_docs:
        write(text)


if __name__ == "__main__":
    main()
