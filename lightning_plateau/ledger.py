"""The ledger: which findings stand, over the whole of a run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from lightning_plateau.core.finding import Finding
from lightning_plateau.core.plain import from_plain, to_plain
from lightning_plateau.ranking import rank

SEVERAL = frozenset({"LP903"})
"""Codes under which each failure of the library is a finding of its own."""
MOST = 20
"""Such failures that are kept; the first tell more than the hundredth."""


class Ledger:
    """Keeps what one diagnosis after another says, and answers with one ranked list.

    A finding stands while the latest diagnosis says so. One that is certain, or that something was
    done about, stands for the rest of the run; another that is gone was a passing state (a plateau
    that resolved) and is dropped. What is only possible must be found twice in a row before it is
    told, unless the run is over: early in a run many things are. There is one finding of each code,
    but for what could not be watched: each such failure is told once.

    Args:
        symptoms: Codes that stand for symptoms.

    Example:
        >>> from lightning_plateau.core.finding import Severity
        >>> ledger = Ledger(frozenset({"LP401"}))
        >>> flat = Finding("LP401", "flat-loss", 100, Severity.ERROR, 0.8, "the loss stays at 2.3")
        >>> len(ledger.update([flat])), len(ledger.update([flat])), len(ledger.findings)
        (1, 0, 1)
        >>> ledger.update([]), ledger.findings
        ((), ())
        >>> small = Finding("LP407", "learning-rate-too-low", 50, Severity.ERROR, 0.5, "…")
        >>> len(ledger.update([small])), len(ledger.update([small]))
        (0, 1)
    """

    def __init__(self, symptoms: frozenset[str]) -> None:
        self._symptoms = symptoms
        self._standing: dict[str, Finding] = {}
        self._announced: set[str] = set()
        self._doubtful: set[str] = set()

    def update(
        self,
        findings: Iterable[Finding],
        treated: frozenset[str] = frozenset(),
        *,
        finished: bool = False,
    ) -> tuple[Finding, ...]:
        """Take the latest diagnosis, whole, and return the findings with a code new to the run."""
        findings = self._believed(tuple(findings), finished)
        latest = {finding.code for finding in findings}
        self._standing = {
            key: finding
            for key, finding in self._standing.items()
            if finding.code in latest or finding.certain or finding.code in treated
        }
        return self.add(findings)

    def add(self, findings: Iterable[Finding]) -> tuple[Finding, ...]:
        """Take findings beside those that stand, and return the ones with a code new to the run."""
        new = []
        for finding in findings:
            key = _key(finding)
            if self._overflows(key):
                continue
            earlier = self._standing.get(key)
            step = finding.step if earlier is None else min(earlier.step, finding.step)
            self._standing[key] = replace(finding, step=step)
            if key not in self._announced:
                self._announced.add(key)
                new.append(finding)
        return tuple(new)

    def _believed(self, findings: tuple[Finding, ...], finished: bool) -> tuple[Finding, ...]:
        """Return what may be told: without what is only possible and seen for the first time.

        What that would explain waits with it: a symptom is told with its cause.
        """
        doubtful = {finding.code for finding in findings if finding.certainty == "possible"}
        new = set() if finished else doubtful - self._doubtful - self._announced
        self._doubtful = doubtful
        return tuple(one for one in findings if not {one.code, one.explained_by} & new)

    def _overflows(self, key: str) -> bool:
        kept = sum(finding.code in SEVERAL for finding in self._standing.values())
        return key not in self._standing and kept >= MOST and key[:5] in SEVERAL

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings that stand, the most probable cause first."""
        return rank(self._standing.values(), self._symptoms)

    def clear(self) -> None:
        """Forget everything: another run begins."""
        self._standing.clear()
        self._announced.clear()
        self._doubtful.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return the ledger in plain types."""
        return {
            "standing": json.dumps(to_plain(tuple(self._standing.values()))),
            "announced": sorted(self._announced),
            "doubtful": sorted(self._doubtful),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the ledger by ``state``."""
        found = from_plain(tuple[Finding, ...], json.loads(state["standing"]))
        self._standing = {_key(finding): finding for finding in found}
        self._announced = set(state["announced"])
        self._doubtful = set(state.get("doubtful", ()))


def _key(finding: Finding) -> str:
    """Return what makes a finding the same as an earlier one: its code, or what it says failed.

    Numbers and addresses in the message count for nothing: they change from time to time.
    """
    if finding.code not in SEVERAL:
        return finding.code
    return f"{finding.code}: " + re.sub(r"0x[0-9a-f]+|\d+", "#", finding.message)
