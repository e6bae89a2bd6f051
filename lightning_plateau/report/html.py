"""The report as one page: self-contained, offline, for light and dark, screen and paper.

Whatever comes from the run is escaped by the template, and the page carries a policy under which
browsers run no script but ours and load nothing.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_plateau.core.finding import Finding
from lightning_plateau.core.history import History, Series
from lightning_plateau.core.journal import Journal
from lightning_plateau.core.profile import Value
from lightning_plateau.core.quantities import quantity
from lightning_plateau.report.assessment import Assessment, Health, Treatment, assess
from lightning_plateau.report.coverage import coverage, facts
from lightning_plateau.report.events import events
from lightning_plateau.report.experiment_charts import experiment_charts, name_of
from lightning_plateau.report.heat_map import heat_maps
from lightning_plateau.report.outcomes import outcomes
from lightning_plateau.report.panels import Panel, numbers, panels
from lightning_plateau.report.phrases import change, number, one_line
from lightning_plateau.report.verdict import Advice, advice, losses, said
from lightning_plateau.rules import catalogue

if TYPE_CHECKING:
    from jinja2 import Environment

REPORT_FILE = "report.html"
TEMPLATES = Path(__file__).parent / "templates"
MOST_EVENTS = 14
MOST_JOURNAL_LINES = 400
EXPERIMENT = "experiment/"
WITHHELD = "withheld "
MOST_EXPERIMENT_VALUES = 24


@dataclass(frozen=True, slots=True)
class Shown:
    """A finding on the page: what it is to this run, and the symptoms that it accounts for."""

    kind: str
    finding: Finding
    symptoms: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Tried:
    """A treatment on the page, in words; in brief it is what changed first, and to what effect."""

    treatment: Treatment
    changed: str
    effect: str
    brief: str


def available() -> bool:
    """Return whether pages can be made: Jinja2 is an extra."""
    return find_spec("jinja2") is not None


def report_page(
    findings: Iterable[Finding], journal: Journal, history: History, *, title: str = ""
) -> str:
    """Write a run's report as one HTML page, below 1 MB however long the run.

    Args:
        findings: What the diagnosis says of the run now, causes first.
        journal: What happened in the run.
        history: What was recorded of it.
        title: Name of the run.

    Raises:
        ImportError: If Jinja2 is not installed; the message names the extra.

    Example:
        >>> from lightning_plateau.testing import history
        >>> page = report_page((), Journal(), history(loss=[2.0, 1.5, 1.0]))
        >>> "No fault in 3 steps" in page
        True
    """
    state = assess(findings, journal, history)
    todo = advice(state)
    drawn = panels(history)
    maps = heat_maps(history)
    return render(
        "report.html.j2",
        title=title,
        state=state,
        said=said(state, history),
        losses=losses(state, history),
        advice=todo,
        head=_head(state, todo),
        steps=max(1, history.step),
        epoch_ends=_thinned(history.epoch_ends),
        events=events(journal, MOST_EVENTS),
        panels=[(panel, numbers(panel)) for panel in drawn],
        maps=maps,
        data=page_data(drawn, maps, history.step),
        shown=_shown(state),
        withheld=_withheld(journal),
        tried=[_tried(treatment) for treatment in state.treatments],
        experiments=_experiments(history),
        charts=experiment_charts(history),
        outcomes=_other_outcomes(history),
        coverage=coverage(history, journal, catalogue()),
        facts=facts(history),
        lines=[one_line(entry.record) for entry in journal][:MOST_JOURNAL_LINES],
        untold=max(0, len(journal) - MOST_JOURNAL_LINES),
    )


def save_report(
    path: str | os.PathLike[str],
    findings: Iterable[Finding],
    journal: Journal,
    history: History,
) -> Path:
    """Write the page to ``path``, whole or not at all, and return its path."""
    path = Path(path)
    return write(path, report_page(findings, journal, history, title=run_name(path.parent)))


def write(path: Path, page: str) -> Path:
    """Write ``page`` to ``path``, whole or not at all, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(page, encoding="utf-8", errors="replace")
    partial.replace(path)
    return path


def run_name(folder: Path) -> str:
    """Return what to call the run in ``folder``.

    Example:
        >>> run_name(Path("lightning_logs/version_3/plateau")), run_name(Path("first"))
        ('lightning_logs/version_3', 'first')
    """
    folder = folder.absolute() if folder == Path() else folder
    parts = folder.parent.parts if folder.name == "plateau" else folder.parts[-1:]
    return "/".join(parts[-2:])


