"""A finding as a figure: what was measured beside its limits, and its course over the run."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lightning_plateau.core.canvas import BLACK, BLUE, GREY, RED, blank_figure
from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import Floats, History, Series
from lightning_plateau.core.quantities import quantity
from lightning_plateau.core.signal import LOSS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_COURSES = 3
LARGEST = 1e150
DECADE = 10.0


def finding_plot(finding: Finding, history: History | None = None) -> Figure:
    """Draw a finding: each measured value beside its limit, and over the steps where it is known.

    Args:
        finding: The finding.
        history: The run that it was found in. With it the loss and the signals that the evidence
            names are drawn over the steps, with the step at which the finding was made.

    Returns:
        A figure with one axes for each measured value, and one for each course below them.

    Raises:
        ImportError: If matplotlib is not installed; the message names the extra.
    """
    courses = _courses(finding, history or History())
    seen = finding.evidence
    rows = len(seen) + len(courses)
    heights = [0.7] * len(seen) + [2.2] * len(courses)
    figure = blank_figure(9, 1.0 + sum(heights))
    figure.suptitle(_title(finding), fontsize=10, x=0.01, ha="left")
    axes = figure.subplots(max(1, rows), squeeze=False, height_ratios=heights or None)[:, 0]
    if not rows:
        axes[0].set_axis_off()
    for one, place in zip(seen, axes, strict=False):
        _measured(place, one)
    for (name, series), place in zip(courses.items(), axes[len(seen) :], strict=False):
        limits = [e.limit for e in seen if e.quantity == name and e.limit is not None]
        _course(place, series, finding, limits)
    return figure


def _title(finding: Finding) -> str:
    head = f"{finding.code} {finding.name} ({finding.certainty}, step {finding.step})"
    return "\n".join([head, *textwrap.wrap(finding.message, 105)])


def _courses(finding: Finding, history: History) -> dict[str, Series]:
    """Return the series to draw by their tags: those of the evidence, else the loss."""
    named = dict.fromkeys([*(e.quantity for e in finding.evidence), LOSS.tag])
    known = {tag: history.series[tag] for tag in named if tag in history.series}
    # An experiment is made once: it has no course.
    several = {tag: s for tag, s in known.items() if len(s) > 1 and s.signal.axis != "condition"}
    return dict([*several.items()][:MOST_COURSES])


def _measured(axes: Axes, seen: Evidence) -> None:
    """Draw one value as a bar, and its limit as a line across it."""
    value = float(np.clip(np.nan_to_num(seen.value, posinf=LARGEST), -LARGEST, LARGEST))
    limit = seen.limit
    axes.barh(0, value, height=0.5, color=BLUE)
    axes.set_ylim(-0.6, 0.6)
    if limit is not None and np.isfinite(limit):
        axes.axvline(limit, color=RED, lw=1.6)
        smaller, larger = sorted((abs(value), abs(limit)))
        # What is a million times its limit must not press the limit into the edge.
        if 0 < DECADE * smaller < larger and min(value, limit) > 0:
            axes.set_xscale("log")
    beside = "" if limit is None else f", limit {limit:.4g}"
    unit = f" {seen.unit}" if seen.unit else ""
    where = f" ({seen.where})" if seen.where else ""
    told = (
        f"{quantity(seen.quantity)}{where}: {seen.value:.4g}{unit}{beside}{unit if beside else ''}"
    )
    axes.set_title(told, fontsize=9, loc="left", color=BLACK)
    axes.set_yticks([])
    axes.tick_params(labelsize=7)
    axes.spines[["right", "top", "left"]].set_visible(False)


def _course(axes: Axes, series: Series, finding: Finding, limits: Sequence[float]) -> None:
    """Draw a signal over the steps: the columns that the evidence names, or their median."""
    at_fault = {e.where for e in finding.evidence if e.quantity == series.signal.tag}
    values = _drawable(series.values)
    if series.labels:
        named = [place for place, label in enumerate(series.labels) if label in at_fault]
        axes.plot(series.steps, values, color=GREY, lw=0.8, alpha=0.4)
        for place in named:
            axes.plot(series.steps, values[:, place], lw=1.5, label=series.labels[place])
        if not named:
            axes.plot(series.steps, _medians(values), color=BLUE, lw=1.5, label="median")
        axes.legend(frameon=False, fontsize=7)
    else:
        axes.plot(series.steps, values, color=BLUE, lw=1.5)
    for limit in limits:
        axes.axhline(limit, color=RED, lw=1.2)
    axes.axvline(finding.step, color=RED, lw=1.2, ls=":")
    _scale(axes, values)
    axes.set_ylabel("\n".join(textwrap.wrap(quantity(series.signal.tag), 26)), fontsize=8)
    axes.set_xlabel("optimizer step", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["right", "top"]].set_visible(False)


def _medians(values: Floats) -> Floats:
    known = np.isfinite(values).any(axis=1)
    medians = np.full(len(values), np.nan)
    medians[known] = np.nanmedian(values[known], axis=1)
    return medians


def _scale(axes: Axes, values: Floats) -> None:
    from matplotlib.ticker import NullFormatter

    known = values[np.isfinite(values)]
    positive = known[known > 0]
    if len(positive) and known.min() >= 0 and positive.max() > DECADE * positive.min():
        axes.set_yscale("log", nonpositive="mask")
        axes.yaxis.set_minor_formatter(NullFormatter())


def _drawable(values: Floats) -> Floats:
    return np.where(np.isfinite(values), np.clip(values, -LARGEST, LARGEST), np.nan)
