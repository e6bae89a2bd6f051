"""A column of the progress bar that says how the training is: watching, healthy, sick, on trial."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.remedy import Intervention

NAME = "plateau"
WATCHING, HEALTHY, OFF = "watching", "healthy", "off"


def bar_state(
    findings: Sequence[Finding] | None, trial: Intervention | None = None, *, off: bool = False
) -> str:
    """Return the state of a training in a few words.

    Args:
        findings: What is wrong now, causes first; None before the first diagnosis.
        trial: The remedy that is on trial; None where there is none.
        off: Whether watching has ended before the training.

    Example:
        >>> flat = Finding("LP401", "flat-loss", 9, Severity.ERROR, 0.9, "…")
        >>> [bar_state(None), bar_state(()), bar_state((flat,)), bar_state((), off=True)]
        ['watching', 'healthy', 'LP401 flat-loss', 'off']
    """
    if off:
        return OFF
    if trial is not None:
        return f"on trial: {trial.remedy}"
    if findings is None:
        return WATCHING
    causes = [f for f in findings if not f.explained_by and f.severity is not Severity.INFO]
    if not causes:
        return HEALTHY
    more = f" +{len(causes) - 1}" if len(causes) > 1 else ""
    return f"{causes[0].code} {causes[0].name}{more}"


class ProgressColumn:
    """Puts a text among the metrics that a progress bar of Lightning shows.

    ``get_metrics`` of the bar is what Lightning documents for that. It is wrapped on the bar that
    the Trainer has, whatever its class, and put back by ``detach``. The text is a string that lies
    on the host: nothing is read from the device for it.

    Attributes:
        text: What is shown.
    """

    def __init__(self) -> None:
        self.text = WATCHING
        self._bar: Any = None

    def attach(self, bar: Any) -> None:
        """Show the text on ``bar``, a ``ProgressBar`` of Lightning; None shows it nowhere."""
        self.detach()
        if bar is None:
            return
        original: Callable[..., dict[str, Any]] = bar.get_metrics

        def get_metrics(*args: Any, **kwargs: Any) -> dict[str, Any]:
            return {**original(*args, **kwargs), NAME: self.text}

        bar.get_metrics = get_metrics
        self._bar = bar

    def detach(self) -> None:
        """Leave the bar as it was."""
        if self._bar is not None:
            del self._bar.get_metrics
            self._bar = None
