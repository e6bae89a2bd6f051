from __future__ import annotations

import sys
from subprocess import run

import pytest

from lightning_plateau.remedies import by_name
from lightning_plateau.treatment.policy import Policy

CATALOGUE = by_name()


def test_presets() -> None:
    assert Policy.observe().permitted(CATALOGUE) == {}
    assert set(Policy.safe().permitted(CATALOGUE)) == {
        "quarantine-batch",
        "restore-batch-norm",
        "skip-step",
    }
    assert set(Policy.auto().permitted(CATALOGUE)) == set(CATALOGUE)
    assert Policy.named("auto") == Policy.auto()
    assert Policy.of("safe", dry_run=True).dry_run
    assert Policy.of(Policy.auto()) == Policy.auto()


def test_naming_a_remedy_permits_it() -> None:
    policy = Policy(remedies=["clip-gradients"])  # type: ignore[arg-type]
    assert policy.remedies == ("clip-gradients",)
    assert set(policy.permitted(CATALOGUE)) == {"clip-gradients"}


def test_what_stands_guard_is_in_force_from_the_start() -> None:
    assert [r.name for r in Policy.safe().from_the_start(CATALOGUE)] == ["skip-step"]
    assert [r.name for r in Policy.auto().from_the_start(CATALOGUE)] == ["skip-step"]
    assert Policy.observe().from_the_start(CATALOGUE) == ()
    assert Policy.of("auto", dry_run=True).from_the_start(CATALOGUE) == ()
    assert Policy(remedies=("roll-back",)).from_the_start(CATALOGUE) == ()


def test_errors_say_what_was_expected_and_received() -> None:
    with pytest.raises(
        ValueError, match="must be 'observe', 'safe', 'auto' or a Policy, but is 'x'"
    ):
        Policy.named("x")
    with pytest.raises(ValueError, match=r"remedies must be among augment-batch, .* has 'magic'"):
        Policy(remedies=("magic",)).permitted(CATALOGUE)
    with pytest.raises(ValueError, match="safety must be 'none', 'safe' or 'unsafe', but is 'all'"):
        Policy(safety="all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="probation_steps must be at least 1, but is 0"):
        Policy(probation_steps=0)
    with pytest.raises(ValueError, match="budget must be at least 0, but is -1"):
        Policy(budget=-1)


def test_a_configuration_file_can_make_one() -> None:
    jsonargparse = pytest.importorskip("jsonargparse")
    parser = jsonargparse.ArgumentParser()
    parser.add_class_arguments(Policy, "policy")
    parsed = parser.parse_args(["--policy.remedies=[skip-step]", "--policy.budget=2"])
    assert parser.instantiate(parsed).policy == Policy(remedies=("skip-step",), budget=2)


def test_choosing_needs_no_torch() -> None:
    code = "import sys, lightning_plateau.treatment.choice; sys.exit('torch' in sys.modules)"
    assert run([sys.executable, "-c", code], check=False).returncode == 0
