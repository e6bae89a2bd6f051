from __future__ import annotations

import pytest

from lightning_plateau.core.finding import Severity
from lightning_plateau.core.history import History
from lightning_plateau.rules.batch_norm_momentum_extreme import BatchNormMomentumExtreme
from tests.rules.normalized import profile, run, statistics, tape

RULE = BatchNormMomentumExtreme()
BAD = (2.6, 2.5, 2.7)
OFF = statistics(running=(0.0, 1.0), batch=(0.0, 100.0))
MOVED = statistics(running=(0.1, 2.0), batch=(0.0, 100.0))


@pytest.mark.parametrize(
    ("sick", "severity", "certain"),
    [
        (run(measured=OFF, facts=profile(momentum=0.0)), Severity.WARNING, True),
        (run(measured=MOVED, facts=profile(momentum=0.0), validation=BAD), Severity.WARNING, False),
        (run(facts=profile(momentum=1.0)), Severity.INFO, False),
        (run(facts=profile(momentum=0.99), validation=BAD), Severity.WARNING, False),
        (run(measured=MOVED, facts=profile(momentum=1e-3)), Severity.WARNING, False),
        (run(measured=OFF, facts=profile(momentum=None), validation=BAD), Severity.WARNING, False),
        (run(facts=profile(momentum=-0.1)), Severity.WARNING, True),
    ],
    ids=["0", "0, pretrained", "1", "0.99, and it shows", "0.001", "None", "negative"],
)
def test_extreme(sick: History, severity: Severity, certain: bool) -> None:
    found = RULE.check(sick)
    assert found is not None
    assert (found.severity, found.certain) == (severity, certain)
    assert found.where == "bn"


@pytest.mark.parametrize(
    "well",
    [
        run(measured=OFF, facts=profile(momentum=0.1)),
        run(facts=profile(momentum=0.0)),
        run(measured=MOVED, facts=profile(momentum=0.0)),
        run(facts=profile(momentum=1.0, batches_per_epoch=1)),
        run(facts=profile(momentum=1e-3)),
        run(measured=MOVED, facts=profile(momentum=1e-3, planned_steps=100_000)),
        run(measured=OFF, facts=profile(momentum=None)),
        run(tape(training=False), measured=OFF, facts=profile(momentum=0.0)),
        run(),
        History(),
    ],
    ids=[
        "ordinary", "0, but it fits", "0, pretrained", "one batch an epoch", "slow, but it fits",
        "slow in a long run", "None", "frozen", "functional", "empty",
    ],
)  # fmt: skip
def test_silent(well: History) -> None:
    assert RULE.check(well) is None
