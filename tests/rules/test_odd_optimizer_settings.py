from __future__ import annotations

from collections.abc import Mapping

import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.profile import GroupFact, OptimizerFact, Profile, Value
from lightning_plateau.rules.odd_optimizer_settings import OddOptimizerSettings
from lightning_plateau.testing import history

RULE = OddOptimizerSettings()


def run(kind: str, settings: Mapping[str, Value], batches: int | None = 30) -> History:
    group = GroupFact(("fc.weight",), settings)
    return history(
        profile=Profile(optimizers=(OptimizerFact(kind, (group,)),), batches_per_epoch=batches)
    )


@pytest.mark.parametrize(
    ("kind", "settings", "named"),
    [
        ("Adam", {"eps": 1.0}, "eps"),
        ("AdamW", {"eps": 0.01}, "eps"),
        ("Adam", {"betas_0": 0.9999, "betas_1": 0.99999}, "beta1"),
        ("Adam", {"betas_0": 0.999, "betas_1": 0.9}, "beta1"),
        ("Adam", {"betas_0": 0.9, "betas_1": 0.1}, "beta2"),
        ("Adam", {"betas_0": 0.9, "betas_1": 0.99999}, "beta2"),
        ("SGD", {"momentum": 0.999}, "momentum"),
        ("SGD", {"momentum": 1.0}, "momentum"),
        ("SGD", {"momentum": 0.9, "dampening": 1.0}, "dampening"),
        ("SGD", {"maximize": True}, "maximize"),
        ("Rprop", {}, "batches"),
    ],
)
def test_odd(kind: str, settings: dict[str, Value], named: str) -> None:
    found = RULE.check(run(kind, settings))
    assert found is not None
    assert not found.certain
    assert found.evidence[0].quantity.startswith(named)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("Adam", {"lr": 1e-3, "betas_0": 0.9, "betas_1": 0.999, "eps": 1e-8, "maximize": False}),
        ("Adam", {"betas_0": 0.5, "betas_1": 0.999}),
        ("Adam", {"betas_0": 0.0, "betas_1": 0.99}),
        ("AdamW", {"betas_0": 0.9, "betas_1": 0.95, "eps": 1e-4}),
        ("RMSprop", {"alpha": 0.99, "eps": 1.0, "momentum": 0.9}),
        ("SGD", {"momentum": 0.99, "dampening": 0.0, "nesterov": True}),
        ("SGD", {"momentum": 0.0, "dampening": 1.0}),
        ("unknown", {"eps": 1.0, "momentum": 0.9999}),
        ("Adam", {"eps": float("nan"), "betas_0": None}),
    ],
)
def test_sound(kind: str, settings: dict[str, Value]) -> None:
    assert RULE.check(run(kind, settings)) is None


def test_rprop_on_all_of_the_data() -> None:
    assert RULE.check(run("Rprop", {}, batches=1)) is None
    assert RULE.check(run("Rprop", {}, batches=None)) is None


def test_the_worst_of_several_groups() -> None:
    groups = (GroupFact(("a",), {"momentum": 0.992}), GroupFact(("b",), {"momentum": 0.9999}))
    found = RULE.check(history(profile=Profile(optimizers=(OptimizerFact("SGD", groups),))))
    assert found is not None
    assert found.evidence[0].value == 0.9999
