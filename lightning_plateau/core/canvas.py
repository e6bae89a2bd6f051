"""An empty figure of matplotlib, made without pyplot, and the colours of all plots.

Drawing in the middle of a training must touch no state of the user's own plots. Colours are those
of Okabe and Ito, 2008, Color universal design, which people with any colour vision tell apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLACK, GREY, BLUE, ORANGE = "#222222", "#8c8c8c", "#0072B2", "#E69F00"
GREEN, RED, PURPLE = "#009E73", "#D55E00", "#CC79A7"


def blank_figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches, that no backend of the user's knows of.

    Raises:
        ImportError: If matplotlib is not installed; the message names the extra.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "plots need matplotlib, which is not installed: pip install 'lightning-plateau[report]'"
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)  # becomes the figure's canvas, whatever backend the user has chosen
    return figure
