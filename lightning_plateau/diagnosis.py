"""Diagnosis: History in, findings out, the most probable cause first, symptoms last."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

import numpy as np

from lightning_plateau.core.catalogue import defined_in
from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.lines import line_of
from lightning_plateau.core.rule import Rule
from lightning_plateau.ranking import rank
from lightning_plateau.rules import catalogue

ENTRY_POINT_GROUP = "lightning_plateau.rules"
FEW = 20
"""Steps since a treatment that are too few to find anything in."""
FAINT = 0.5
"""Share of the confidence of the most probable cause below which another is not worth a word."""


def all_rules() -> tuple[Rule, ...]:
    """Return every rule with its standard thresholds: our own and those of installed packages.

    Packages offer rules through the entry-point group ``lightning_plateau.rules``; an entry point
    names a rule class, or a module of rules. One that cannot be loaded is warned of and left out.
    """
    offered = [rule for point in entry_points(group=ENTRY_POINT_GROUP) for rule in _loaded(point)]
    return tuple(rule() for rule in (*catalogue(), *offered))


def _loaded(point: EntryPoint) -> tuple[type[Rule], ...]:
    try:
        found = point.load()
    except Exception as error:  # noqa: BLE001 - somebody else's package must not stop a training
        kind = type(error).__name__
        warnings.warn(f"rules of {point.value} are left out: {kind}: {error}", stacklevel=2)
        return ()
    return defined_in(found, Rule) if isinstance(found, ModuleType) else (found,)


def select_rules(
    rules: Sequence[Rule] | None = None,
    select: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
) -> tuple[Rule, ...]:
    """Return the rules that the user wants.

    Args:
        rules: Rule objects to use in place of all.
        select: Codes (``"LP301"``), beginnings of codes (``"LP3"``) or names; None keeps all.
        ignore: The same, to leave out.

    Raises:
        ValueError: If an entry of ``select`` or ``ignore`` is no code, beginning or name of a rule.

    Example:
        >>> [rule.code for rule in select_rules(select=["flat-loss"])]
        ['LP401']
    """
    available = all_rules() if rules is None else tuple(rules)
    kept = (
        _matching(available, select, "select")
        if select is not None
        else {rule.code for rule in available}
    )
    dropped = _matching(available, ignore, "ignore") if ignore is not None else set()
    return tuple(rule for rule in available if rule.code in kept - dropped)


def _matching(rules: Iterable[Rule], entries: Sequence[str], argument: str) -> set[str]:
    known = {rule.code: rule.name for rule in rules}
    matched: set[str] = set()
    for entry in entries:
        found = {
            code for code, name in known.items() if code.startswith(entry.upper()) or name == entry
        }
        if not found or not entry:
            near = difflib.get_close_matches(entry, [*known, *known.values()], n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ValueError(
                f"{argument} expects codes such as 'LP301', beginnings such as 'LP3' or names such "
                f"as 'flat-loss', but received {entry!r}.{hint} See `lightning-plateau rules`."
            )
        matched |= found
    return matched


def diagnose(history: History, rules: Sequence[Rule] | None = None) -> tuple[Finding, ...]:
    """Return what is wrong with a training, the most probable cause first.

    A cause is spoken of only while the training shows a symptom that is more than a remark, unless
    it is certain, or a fault in itself (overfitting). What is plain to see in the code is told as a
    remark then, where the rule says so. A cause that is not half as probable as another is left
    out. Symptoms that a reported cause accounts for follow at the end, with ``explained_by`` set.

    Args:
        history: What was recorded.
        rules: The rules to ask; by default all.

    Example:
        >>> from lightning_plateau.testing import history
        >>> diagnose(history(loss=[0.99**step for step in range(300)]))
        ()
    """
    asked = all_rules() if rules is None else tuple(rules)
    # Values near the largest float may overflow on the way: infinity is an answer, too.
    with np.errstate(all="ignore"):
        found = [finding for rule in asked if (finding := _ask(rule, history)) is not None]
    by_code = {rule.code: rule for rule in asked}
    symptoms = {rule.code for rule in asked if rule.symptom}
    failing = any(f.code in symptoms and f.severity is not Severity.INFO for f in found)
    if not failing:
        found = [told for f in found if (told := _while_well(by_code.get(f.code), f, history))]
    last = {rule.code for rule in asked if rule.last_resort}
    causes = [f for f in found if f.code not in symptoms and f.severity is not Severity.INFO]
    if any(f.code not in last for f in causes):
        found = [f for f in found if f.code not in last]
    best = max((f.confidence for f in causes), default=0.0)
    faint = {f.code for f in causes if f.confidence < FAINT * best}
    return rank([f for f in found if f.code not in faint], symptoms)


def _while_well(rule: Rule | None, finding: Finding, history: History) -> Finding | None:
    """Return what is told of a finding while no symptom shows; None for nothing."""
    if rule is None or rule.symptom or not rule.needs_failure or finding.certain:
        return finding
    if rule.stands(finding, history):
        return finding
    return None if rule.remark == "never" else replace(finding, severity=Severity.INFO)


def diagnose_since(
    history: History, step: int, rules: Sequence[Rule] | None = None
) -> tuple[Finding, ...]:
    """Return what is wrong with a training that was treated at ``step``.

    What was before the treatment says nothing of the training now, and what came after it knows
    nothing of how far the training had come: a loss at its floor looks flat from there. So a
    finding must show in the history since, and in the whole. Where a run is over a few steps after
    its last treatment, those say nothing, and the whole counts.

    Args:
        history: What was recorded, from the beginning.
        step: Optimizer step of the last treatment; 0 for none.
        rules: The rules to ask; by default all.
    """
    asked = all_rules() if rules is None else rules
    untold = history.finished and history.step - step < FEW
    if step == 0 or untold:
        return diagnose(history, asked)
    # The history since is the shorter one: where nothing shows in it, the whole need not be asked.
    recent = diagnose(history.since(step), asked)
    if not recent:
        return ()
    codes = {finding.code for finding in diagnose(history, asked)}
    still = [finding for finding in recent if finding.code in codes]
    return rank(still, {rule.code for rule in asked if rule.symptom})


def _ask(rule: Rule, history: History) -> Finding | None:
    try:
        found = rule.check(history)
    except Exception as error:  # noqa: BLE001 - a rule that fails becomes a finding
        return Finding(
            "LP903",
            "unsupported-here",
            history.step,
            Severity.INFO,
            1.0,
            f"rule {rule.code} failed on this history: {type(error).__name__}: {error}",
            why="this fault was not looked for",
            where=rule.code,
        )
    if found is None:
        return None
    return replace(found, line=line_of(history, found.where, rule.method))
