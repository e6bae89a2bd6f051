"""start-over: the verdict on a training whose fault came back whatever was done."""

from __future__ import annotations

from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.journal import Journal
from lightning_plateau.core.remedy import Verdict


def start_over(finding: Finding, journal: Journal, step: int) -> Finding | None:
    """Return the verdict on a training whose fault came back; None where nothing was kept in vain.

    Args:
        finding: What came back.
        journal: What was done.
        step: Optimizer step.
    """
    kept = [o for o in journal.outcomes if o.code == finding.code and o.verdict is Verdict.KEPT]
    if not kept:
        return None
    made = {one.number: one.step for one in journal.interventions}
    tried = ", ".join(f"{o.remedy} at step {made.get(o.number, o.step)}" for o in kept)
    return Finding(
        "LP910",
        "start-over",
        step,
        Severity.WARNING,
        1.0,
        f"{finding.code} {finding.name} came back after each of {len(kept)} remedies: {tried}",
        why="more of the same will not help",
        fix="look at what happens in the training at these steps, before it is begun again",
        explains=(finding.code,),
    )
