"""What is said as it happens, and how often the same is said."""

from __future__ import annotations

import logging

import pytest

from lightning_plateau.core.remedy import Intervention
from lightning_plateau.report.announcer import Announcer


def skipped(number: int, code: str = "LP102") -> Intervention:
    return Intervention(number, 10 * number, "skip-step", code)


def test_what_is_done_again_and_again_is_told_at_each_doubling(
    caplog: pytest.LogCaptureFixture,
) -> None:
    say = Announcer()
    with caplog.at_level(logging.INFO, "lightning_plateau"):
        for number in range(1, 21):
            say(skipped(number))
    said = [entry.getMessage() for entry in caplog.records]
    steps = [int(line.split(":")[0].removeprefix("step ")) for line in said]
    assert steps == [10, 20, 30, 40, 80, 160]
    assert said[2] == "step 30: applied skip-step for LP102"
    assert said[3] == "step 40: applied skip-step for LP102 (time 4; told again at time 8)"


def test_another_fault_is_another_matter(caplog: pytest.LogCaptureFixture) -> None:
    say = Announcer()
    for number in range(1, 7):
        say(skipped(number))
    caplog.clear()
    with caplog.at_level(logging.INFO, "lightning_plateau"):
        say(skipped(7, "LP202"))
    assert [entry.getMessage() for entry in caplog.records] == [
        "step 70: applied skip-step for LP202"
    ]
