from __future__ import annotations

from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.profile import OptimizerFact, ParameterFact, Profile
from lightning_plateau.report.coverage import coverage, facts
from lightning_plateau.rules import catalogue
from lightning_plateau.testing import history
from tests.report.runs import journal, recorded


def test_signals_rules_and_obstacles_are_told():
    obstacle = Finding("LP903", "unsupported-here", 0, Severity.INFO, 1.0, "compiled: not taped")
    seen = coverage(recorded(), journal(obstacle, obstacle), catalogue())
    assert ("loss/train", 400) in [(tag, rows) for tag, _, rows in seen.signals]
    assert seen.asked + len(seen.unasked) == len(catalogue())
    assert seen.asked
    assert seen.obstacles == ("compiled: not taped",)


def test_the_run_is_described_by_what_is_known_of_it():
    profile = Profile(
        parameters=(ParameterFact("w", "", (3, 2)),), optimizers=(OptimizerFact("Adam"),)
    )
    told = dict(facts(history(loss=[1.0], profile=profile)))
    assert told["weights"] == "6 trained, 0 frozen"
    assert told["optimizers"] == "Adam"
    assert told["strategy"] == "SingleDeviceStrategy, 1 process"
    assert "gradient clipping" not in told
