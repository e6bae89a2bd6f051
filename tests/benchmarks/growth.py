"""What watching costs as a run, or a network, grows: imports, recording, diagnosis and reports.

    python -m tests.benchmarks.growth
    python -m tests.benchmarks.growth --write-docs

Runs of up to a million steps are simulated: what a short training recorded is repeated with noise,
through the store that a recorder keeps it in. Times are of the process, the least of several runs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import nn

from lightning_plateau.core.history import History, Series
from lightning_plateau.core.journal import Journal
from lightning_plateau.diagnosis import all_rules, diagnose
from lightning_plateau.framework import PACKAGE
from lightning_plateau.recording.recorder import Recorder
from lightning_plateau.recording.store import Store
from lightning_plateau.report.html import report_page
from lightning_plateau.report.terminal import summary
from tests.benchmarks.diagnosis import EACH_STEP, EVERY, STEPS, fresh, least, lengthened, recorded
from tests.benchmarks.overhead import PAGE, machine, write

MARKS = "<!-- growth: begin -->", "<!-- growth: end -->"
LENGTHS = (2_000, 20_000, 200_000, 1_000_000)
BLOCKS = (10, 33, 100, 333)
TENSORS = ((10, 64), (100, 64), (1_000, 64), (10, 10_000), (10, 1_000_000))
"""Parameter tensors, and elements of each."""
IMPORTS = (
    "import lightning_plateau",
    "from lightning_plateau import PlateauCallback",
    "from lightning_plateau import PlateauCallback; PlateauCallback()",
)
PIECE = 2_000


def import_ms(statement: str, times: int = 5) -> float:
    """Return the milliseconds that a statement takes in a process that has imported Lightning."""
    program = f"import time, {PACKAGE}; t = time.process_time(); {statement}; "
    program += "print(1e3 * (time.process_time() - t))"
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        command = [sys.executable, "-c", program]
        taken = [
            float(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
            for _ in range(times + 1)
        ]
    return min(taken[1:])  # the first one compiles


def gone_on(history: History, steps: int) -> History:
    """Return ``history`` as a recorder would hold it after ``steps`` steps, thinned where full."""
    store, random = Store(), np.random.default_rng(0)
    for series in history.series.values():
        every = 1 if series.signal in EACH_STEP else EVERY
        for begin in range(0, steps, PIECE):
            at = np.arange(begin, min(steps, begin + PIECE), every)
            rows = series.values[at // every % len(series)]
            noisy = rows * random.uniform(0.9, 1.1, rows.shape)
            store.append(series.signal, at, noisy, series.labels)
    return replace(history, series=store.series(), step=steps, finished=False)


def size_mb(series: Mapping[str, Series]) -> float:
    """Return what the rows of all series take up, in megabytes."""
    return sum(one.values.nbytes + one.steps.nbytes for one in series.values()) / 1e6


class Simulation:
    """A recorder and gradients that never change: what a step costs without the training.

    Args:
        tensors: Parameter tensors.
        elements: Elements of each.
    """

    def __init__(self, tensors: int, elements: int) -> None:
        self.module = nn.ParameterList(torch.randn(elements) for _ in range(tensors))
        self.gradients = [torch.randn_like(parameter) for parameter in self.module]
        for parameter, gradient in zip(self.module, self.gradients, strict=True):
            parameter.grad = gradient
        parameters = list(self.module.parameters())
        self.recorder = Recorder(self.module, [parameters], every_n_steps=EVERY, tape=False)
        self.batch = torch.randn(8, 4), torch.arange(8)
        self.loss = torch.tensor(1.0)

    def run(self, steps: int) -> float:
        """Make steps; return the microseconds of an ordinary one, the drains counted in."""
        sampled, before = 0.0, time.process_time()
        for _ in range(steps):
            began = time.process_time() if self.recorder.sampled_now else None
            self.recorder.begin_batch(self.batch)
            self.recorder.observe_loss(self.loss)
            self.recorder.observe_gradients(0, accumulated=1)
            self.recorder.end_batch(learning_rates={"0": 0.1})
            if began is not None:
                sampled += time.process_time() - began
            if self.recorder.due:
                self.recorder.drain()
        return 1e6 * (time.process_time() - before - sampled) / steps

    def floor(self, times: int) -> float:
        """Return the microseconds of reading the gradients once."""
        before = time.process_time()
        for _ in range(times):
            torch._foreach_norm(self.gradients)
        return 1e6 * (time.process_time() - before) / times


def imports() -> Iterator[str]:
    """Yield the table of imports."""
    yield from _head("in a process that has imported Lightning", "ms")
    for statement in IMPORTS:
        yield f"| `{statement}` | {import_ms(statement):.1f} |"


def layers(times: int) -> Iterator[str]:
    """Yield the table of diagnoses by the number of layers."""
    yield from _head("layers", "parameter tensors", "diagnosis, ms", "asked again, ms")
    rules = all_rules()
    for blocks in BLOCKS:
        history = lengthened(recorded(blocks))
        costs = [
            least(partial(diagnose, rules=rules), make, times)
            for make in (partial(fresh, history), partial(_same, history))
        ]
        tensors = len(history.profile.parameters)
        yield f"| {3 * blocks:,} | {tensors:,} | {costs[0]:.1f} | {costs[1]:.1f} |"


def lengths(times: int) -> Iterator[str]:
    """Yield the table of diagnoses and reports by the length of the run."""
    yield from _head("steps", "kept, MB", "diagnosis, ms", "in the terminal, ms", "HTML, ms")
    short, rules = recorded(), all_rules()
    for steps in LENGTHS:
        history = gone_on(short, steps)
        findings = diagnose(history, rules)
        actions: list[Callable[[History], object]] = [
            partial(diagnose, rules=rules),
            partial(summary, findings, Journal()),
            partial(report_page, findings, Journal()),
        ]
        costs = [least(action, partial(fresh, history), times) for action in actions]
        kept = size_mb(history.series)
        yield f"| {steps:,} | {kept:.0f} | " + " | ".join(f"{cost:.1f}" for cost in costs) + " |"


def tensors(steps: int = 500) -> Iterator[str]:
    """Yield the table of ordinary steps by the number of tensors and of elements."""
    yield from _head("tensors", "elements of each", "ordinary step, µs", "one read of them, µs")
    for count, elements in TENSORS:
        simulation = Simulation(count, elements)
        simulation.run(100)
        step = min(simulation.run(steps) for _ in range(3))
        floor = min(simulation.floor(steps) for _ in range(3))
        yield f"| {count:,} | {elements:,} | {step:.0f} | {floor:.0f} |"


def million(steps: int) -> Iterator[str]:
    """Yield the table of a long run: what a step takes at its beginning and at its end."""
    yield from _head("after steps", "ordinary step, µs", "kept, MB")
    simulation = Simulation(10, 64)
    simulation.run(1_000)
    for share in (0.01, 0.1, 1.0):
        simulation.run(max(1, int(share * steps) - simulation.recorder.clock - 10_000))
        cost = simulation.run(10_000)
        kept = size_mb(simulation.recorder.history().series)
        yield f"| {simulation.recorder.clock:,} | {cost:.0f} | {kept:.1f} |"


def _same(history: History) -> History:
    return history


def _head(*names: str) -> tuple[str, str]:
    return "| " + " | ".join(names) + " |", "|---" * len(names) + "|"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the chapter."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200_000, help="of the long run")
    parser.add_argument("--write-docs", action="store_true")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    times, steps = arguments.times, arguments.steps
    chapters = {
        "Imports:": imports(),
        f"A diagnosis of {STEPS:,} steps:": layers(times),
        f"{3 * BLOCKS[2]} layers, and ever more steps:": lengths(times),
        "The recorder alone, on steps that are not sampled:": tensors(),
        "The recorder alone, in a long run:": million(steps),
    }
    blocks = [f"{machine()}; the process's time, the least of {times}."]
    for title, lines in chapters.items():
        blocks.append(f"{title}\n\n" + "\n".join(lines))
        print(blocks[-1], flush=True)
    if arguments.write_docs:
        write("\n\n".join(blocks), PAGE, MARKS)


if __name__ == "__main__":
    main()
