"""How far updates move parameters."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_plateau.recording.probes.parameters import (
    SAMPLE,
    sample_elements,
    unit_differences,
    update_ratios,
)


def test_samples_are_bounded_copies() -> None:
    parameter = torch.nn.Parameter(torch.zeros(100, 1000))
    (sample,) = sample_elements([parameter])
    assert sample.numel() <= SAMPLE
    with torch.no_grad():
        parameter.fill_(1.0)
    assert float(sample.max()) == 0.0
    assert not sample.requires_grad


@pytest.mark.parametrize("shape", [(), (1,), (SAMPLE,), (SAMPLE + 1,), (3, 5, 7)])
def test_samples_of_any_shape(shape: tuple[int, ...]) -> None:
    parameter = torch.randn(shape)
    (sample,) = sample_elements([parameter])
    assert 1 <= sample.numel() <= SAMPLE
    if parameter.numel() <= SAMPLE:
        assert torch.equal(sample, parameter.reshape(-1))


def test_ratio_agrees_with_plain_torch() -> None:
    before, after = torch.randn(50), torch.randn(50)
    ratio = update_ratios([before], [after])
    assert float(ratio) == pytest.approx(float((after - before).norm() / before.norm()))


def test_zero_parameters() -> None:
    zero, one = torch.zeros(3), torch.ones(3)
    assert update_ratios([zero, zero], [zero, one]).tolist() == [0.0, math.inf]


def test_mixed_types() -> None:
    half, single = torch.ones(4, dtype=torch.bfloat16), torch.ones(4)
    ratios = update_ratios([half, single], [half * 2, single * 3])
    assert ratios.tolist() == [1.0, 2.0]


def test_never_read_the_device() -> None:
    parameters = [torch.ones(5000, device="meta"), torch.ones((), device="meta")]
    before = sample_elements(parameters)
    assert update_ratios(before, sample_elements(parameters)).is_meta


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (torch.full((100, 7), 0.3), 0.0),
        (torch.zeros(4, 3, 2, 2), 0.0),
        (torch.arange(4.0).expand(5, 4), 0.0),
        (torch.tensor([[2.0], [-2.0]]), 2.0),
        (torch.ones(3, 2, dtype=torch.bfloat16), 0.0),
        (torch.ones(1, 8), math.nan),
        (torch.ones(8), math.nan),
        (torch.ones(2, 0), math.nan),
    ],
)
def test_units_that_differ(weight: torch.Tensor, expected: float) -> None:
    (difference,) = unit_differences([weight])
    assert float(difference) == pytest.approx(expected, nan_ok=True)


def test_unit_differences_never_read_the_device() -> None:
    weights = [torch.ones(50, 5000, device="meta"), torch.ones(3, device="meta")]
    assert unit_differences(weights).is_meta
