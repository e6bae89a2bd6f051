"""Plots of a search, from Optuna's own visualization."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optuna.study import Study

LEAST_TRIALS = 2


def save_plots(study: Study, folder: Path) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Draw history, importances and parallel coordinates; return the files, and what was not drawn.

    Args:
        study: The study.
        folder: Where the files go.

    Raises:
        ImportError: If Matplotlib is not installed; the message names the extra.
    """
    try:
        import matplotlib.figure
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            "plots need Matplotlib, which is not installed: pip install 'lightning-plateau[report]'"
        ) from error
    from optuna.visualization import matplotlib as drawn

    folder.mkdir(parents=True, exist_ok=True)
    plots: dict[str, Callable[[Study], Any]] = {
        "history": drawn.plot_optimization_history,
        "importances": drawn.plot_param_importances,
        "parallel-coordinates": drawn.plot_parallel_coordinate,
    }
    written, left_out = [], []
    for name, plot in plots.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                axes = plot(study)
            except (ValueError, RuntimeError, ZeroDivisionError) as error:
                left_out.append(f"{name} cannot be drawn: {error}")
                continue
            figure: matplotlib.figure.Figure = (
                axes.figure if hasattr(axes, "figure") else axes.ravel()[0].figure
            )
            path = folder / f"{name}.png"
            figure.savefig(path, bbox_inches="tight", dpi=120)
            pyplot.close(figure)
            written.append(path)
    return tuple(written), tuple(left_out)
