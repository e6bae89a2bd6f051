"""What the experiments of a run said, in words: one clause for each."""

from __future__ import annotations

import math

import numpy as np

from lightning_plateau.core.along_update import along_update, best_multiple
from lightning_plateau.core.fitting import fall, fitting, ignored_inputs, label_test, latest, mixing
from lightning_plateau.core.history import History
from lightning_plateau.core.signal import (
    EXPERIMENT_LEARNING_CURVE,
    EXPERIMENT_REPLAY_BATCH,
    EXPERIMENT_TRAIN_AGAINST_EVAL,
    EXPERIMENT_ZERO_INPUTS,
)
from lightning_plateau.report.phrases import number

MIXED = 0.01


def outcomes(history: History) -> tuple[str, ...]:
    """Return what each experiment said, in the order in which they are made.

    Example:
        >>> from lightning_plateau.testing import history
        >>> row = {"real": [2.3], "zeroed": [2.3], "swapped": [2.3]}
        >>> outcomes(history({EXPERIMENT_ZERO_INPUTS: row}))
        ('the loss is the same whatever the inputs (2.3)',)
    """
    said = (
        of_inputs,
        of_mixing,
        of_step,
        of_batch,
        of_labels,
        of_modes,
        of_rates,
        of_data,
        of_replay,
    )
    return tuple(text for say in said if (text := say(history)))


def of_inputs(history: History) -> str:
    """Say whether the inputs count; empty where it was not asked."""
    ignored, row = ignored_inputs(history), latest(history, EXPERIMENT_ZERO_INPUTS)
    if ignored is None:
        return ""
    real, zeroed = number(row["real"]), number(row["zeroed"])
    if ignored:
        return f"the loss is the same whatever the inputs ({real})"
    return f"inputs count (loss {real}, {zeroed} without them)"


def of_mixing(history: History) -> str:
    """Say whether samples of a batch are mixed; empty where it was not asked."""
    mixed = mixing(history)
    if mixed is None:
        return ""
    return "samples of a batch are mixed" if mixed > MIXED else "samples do not mix"


def of_step(history: History) -> str:
    """Say what an update does to the loss of its batch; empty where it was not asked."""
    along = along_update(history)
    if along is None:
        return ""
    moved = f"{'raises' if along.whole > 0 else 'lowers'} the loss of its batch by "
    moved += f"{100 * abs(along.whole):.2g} %" if abs(along.whole) < 1e6 else "any measure"
    return f"an update {moved}"


def of_batch(history: History) -> str:
    """Say how far one batch was learned by heart; empty where it was not asked."""
    tried = fitting(history)
    if tried is None:
        return ""
    reached = f"{number(tried.before)} → {number(tried.after)}"
    if math.isnan(tried.blind):
        return f"one batch repeated: {reached}"
    blind = number(tried.before - tried.blind * abs(tried.before))
    return f"one batch repeated: {reached} ({blind} without inputs)"


def of_labels(history: History) -> str:
    """Say whether labels fit their inputs; empty where it was not asked."""
    tried = label_test(history)
    if tried is None:
        return ""
    word = {True: "say something of", False: "say nothing of", None: "may say something of"}
    return f"labels {word[tried.informative]} the inputs"


def of_modes(history: History) -> str:
    """Say how training mode differs from evaluation; empty where it was not asked."""
    series = history[EXPERIMENT_TRAIN_AGAINST_EVAL]
    if not len(series) or not {"train", "eval"} <= set(series.labels):
        return ""
    rows = series.values[series.steps == series.steps[-1]]
    train, evaluated = (np.median(rows[:, series.labels.index(n)]) for n in ("train", "eval"))
    return f"loss in training mode {number(float(train))}, in evaluation {number(float(evaluated))}"


def of_rates(history: History) -> str:
    """Say which learning rate is best; empty where it was not asked."""
    best = best_multiple(history)
    if best is None:
        return ""
    multiple = "" if best == 1.0 else f"{best:g} × "
    return f"{multiple}your learning rate is the best of those tried"


def of_data(history: History) -> str:
    """Say whether more data would help; empty where it was not asked."""
    row = latest(history, EXPERIMENT_LEARNING_CURVE)
    gained = fall(row.get("0.25", math.nan), row.get("1", math.nan))
    if math.isnan(gained):
        return ""
    more = f"lowers the loss of unseen batches by {100 * gained:.0f} %"
    return f"four times the data {more if gained > 0.02 else 'does not help'}"


def of_replay(history: History) -> str:
    """Say what was not finite first; empty where it was not asked."""
    row = latest(history, EXPERIMENT_REPLAY_BATCH)
    place = next((name for name, value in row.items() if value == 1.0), "none")
    return "" if place == "none" else f"first not finite: {place}"