def render(template: str, **content: Any) -> str:
    """Fill a template, with the style and the script that all pages share.

    Raises:
        ImportError: If Jinja2 is not installed; the message names the extra.
    """
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    shared = {"style": style, "script": script, "script_hash": _sha256(script)}
    return _environment().get_template(template).render(**shared, **content)


@cache
def _environment() -> Environment:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise ImportError(
            "the HTML report needs jinja2, which is not installed: "
            "pip install 'lightning-plateau[report]'"
        ) from error
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "quantity": quantity, "zip": zip, "brief": _brief}
    return environment


def _brief(value: float) -> str:
    return f"{value:.2g}" if np.isfinite(value) else "not finite"


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _head(state: Assessment, todo: Sequence[Advice]) -> Finding | None:
    """Return the finding that the verdict names: what is left, else what was mended."""
    if todo:
        return todo[0].finding
    return state.passed[0] if state.health is Health.TREATED else None


def _shown(state: Assessment) -> list[Shown]:
    causes = [Shown("cause", cause.finding, cause.symptoms) for cause in state.causes]
    symptoms = [Shown("symptom", f) for cause in state.causes for f in cause.symptoms]
    passed = [Shown("passed", finding) for finding in state.passed]
    return causes + symptoms + passed + [Shown("remark", remark) for remark in state.remarks]


def _tried(treatment: Treatment) -> Tried:
    made, outcome = treatment.intervention, treatment.outcome
    effect = change(outcome.before, outcome.after) if outcome is not None else ""
    brief = f"{made.remedy} at step {made.step}"
    what = _first_change(made.before, made.after)
    brief += f": {what}" if what else ""
    if outcome is not None and (gain := _first_change(outcome.before, outcome.after)):
        brief += f"; {treatment.verdict}, {gain}"
    return Tried(treatment, change(made.before, made.after), effect, brief)


def _withheld(journal: Journal) -> list[str]:
    """Return which remedies were withheld, and why; each once."""
    said = dict.fromkeys(note.text for note in journal.notes)
    return [text.removeprefix(WITHHELD) for text in said if text.startswith(WITHHELD)]


def _first_change(before: Mapping[str, Value], after: Mapping[str, Value]) -> str:
    for name, old in before.items():
        if name in after and after[name] != old:
            return change({name: old}, {name: after[name]})
    return ""


def _thinned(ends: Sequence[int], most: int = 40) -> Sequence[int]:
    return ends if len(ends) <= most else ()


def _experiments(history: History) -> list[tuple[str, str, str]]:
    """Return what experiments measured: name, meaning, values of the last time."""
    measured = [history[s] for s in history if s.tag.startswith(EXPERIMENT) and s in history]
    return [(name_of(series.signal), series.signal.help, _measured(series)) for series in measured]


def _other_outcomes(history: History) -> tuple[str, ...]:
    """Return what experiments said that no chart says already."""
    charted = {chart.said for chart in experiment_charts(history)}
    return tuple(text for text in outcomes(history) if text not in charted)


def _measured(series: Series) -> str:
    if not series.signal.axis:
        values = [number(float(v)) for v in series.values[-MOST_EXPERIMENT_VALUES:]]
    else:
        row = zip(series.labels, series.last_row, strict=True)
        values = [f"{label}: {number(float(value))}" for label, value in row]
    hidden = len(values) - MOST_EXPERIMENT_VALUES
    told = " · ".join(values[:MOST_EXPERIMENT_VALUES])
    return f"{told} · {hidden} more" if hidden > 0 else told


def page_data(drawn: Sequence[Panel], maps: Sequence[Any], steps: int) -> dict[str, Any]:
    """Return what the page's script reads values from: plain lists, four digits a number."""
    return {
        "steps": max(1, steps),
        "curves": [
            {
                "name": line.name if panel.key == "loss" else f"{_short_key(panel)} ({line.name})",
                "panel": panel.key,
                "steps": line.steps.tolist(),
                "values": _short(line.values),
                **({} if line.low is line.values else {"low": _short(line.low)}),
                **({} if line.high is line.values else {"high": _short(line.high)}),
            }
            for panel in drawn
            for line in panel.lines
        ],
        "scales": {
            panel.key: {"low": panel.scale.low, "high": panel.scale.high, "log": panel.log}
            for panel in drawn
        },
        "maps": {
            one.key: {
                "layers": one.layers,
                "edges": [round(float(edge), 6) for edge in one.edges],
                "rows": [_short(row) for row in one.cells],
            }
            for one in maps
        },
    }


def _short_key(panel: Panel) -> str:
    return panel.key.removeprefix("compared-")


def _short(values: Any) -> list[float | None]:
    """Return values with four digits; None for what JSON cannot hold."""
    return [float(f"{v:.4g}") if np.isfinite(v) else None for v in values]
