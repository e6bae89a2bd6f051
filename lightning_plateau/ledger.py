"""The ledger: which findings stand, over the whole of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from lightning_plateau.core.finding import Finding
from lightning_plateau.core.plain import from_plain, to_plain
from lightning_plateau.diagnosis import rank


class Ledger:
    """Keeps what one diagnosis after another says, and answers with one ranked list.

    A finding stands while the latest diagnosis says so. One that is certain, or that something was
    done about, stands for the rest of the run; another that is gone was a passing state (a plateau
    that resolved) and is dropped.

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
    """

    def __init__(self, symptoms: frozenset[str]) -> None:
        self._symptoms = symptoms
        self._standing: dict[str, Finding] = {}
        self._announced: set[str] = set()

    def update(
        self, findings: Iterable[Finding], treated: frozenset[str] = frozenset()
    ) -> tuple[Finding, ...]:
        """Take the latest diagnosis, whole, and return the findings with a code new to the run."""
        findings = tuple(findings)
        latest = {finding.code for finding in findings}
        self._standing = {
            code: finding
            for code, finding in self._standing.items()
            if code in latest or finding.certain or code in treated
        }
        return self.add(findings)

    def add(self, findings: Iterable[Finding]) -> tuple[Finding, ...]:
        """Take findings beside those that stand, and return the ones with a code new to the run."""
        new = []
        for finding in findings:
            earlier = self._standing.get(finding.code)
            step = finding.step if earlier is None else min(earlier.step, finding.step)
            self._standing[finding.code] = replace(finding, step=step)
            if finding.code not in self._announced:
                self._announced.add(finding.code)
                new.append(finding)
        return tuple(new)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings that stand, the most probable cause first."""
        return rank(self._standing.values(), self._symptoms)

    def clear(self) -> None:
        """Forget everything: another run begins."""
        self._standing.clear()
        self._announced.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return the ledger in plain types."""
        return {
            "standing": json.dumps(to_plain(tuple(self._standing.values()))),
            "announced": sorted(self._announced),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the ledger by ``state``."""
        found = from_plain(tuple[Finding, ...], json.loads(state["standing"]))
        self._standing = {finding.code: finding for finding in found}
        self._announced = set(state["announced"])
