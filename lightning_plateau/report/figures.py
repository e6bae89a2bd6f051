"""The panels and heat maps of the report as figures of matplotlib, for papers and notebooks."""

from __future__ import annotations

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
from lightning_plateau.core.history import History
from lightning_plateau.report.curves import drawable
from lightning_plateau.report.experiment_charts import Chart, experiment_charts
from lightning_plateau.report.heat_map import HeatMap, heat_maps
from lightning_plateau.report.panels import Panel, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = (BLUE, PURPLE, GREEN, RED, GREY, BLACK)


def figures(history: History) -> dict[str, Figure]:
    """Return a figure of everything that was recorded.

    Args:
        history: What was recorded.

    Returns:
        Figures by name: ``loss``, ``gradient``, ``update``, ``rate`` over steps; ``gradients``,
        ``dead``, ``saturated``, ``drift`` as layers over steps; the experiments that were made by
        their own names, ``step-size``. What was not recorded, or shows nothing, is left out.

    Raises:
        ImportError: If matplotlib is not installed; the message names the extra.

    Example:
        >>> from lightning_plateau.testing import history
        >>> list(figures(history(loss=[2.0, 1.5, 1.0])))
        ['loss']
    """
    over_steps = {panel.key: curves_figure(panel) for panel in panels(history)}
    over_layers = {one.key: map_figure(one, history.step) for one in heat_maps(history)}
    made = {chart.key: chart_figure(chart) for chart in experiment_charts(history)}
    return over_steps | over_layers | made


def curves_figure(panel: Panel) -> Figure:
    """Draw one panel of the report: what does it do over the steps?"""
    figure = blank_figure(9, 3.2)
    axes = figure.subplots()
    for index, line in enumerate(panel.lines):
        colour = ORANGE if line.name == "validation" else COLOURS[index % len(COLOURS)]
        axes.plot(line.steps, line.values, color=colour, lw=1.6, label=line.name)
    if panel.log:
        axes.set_yscale("log", nonpositive="mask")
    axes.set_ylabel(panel.title)
    axes.set_xlabel("optimizer step")
    axes.grid(axis="y", color="#e6e6e6", lw=0.7)
    axes.spines[["right", "top"]].set_visible(False)
    if len(panel.lines) > 1:
        axes.legend(frameon=False, fontsize=8)
    return figure


def map_figure(one: HeatMap, steps: int) -> Figure:
    """Draw one heat map of the report: layers over steps, the first layer on top."""
    from matplotlib.colors import LogNorm, Normalize

    figure = blank_figure(9, 1.6 + 0.16 * len(one.layers))
    axes = figure.subplots()
    positive = one.cells[np.isfinite(one.cells) & (one.cells > 0)]
    norm: Normalize = Normalize(0, 1)
    if one.kind == "diverging":
        norm = LogNorm(0.1, 10)
    elif one.key == "gradients" and len(positive):
        norm = LogNorm(float(positive.min()), float(max(positive.max(), positive.min() * 10)))
    rows = np.arange(len(one.layers) + 1)
    shown = np.ma.masked_invalid(one.cells)
    colours = "RdBu_r" if one.kind == "diverging" else "Blues"
    mesh = axes.pcolormesh(one.edges * max(1, steps), rows, shown, norm=norm, cmap=colours)
    axes.invert_yaxis()
    axes.set_yticks(rows[:-1] + 0.5, one.layers, fontsize=7)
    axes.set_xlabel("optimizer step")
    axes.set_title(one.title, fontsize=10, loc="left")
    figure.colorbar(mesh, ax=axes)
    return figure


def chart_figure(chart: Chart) -> Figure:
    """Draw what an experiment measured: its conditions side by side, each batch pale."""
    bars = chart.kind == "bars"
    figure = blank_figure(6, 0.8 + 0.4 * len(chart.conditions) if bars else 3.2)
    axes = figure.subplots()
    places = np.arange(len(chart.conditions))
    shown = drawable(chart.middle)
    if bars:
        axes.barh(places, shown, color=BLUE, height=0.6)
        axes.invert_yaxis()
        axes.set_yticks(places, chart.conditions)
        axes.set_xlabel(chart.axis)
    else:
        for row in chart.values if len(chart.values) > 1 else ():
            axes.plot(places, drawable(row), color=BLUE, lw=1, alpha=0.3)
        axes.plot(places, shown, "o-", color=BLUE, lw=1.6, ms=4)
        axes.set_yscale("log" if chart.scale.log else "linear")
        axes.set_ylim(chart.scale.low, chart.scale.high)
        named = list(chart.labelled)
        axes.set_xticks(places[named], [chart.conditions[place] for place in named])
        axes.set_xlabel(chart.axis)
    axes.spines[["right", "top"]].set_visible(False)
    axes.set_title("\n".join(filter(None, (chart.title, chart.said))), fontsize=10, loc="left")
    return figure
