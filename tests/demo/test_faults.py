from __future__ import annotations

import sys

import pytest
import torch

from lightning_plateau.demo.digits import digits, standardized
from lightning_plateau.demo.faults import FAULTS, find_fault
from lightning_plateau.rules import catalogue

NAMES = tuple(FAULTS)


@pytest.mark.parametrize("name", NAMES)
def test_a_training_is_built_from_the_seed_alone(name):
    losses = []
    for _ in range(2):
        torch.manual_seed(5)
        training = FAULTS[name].build()
        losses.append(training.module.training_step(next(iter(training.train)), 0).item())
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", NAMES)
def test_a_training_has_enough_steps_to_be_judged_and_few_enough_to_be_quick(name):
    training = FAULTS[name].build()
    assert 200 <= training.epochs * len(training.train) <= 600


@pytest.mark.parametrize("name", NAMES)
def test_every_fault_says_what_is_wrong_in_one_line(name):
    assert FAULTS[name].story.endswith(".")
    assert "\n" not in FAULTS[name].story


def test_only_the_healthy_training_expects_no_code():
    assert [name for name in NAMES if not FAULTS[name].expected] == ["healthy"]


def test_the_splits_share_no_place_and_the_data_is_whole():
    data = digits()
    assert [len(part[1]) for part in (data.train, data.validation, data.test)] == [1200, 237, 360]
    assert sorted(set(data.test[1].tolist())) == list(range(10))


def test_images_are_standardized_by_the_training_images():
    images = standardized(digits().train[0])
    assert images.mean().item() == pytest.approx(0, abs=1e-5)
    assert images.std().item() == pytest.approx(1, abs=1e-5)


def test_an_unknown_fault_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean overfitting"):
        find_fault("overfiting")


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    digits.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"lightning-plateau\[demo\]"):
        digits()


def test_codes_that_are_expected_exist():
    known = {rule.code for rule in catalogue()}
    assert {code for fault in FAULTS.values() for code in fault.expected} <= known
