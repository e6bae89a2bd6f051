from __future__ import annotations

import pytest

from tests.faults.observation import observe
from tests.faults.program import programs

HEALTHY = {one.name: one for one in programs() if one.healthy}


def test_there_are_many_healthy_programs_and_a_third_is_kept_aside():
    aside = [one for one in HEALTHY.values() if one.part == "validation"]
    assert len(HEALTHY) >= 60
    assert 0.25 < len(aside) / len(HEALTHY) < 0.45


def test_healthy_programs_are_of_many_families_and_data_sets():
    assert len({one.family for one in HEALTHY.values()}) >= 8
    assert len({one.data for one in HEALTHY.values()}) >= 6


@pytest.mark.slow
@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_program_learns_and_nothing_is_said(name):
    seen = observe(HEALTHY[name])
    assert not seen.error
    assert seen.learned
    assert seen.codes == ()
