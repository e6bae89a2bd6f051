"""The overview of a run as a figure; it answers what happened when."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lightning_plateau.core.canvas import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    blank_figure,
)
from lightning_plateau.core.history import Floats, History, Series
from lightning_plateau.core.journal import Journal
from lightning_plateau.core.signal import GRADIENT_NORM, LEARNING_RATES, LOSS, VALIDATION_LOSS
from lightning_plateau.report.curves import MOST_POINTS, curve, drawable
from lightning_plateau.report.events import Event, events
from lightning_plateau.report.phrases import counted
from lightning_plateau.report.scale import WORTH_A_LOG_SCALE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EVENT_COLOURS = {
    "finding": RED,
    "kept": GREEN,
    "in force": GREEN,
    "reverted": ORANGE,
    "unfinished": GREY,
    "dry run": GREY,
}
MOST_EVENTS = 9
MOST_EPOCHS = 40
MOST_GROUPS = 6


def overview(history: History, journal: Journal) -> Figure:
    """Draw a run on one page: what happened when, and what did loss and gradients do?

    Four panels on one axis of steps: the events (findings, and remedies from the step at which they
    were applied to the one at which they were judged), the loss, the gradient norm, the learning
    rate. Steps at which a value was NaN or infinite are marked at the top of its panel.

    Args:
        history: What was recorded.
        journal: What happened.

    Raises:
        ImportError: If matplotlib is not installed; the message names the extra.
    """
    shown = events(journal, MOST_EVENTS)
    rows = max(1, len(shown))
    figure = blank_figure(10, 7.2 + 0.24 * rows)
    timeline, loss, gradient, rate = figure.subplots(
        4, 1, sharex=True, height_ratios=[0.24 * rows + 0.25, 2.6, 2, 1.2]
    )
    steps = max(1, history.step)
    _timeline(timeline, shown, steps)
    _loss(loss, history)
    _gradient(gradient, history)
    _rates(rate, history)
    for axes in (loss, gradient, rate):
        _furnish(axes, history, shown)
    rate.set_xlabel("optimizer step")
    rate.set_xlim(-0.01 * steps, 1.01 * steps)
    return figure


def save_overview(
    path: str | os.PathLike[str], history: History, journal: Journal, *, dpi: int = 130
) -> Path:
    """Write the overview as an image, of the type that the suffix of ``path`` names."""
    figure = overview(history, journal)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi)
    return path


def _timeline(axes: Axes, shown: tuple[Event, ...], steps: int) -> None:
    """One row for each event, with its words beside it on the side that has room."""
    axes.set_yticks([])
    for side in ("left", "right", "top", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(bottom=False)
    axes.set_ylim(max(1, len(shown)) - 0.4, -0.6)
    if not shown:
        axes.text(0, 0, "no fault found, nothing changed", color=GREY, va="center", fontsize=9)
    for row, event in enumerate(shown):
        colour = EVENT_COLOURS[event.kind]
        end = event.step if event.end is None else event.end
        if end > event.step:
            axes.plot([event.step, end], [row, row], color=colour, lw=4, solid_capstyle="butt")
        axes.plot(event.step, row, "v" if event.kind == "finding" else "o", color=colour, ms=6)
        fits_right = end < 0.5 * steps
        axes.annotate(
            event.text,
            (end if fits_right else event.step, row),
            xytext=(8 if fits_right else -8, 0),
            textcoords="offset points",
            ha="left" if fits_right else "right",
            va="center",
            color=BLACK,
            fontsize=8.5,
        )


def _loss(axes: Axes, history: History) -> None:
    loss, validation = history[LOSS], history[VALIDATION_LOSS]
    _curve(axes, loss, BLUE, "training")
    if len(validation):
        axes.plot(
            validation.steps,
            drawable(validation.values),
            "o-",
            color=ORANGE,
            ms=4,
            lw=1.6,
            label="validation",
        )
    _scale(axes, np.concatenate([loss.values, validation.values]))
    axes.set_ylabel("loss")


def _gradient(axes: Axes, history: History) -> None:
    norm = history[GRADIENT_NORM]
    _curve(axes, norm, PURPLE, "before clipping")
    _scale(axes, norm.values)
    axes.set_ylabel("gradient norm")


def _rates(axes: Axes, history: History) -> None:
    rates = history[LEARNING_RATES]
    for index, label in enumerate(rates.labels[:MOST_GROUPS]):
        values = drawable(rates.values[:, index])
        # A rate holds until the next one is set, the last one to the end of the run.
        steps, held = np.append(rates.steps, history.step), np.append(values, values[-1:])
        axes.step(
            steps[: len(held)],
            held,
            where="post",
            color=BLACK,
            lw=1.4,
            alpha=1 - 0.14 * index,
            label=f"group {label}",
        )
    _scale(axes, rates.values.ravel())
    if axes.get_yscale() == "linear":
        axes.set_ylim(0, max(axes.get_ylim()[1], 1e-12))
    axes.set_ylabel("learning rate")


def _curve(axes: Axes, series: Series, colour: str, label: str) -> None:
    """The values pale, their running median dark, and a mark where a value is not finite."""
    drawn = curve(series)
    if drawn.smooth is None:
        axes.plot(drawn.steps, drawn.highest, color=colour, lw=1.5, label=label)
    else:
        axes.fill_between(drawn.steps, drawn.lowest, drawn.highest, color=colour, alpha=0.3, lw=0.9)
        axes.plot(
            drawn.steps, drawn.smooth, color=colour, lw=1.8, label=f"{label} (running median)"
        )
    broken = series.steps[~np.isfinite(series.values)]
    if len(broken):
        label = f"NaN or infinite ({counted(len(broken), 'step')})"
        broken = broken[:: -(-len(broken) // MOST_POINTS)]
        height = np.full(len(broken), 0.97)
        across = axes.get_xaxis_transform()
        axes.plot(broken, height, "x", color=RED, ms=5, mew=1.2, transform=across, label=label)


def _scale(axes: Axes, values: Floats) -> None:
    """A log scale where the values are positive and span more than a decade."""
    values = drawable(values)
    positive = values[values > 0]
    if not len(positive) or (values < 0).any():
        return
    if positive.max() / WORTH_A_LOG_SCALE > positive.min():
        axes.set_yscale("log", nonpositive="mask")
        # A single zero or denormal value must not press all others into the upper edge.
        floor = max(positive.min(), np.quantile(positive, 0.01) / 100)
        axes.set_ylim(bottom=floor / 1.5)


def _furnish(axes: Axes, history: History, shown: tuple[Event, ...]) -> None:
    for side in ("right", "top"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", lw=0.7)
    axes.set_axisbelow(True)
    if len(history.epoch_ends) <= MOST_EPOCHS:
        for step in history.epoch_ends:
            axes.axvline(step, color="#efefef", lw=0.8, zorder=0)
    for event in shown:
        axes.axvline(event.step, color=EVENT_COLOURS[event.kind], lw=1, ls=":", zorder=1)
    drawn = axes.get_legend_handles_labels()[1]
    if drawn and drawn != ["group 0"]:
        axes.legend(loc="best", fontsize=8, frameon=False)
    elif not drawn:
        axes.text(
            0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", va="center", color=GREY
        )
