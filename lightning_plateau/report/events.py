"""The events of a run as a timeline: findings, and remedies from their start to their verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lightning_plateau.core.finding import Severity
from lightning_plateau.core.journal import Journal
from lightning_plateau.report.assessment import Treatment, treatments
from lightning_plateau.report.phrases import change


@dataclass(frozen=True, slots=True)
class Event:
    """One mark on the timeline.

    Attributes:
        step: Where it begins.
        kind: ``"finding"``, or the verdict on a treatment.
        text: What to write beside it.
        end: Step at which a treatment was judged; None for what has no end.
        code: Code of the finding, or of the one that the remedy answers.
        label: The text in a few words.
    """

    step: int
    kind: str
    text: str
    end: int | None = None
    code: str = ""
    label: str = ""


def events(journal: Journal, most: int) -> tuple[Event, ...]:
    """Return the events in order of their steps: causes once each, and every treatment.

    Equal remedies that follow one another are one event from the first to the last. Where there are
    more than ``most``, the last of those returned says how many were left out.

    Example:
        >>> events(Journal(), most=5)
        ()
    """
    found = [*_findings(journal), *map(_treatment, treatments(journal))]
    found.sort(key=lambda event: event.step)
    if len(found) <= most:
        return tuple(found)
    cut = found[most - 1]
    more = f"  (+ {len(found) - most} later events)"
    rest = replace(cut, text=cut.text + more, label=cut.label + more)
    return (*found[: most - 1], rest)


def _findings(journal: Journal) -> list[Event]:
    first: dict[str, Event] = {}
    for finding in journal.findings:
        if finding.severity is not Severity.INFO and not finding.explained_by:
            label = f"{finding.code} {finding.name}"
            text = f"{label} ({finding.certainty})"
            first.setdefault(
                finding.code, Event(finding.step, "finding", text, None, finding.code, label)
            )
    return list(first.values())


def _treatment(treatment: Treatment) -> Event:
    made = treatment.intervention
    what = change(made.before, made.after)
    times = f" × {treatment.times}" if treatment.times > 1 else ""
    text = f"{made.remedy}{times}{f' ({what})' if what else ''}: {treatment.verdict}"
    label = f"{made.remedy}{times}: {treatment.verdict}"
    return Event(made.step, treatment.verdict, text, treatment.end, made.code, label)
