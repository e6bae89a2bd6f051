"""Reports for a terminal: pure functions from findings, journal and history to plain text.

Colour is put on when the text is shown (``lightning_plateau.report.console``), so the words are the
same with and without it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from lightning_plateau.core.finding import Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.journal import Journal
from lightning_plateau.report.assessment import Assessment, Cause, Health, Treatment, assess
from lightning_plateau.report.phrases import change, measured, mending, one_line, wrapped
from lightning_plateau.report.verdict import losses, said

StrPath = str | os.PathLike[str]

__all__ = ["explain_finding", "full_report", "one_line", "summary"]

MOST_LINES = 20
MOST_CAUSES = 3
MOST_TREATMENTS = 3
WIDTH = 100
_LABEL = 10


def heading(finding: Finding, width: int, number_: str = "") -> str:
    """Return code and name, and to the right how certain and since which step."""
    left = f"{number_}{finding.code} {finding.name}"
    right = f"{finding.certainty} · step {finding.step}"
    return f"{left}{' ' * max(2, width - len(left) - len(right))}{right}"


def explain_finding(
    finding: Finding, symptoms: Iterable[Finding] = (), *, width: int = WIDTH
) -> str:
    """Write a finding in full, in the manner of a compiler's message.

    Args:
        finding: The finding.
        symptoms: Findings that it accounts for.
        width: Most characters of a line.

    Example:
        >>> from lightning_plateau.core.finding import Severity
        >>> fault = Finding(
        ...     "LP701",
        ...     "softmax-before-cross-entropy",
        ...     0,
        ...     Severity.ERROR,
        ...     1.0,
        ...     "rows that sum to 1 reached cross_entropy",
        ...     fix="return the logits",
        ... )
        >>> print(explain_finding(fault, width=60))
        LP701 softmax-before-cross-entropy          certain · step 0
          rows that sum to 1 reached cross_entropy
          fix      return the logits
          check    lightning-plateau explain LP701
    """
    lines = [heading(finding, width), *wrapped(finding.message, width, indent="  ")]
    fields = [
        ("where", finding.where),
        ("line", finding.line),
        *((("seen", measured(evidence))) for evidence in finding.evidence),
        ("why", finding.why),
        ("fix", finding.fix),
        ("remedy", ", ".join(finding.remedies)),
        ("explains", ", ".join(f"{f.code} {f.name}" for f in symptoms)),
        ("check", f"lightning-plateau explain {finding.code}"),
    ]
    for label, text in fields:
        lines += wrapped(text, width, indent="  ", label=f"{label:<9}")
    return "\n".join(lines)


def summary(
    findings: Iterable[Finding],
    journal: Journal,
    history: History,
    artefacts: Sequence[StrPath] = (),
    *,
    width: int = WIDTH,
) -> str:
    """Write a run's report in at most 20 lines, the verdict first.

    Args:
        findings: What the diagnosis says of the run now, causes first.
        journal: What happened in the run.
        history: What was recorded of it.
        artefacts: Files that were written, or the folder that holds them.
        width: Most characters of a line.

    Example:
        >>> from lightning_plateau.testing import history
        >>> print(summary((), Journal(), history(loss=[2.0, 1.0])))
        lightning-plateau: healthy. No fault in 2 steps; loss 2 → 1.
    """
    state = assess(findings, journal, history)
    lines: list[str] = []
    for most in (3, 2, 1):
        lines = _summary_lines(state, history, artefacts, width, most)
        if len(lines) <= MOST_LINES:
            break
    return "\n".join(lines)


def full_report(
    findings: Iterable[Finding], journal: Journal, history: History, *, width: int = WIDTH
) -> str:
    """Write everything: the verdict, every finding in full, and the journal line by line."""
    state = assess(findings, journal, history)
    blocks = ["\n".join(_verdict(state, history, width))]
    blocks += [explain_finding(c.finding, c.symptoms, width=width) for c in state.causes]
    blocks += [explain_finding(s, width=width) for c in state.causes for s in c.symptoms]
    blocks += [explain_finding(remark, width=width) for remark in state.remarks]
    events = [line for e in journal for line in wrapped(one_line(e.record), width, indent="  ")]
    if events:
        blocks.append("\n".join(["journal", *events]))
    return "\n\n".join(blocks)


def _summary_lines(
    state: Assessment, history: History, artefacts: Sequence[StrPath], width: int, most: int
) -> list[str]:
    lines = _verdict(state, history, width)
    for place, cause in enumerate(state.causes[:MOST_CAUSES], start=1):
        lines += _cause(cause, f"{place}. ", width, most)
    paths = [Path(artefact) for artefact in artefacts]
    folder = _folder(paths)
    hidden = len(state.causes) - MOST_CAUSES
    if hidden > 0:
        lines.append(f"+ {hidden} more: lightning-plateau report {folder or 'RUN'} --all")
    lines += _found_before(state, width)
    lines += _tried(state.treatments, width, min(2, most))
    lines += _next_time(state, width)
    if state.remarks:
        names = ", ".join(f"{f.code} {f.name}" for f in state.remarks)
        lines += wrapped(names, width, label=_label("remarks"), most=1)
    names = ", ".join(path.name for path in paths if path != folder)
    where = f"{names} in {folder}" if names else str(folder or "")
    return lines + wrapped(where, width, label=_label("files"), most=1)


def _label(text: str) -> str:
    return f"{text:<{_LABEL}}"


def _folder(paths: Sequence[Path]) -> Path | None:
    if not paths:
        return None
    return paths[0].parent if paths[0].suffix else paths[0]


def _verdict(state: Assessment, history: History, width: int) -> list[str]:
    moved = losses(state, history)
    text = f"lightning-plateau: {state.health}. {said(state, history)}"
    return wrapped(f"{text}{'; ' if moved else ''}{moved}.", width, most=2)


def _cause(cause: Cause, place: str, width: int, most: int) -> list[str]:
    finding, indent = cause.finding, " " * len(place)
    lines = [heading(finding, width, place)]
    lines += wrapped(finding.message, width, indent=indent, most=most)
    lines += wrapped(mending(finding), width, indent=indent, label="do       ", most=most)
    symptoms = ", ".join(f"{f.code} {f.name}" for f in cause.symptoms)
    lines += wrapped(symptoms, width, indent=indent, label="explains ", most=1)
    return lines


def _found_before(state: Assessment, width: int) -> list[str]:
    if not state.passed:
        return []
    names = ", ".join(f"{f.code} {f.name} (step {f.step})" for f in state.passed)
    return wrapped(names, width, label=_label("had"), most=1)


def _tried(treatments: Sequence[Treatment], width: int, most: int) -> list[str]:
    lines: list[str] = []
    for treatment in treatments[-MOST_TREATMENTS:]:
        label = _label("" if lines else "tried")
        lines += wrapped(_treatment(treatment), width, label=label, most=most)
    return lines


def _treatment(treatment: Treatment) -> str:
    done, outcome = treatment.intervention, treatment.outcome
    what = change(done.before, done.after)
    text = f"{done.remedy} for {done.code} at step {done.step}"
    text += f" … {treatment.last_step} ({treatment.times} times)" if treatment.times > 1 else ""
    text += f": {what}" if what else ""
    effect = change(outcome.before, outcome.after) if outcome else ""
    return f"{text}; {treatment.verdict}" + (f": {effect}" if effect else "")


def _next_time(state: Assessment, width: int) -> list[str]:
    """Say what to change, so that the next run needs no treatment."""
    if state.health is Health.HEALTHY:
        return []
    treated = {t.intervention.code for t in state.treatments if t.helped}
    lines: list[str] = []
    for finding in state.passed:
        if finding.fix and finding.code in treated:
            label = _label("" if lines else "do")
            lines += wrapped(f"for {finding.code}: {mending(finding)}", width, label=label, most=1)
    return lines[:2]
