"""What a rule or a remedy says of itself: its docstring is its documentation."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from inspect import getdoc
from typing import TypedDict

from lightning_plateau.core.remedy import Remedy
from lightning_plateau.core.rule import Rule
from lightning_plateau.report.phrases import wrapped


class RuleFacts(TypedDict):
    """One rule in plain types."""

    code: str
    name: str
    kind: str
    severity: str
    summary: str
    explains: list[str]
    remedies: list[str]
    reads: list[str]


class RemedyFacts(TypedDict):
    """One remedy in plain types."""

    name: str
    safety: str
    summary: str
    standing: bool
    answers: list[str]


def remedy_facts(remedy: type[Remedy], rules: Iterable[type[Rule]]) -> RemedyFacts:
    """Return what there is to know of a remedy, in plain types."""
    return RemedyFacts(
        name=remedy.name,
        safety=str(remedy.safety),
        summary=(getdoc(remedy) or "").partition("\n")[0],
        standing=remedy.standing,
        answers=[rule.code for rule in rules if remedy.name in rule.remedies],
    )


def facts(rule: type[Rule]) -> RuleFacts:
    """Return what there is to know of a rule, in plain types."""
    return RuleFacts(
        code=rule.code,
        name=rule.name,
        kind="symptom" if rule.symptom else "cause",
        severity=str(rule.severity),
        summary=(getdoc(rule) or "").partition("\n")[0],
        explains=list(rule.explains),
        remedies=list(rule.remedies),
        reads=[signal.tag for signal in rule.requires],
    )


def find_rule(wanted: str, rules: Iterable[type[Rule]], others: Iterable[str] = ()) -> type[Rule]:
    """Return the rule of that code or name, in any case.

    Args:
        wanted: Code or name.
        rules: Rules to look among.
        others: Further names that the user may have meant.

    Raises:
        LookupError: If there is none; the message names the nearest.
    """
    rules = tuple(rules)
    key = wanted.strip().lower()
    for rule in rules:
        if key in (rule.code.lower(), rule.name):
            return rule
    known = [name for rule in rules for name in (rule.code.lower(), rule.name)] + list(others)
    near = difflib.get_close_matches(key, known, n=3)
    hint = f"did you mean {', '.join(n.upper() if n.startswith('lp') else n for n in near)}?"
    raise LookupError(
        f"expected the code or name of a rule, or the name of a remedy, but received {wanted!r}; "
        + (
            hint
            if near
            else "lightning-plateau rules lists them all, lightning-plateau remedies too"
        )
    )


def explain_rule(rule: type[Rule], *, width: int = 100) -> str:
    """Write the documentation of a rule: facts first, then the sections of its docstring."""
    known = facts(rule)
    lines = [f"{rule.code} {rule.name}", ""]
    rows = [
        ("kind", f"{known['kind']}, severity {known['severity']}"),
        ("reads", ", ".join(known["reads"])),
        ("explains", ", ".join(known["explains"])),
        ("remedy", ", ".join(known["remedies"])),
    ]
    for label, text in rows:
        lines += wrapped(text, width, label=f"{label:<9}")
    return "\n".join([*lines, "", getdoc(rule) or ""]).rstrip()


def explain_remedy(remedy: type[Remedy], rules: Iterable[type[Rule]], *, width: int = 100) -> str:
    """Write the documentation of a remedy: facts first, then the sections of its docstring."""
    known = remedy_facts(remedy, rules)
    lines = [remedy.name, ""]
    for label, text in (("safety", known["safety"]), ("answers", ", ".join(known["answers"]))):
        lines += wrapped(text, width, label=f"{label:<9}")
    return "\n".join([*lines, "", getdoc(remedy) or ""]).rstrip()


def remedy_table(remedies: Iterable[type[Remedy]], *, width: int = 100) -> str:
    """Write one line for each remedy: safety, name, summary."""
    rows = [remedy_facts(remedy, ()) for remedy in remedies]
    broad = max((len(row["name"]) for row in rows), default=0)
    lines = []
    for row in rows:
        label = f"{row['safety']:<7} {row['name']:<{broad}}  "
        lines += wrapped(row["summary"], max(width, len(label) + 20), label=label, most=1)
    return "\n".join(lines)


def rule_table(rules: Iterable[type[Rule]], *, width: int = 100) -> str:
    """Write one line for each rule: code, kind, name, summary."""
    rows = [facts(rule) for rule in rules]
    broad = max((len(row["name"]) for row in rows), default=0)
    lines = []
    for row in rows:
        label = f"{row['code']} {row['name']:<{broad}}  {row['kind']:<7}  "
        lines += wrapped(row["summary"], max(width, len(label) + 20), label=label, most=1)
    return "\n".join(lines)
