"""What loggers take beside scalars: texts, tables, figures and histograms, each by its own calls.

Loggers are told apart by the names of their classes, so that nothing is imported for the sake of
one that is not used. Every logger of Lightning takes scalars; what else it takes is known of
TensorBoard, Weights & Biases and MLflow (which takes no histograms), and any other is given scalars
alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lightning_plateau.core.history import Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PREFIX = "plateau/"
COLUMNS = ("step", "kind", "text")
Rows = Sequence[tuple[int, str, str]]


class KnownLogger:
    """A logger of which more is known than that it takes scalars.

    Args:
        logger: The logger of the Trainer.
    """

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def text(self, kind: str, line: str, step: int) -> None:
        """Log a line at its step, where lines are shown at their steps."""

    def histograms(self, values: Mapping[str, Floats], step: int) -> None:
        """Log a histogram of each of ``values``, float64 ``[layers]``, all finite."""

    def conclude(self, rows: Rows, figure: Figure | None, step: int) -> None:
        """Log the journal as a whole, and a figure."""


class TensorBoard(KnownLogger):
    """Texts at their steps, histograms, figures."""

    def text(self, kind: str, line: str, step: int) -> None:
        """Log a line at its step."""
        self._logger.experiment.add_text(PREFIX + kind, line, step)

    def histograms(self, values: Mapping[str, Floats], step: int) -> None:
        """Log a histogram of each of ``values``."""
        for name, found in values.items():
            self._logger.experiment.add_histogram(PREFIX + name, found, step)

    def conclude(self, rows: Rows, figure: Figure | None, step: int) -> None:
        """Log the figure; the texts are there already."""
        if figure is not None:
            self._logger.experiment.add_figure(PREFIX + "overview", figure, step, close=False)


class WeightsAndBiases(KnownLogger):
    """Histograms, a table, figures."""

    def histograms(self, values: Mapping[str, Floats], step: int) -> None:
        """Log a histogram of each of ``values``."""
        histogram = import_module("wandb").Histogram
        made = {PREFIX + name: histogram(found) for name, found in values.items()}
        self._logger.log_metrics(made, step=step)

    def conclude(self, rows: Rows, figure: Figure | None, step: int) -> None:
        """Log the journal as a table, and the figure as an image."""
        if rows:
            data = [list(row) for row in rows]
            self._logger.log_table(PREFIX + "journal", columns=list(COLUMNS), data=data)
        if figure is not None:
            self._logger.log_image(PREFIX + "overview", [figure])


class MLFlow(KnownLogger):
    """A text and figures, as artifacts of the run."""

    def conclude(self, rows: Rows, figure: Figure | None, step: int) -> None:
        """Log the journal as a text, and the figure."""
        client, run = self._logger.experiment, self._logger.run_id
        if rows:
            text = "".join(f"{kind}: {line}\n" for _, kind, line in rows)
            client.log_text(run, text, PREFIX + "journal.txt")
        if figure is not None:
            client.log_figure(run, figure, PREFIX + "overview.png")


_KNOWN: Mapping[str, type[KnownLogger]] = {
    "TensorBoardLogger": TensorBoard,
    "WandbLogger": WeightsAndBiases,
    "MLFlowLogger": MLFlow,
}


def known(logger: Any) -> KnownLogger | None:
    """Return what ``logger`` takes beside scalars, by the class that it is or descends from.

    Example:
        >>> known(object()) is None
        True
    """
    names = (cls.__name__ for cls in type(logger).__mro__)
    kind = next((_KNOWN[name] for name in names if name in _KNOWN), None)
    return None if kind is None else kind(logger)
