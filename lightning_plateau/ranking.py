"""The order of findings: the most probable cause first, and what it accounts for below it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from lightning_plateau.core.finding import Finding, Severity

_SEVERITIES = {Severity.INFO: 0, Severity.WARNING: 1, Severity.ERROR: 2}


def rank(findings: Iterable[Finding], symptoms: Iterable[str]) -> tuple[Finding, ...]:
    """Return findings with the most probable cause first and explained ones last.

    Args:
        findings: At most one of each code; ``explained_by`` is set anew, to the code of the finding
            at the root of it all.
        symptoms: Codes that stand for symptoms.
    """
    findings, seen_from_outside = tuple(findings), frozenset(symptoms)
    present = {finding.code for finding in findings}

    def strength(finding: Finding) -> tuple[bool, int, bool, int, float]:
        return (
            finding.severity is not Severity.INFO,
            int(finding.certain) * _SEVERITIES[finding.severity],
            finding.code not in seen_from_outside,
            int(finding.certainty != "possible") * _SEVERITIES[finding.severity],
            finding.confidence + 0.05 * bool(present.intersection(finding.explains)),
        )

    ordered = sorted(findings, key=strength, reverse=True)
    origins = _origins(ordered, seen_from_outside)
    heads = [replace(f, explained_by="") for f in ordered if f.code not in origins]
    folded = [replace(f, explained_by=_root(origins, f.code)) for f in ordered if f.code in origins]
    return (*heads, *folded)


def _origins(ordered: Sequence[Finding], symptoms: frozenset[str]) -> dict[str, str]:
    """Return by code the finding that accounts for it, without circles.

    A symptom folds under any cause, were it less certain: that the loss is NaN is certain, but why
    it is comes first. A cause folds under what is more probable than itself, and under what is
    likely and lies before it: that units are dead shows more plainly than why they died.
    """
    origins: dict[str, str] = {}
    for position, finding in enumerate(ordered):
        candidates = list(ordered[:position])
        candidates += [f for f in ordered[position + 1 :] if _precedes(f, finding, symptoms)]
        for candidate in candidates:
            circular = _root(origins, candidate.code) == finding.code
            if finding.code in candidate.explains and not circular:
                origins[finding.code] = candidate.code
                break
    return origins


def _precedes(cause: Finding, finding: Finding, symptoms: frozenset[str]) -> bool:
    """Whether ``cause`` may account for ``finding``, though it is the less probable of the two."""
    if cause.code in symptoms or cause.severity is Severity.INFO:
        return False
    if finding.code in symptoms:
        return True
    mutual = cause.code in finding.explains
    return cause.certainty != "possible" and not finding.certain and not mutual


def _root(origins: Mapping[str, str], code: str) -> str:
    while code in origins:
        code = origins[code]
    return code
