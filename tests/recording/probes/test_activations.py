"""Statistics of what operations make and take."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lightning_plateau.recording.probes.activations import (
    OPERAND_STATISTICS,
    OUTPUT_STATISTICS,
    SAMPLE,
    completed,
    operand_statistics,
    output_statistics,
    stacked_statistics,
    thinned,
    unit_dimension,
)


def made(output: torch.Tensor, **settings: object) -> dict[str, float]:
    found = output_statistics(output, **settings)  # type: ignore[arg-type]
    assert set(found) <= set(OUTPUT_STATISTICS)
    return completed({name: float(value) for name, value in found.items()})


def taken(operand: torch.Tensor) -> dict[str, float]:
    found = operand_statistics(operand)
    assert set(found) <= set(OPERAND_STATISTICS)
    return completed({name: float(value) for name, value in found.items()})


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64]
)
def test_moments_agree_with_numpy(dtype: torch.dtype) -> None:
    output = torch.randn(8, 5).to(dtype)
    plain = (output.abs() if output.is_complex() else output).double().numpy()
    found = made(output)
    assert found["mean"] == pytest.approx(plain.mean(), abs=1e-5)
    assert found["std"] == pytest.approx(plain.std(), rel=1e-4)
    assert (found["minimum"], found["maximum"]) == pytest.approx((plain.min(), plain.max()))
    assert found["non_finite"] == 0.0
    assert not {"dead_units", "saturated"} & set(found)


def test_large_values_of_half_precision_do_not_overflow() -> None:
    assert made(torch.full((64,), 60_000.0, dtype=torch.float16))["mean"] == 60_000.0


def test_dead_units_of_a_linear_layer_are_columns() -> None:
    output = torch.rand(16, 10) + 0.1
    output[:, :3] = 0.0
    output[0, 9] = 0.0  # a unit that is silent for one sample is alive
    assert made(output, rectified=True)["dead_units"] == pytest.approx(0.3)


def test_dead_units_of_a_convolution_are_channels() -> None:
    output = torch.zeros(4, 8, 5, 5)
    output[2, :6, 3, 3] = 1.0  # six channels fire somewhere
    dim = unit_dimension(tuple(output.shape), convolved=True)
    assert made(output, rectified=True, unit_dim=dim)["dead_units"] == pytest.approx(0.25)


def test_dead_units_of_a_transformer_are_in_the_last_dimension() -> None:
    output = torch.zeros(4, 7, 12)  # batch, tokens, features
    output[:, :, :9] = 1.0
    dim = unit_dimension(tuple(output.shape), convolved=False)
    assert made(output, rectified=True, unit_dim=dim)["dead_units"] == pytest.approx(0.25)


@pytest.mark.parametrize("shape", [(), (5,), (1, 5)])
def test_dead_units_of_small_outputs(shape: tuple[int, ...]) -> None:
    dim = unit_dimension(shape, convolved=False)
    assert made(torch.zeros(shape), rectified=True, unit_dim=dim)["dead_units"] == 1.0


def test_negative_slopes_are_not_dead() -> None:
    assert made(torch.full((4, 4), -0.01), rectified=True)["dead_units"] == 0.0


def test_saturated_is_the_share_of_inputs_beyond_five() -> None:
    inputs = torch.tensor([-6.0, -1.0, 0.0, 5.5])
    assert made(inputs.sigmoid(), squashed_input=inputs)["saturated"] == 0.5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_value_that_is_not_finite_among_many_shows(bad: float) -> None:
    output = torch.zeros(10 * SAMPLE)
    output[SAMPLE + 1] = bad  # not among the sampled elements
    assert made(output)["non_finite"] == 1.0


def test_thinned_is_bounded_and_evenly_spread() -> None:
    sample = thinned(torch.arange(10.0 * SAMPLE))
    assert sample.numel() <= 2 * SAMPLE
    assert float(sample.mean()) == pytest.approx(5 * SAMPLE, rel=0.01)


def test_a_thinned_column_is_not_always_the_same_feature() -> None:
    """A stride that divides the row length would look at one feature only."""
    rows = torch.zeros(4096, 64)
    rows[:, 1:] = 1.0
    assert 0.9 < made(rows)["mean"] < 1.0


def test_operands_of_whole_numbers() -> None:
    found = taken(torch.tensor([0, 3, 9]))
    assert (found["minimum"], found["maximum"], found["integer"]) == (0, 9, 1)
    assert found["mean"] == 4.0
    assert "row_sum_error" not in found


def test_operand_of_probabilities_and_of_their_logarithms() -> None:
    probabilities = torch.randn(6, 4).softmax(1)
    assert taken(probabilities)["row_sum_error"] < 1e-6
    assert taken(probabilities)["row_exponential_sum_error"] > 0.5
    assert taken(probabilities.log())["row_exponential_sum_error"] < 1e-6
    assert taken(torch.randn(6, 4))["row_sum_error"] > 0.01


def test_rows_of_images_run_over_channels() -> None:
    assert taken(torch.randn(2, 5, 3, 3).softmax(1))["row_sum_error"] < 1e-6
    assert taken(torch.randn(2, 5, 3, 3).softmax(2))["row_sum_error"] > 0.01


def test_one_dimension_has_no_rows() -> None:
    found = taken(torch.tensor([0.5, 0.5]))
    assert not {"row_sum_error", "row_exponential_sum_error"} & set(found)
    assert found["integer"] == 0.0


def test_operand_that_is_not_finite() -> None:
    found = taken(torch.tensor([[1.0, math.nan], [0.0, 1.0]]))
    assert found["non_finite"] == 1.0
    assert math.isnan(found["mean"])


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.complex64])
def test_operands_of_other_types(dtype: torch.dtype) -> None:
    assert np.isfinite([taken(torch.ones(2, 2).to(dtype))[k] for k in ("minimum", "mean")]).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_never_read_the_device(dtype: torch.dtype) -> None:
    tensor = torch.ones(4, 3, 2, 2, dtype=dtype, device="meta")
    made_there = output_statistics(tensor, rectified=True, squashed_input=tensor, unit_dim=1)
    whole = torch.ones(3, dtype=torch.int64, device="meta")
    for found in (made_there, operand_statistics(tensor), operand_statistics(whole)):
        assert all(value.is_meta and value.dim() == 0 for value in found.values())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_value_that_is_not_finite_shows_in_a_rectified_output(bad: float) -> None:
    output = torch.zeros(64, 8, 5, 5)
    output[33, 4, 2, 2] = bad
    assert made(output, rectified=True, unit_dim=1)["non_finite"] == 1.0


def test_rows_of_a_large_operand_are_looked_at_by_samples() -> None:
    rows = torch.randn(4096, 64).softmax(1)
    assert taken(rows)["row_sum_error"] < 1e-6
    assert taken(rows[:, :3])["row_sum_error"] > 0.1
    rows[4095, 63] = math.inf
    assert taken(rows)["non_finite"] == 1.0


@pytest.mark.parametrize("shape", [(), (5,), (4, 6), (2, 3, 4, 4)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.complex64])
def test_together_they_are_what_they_are_alone(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    outputs = torch.randn(3, *shape).to(dtype)
    outputs[1].zero_()
    for unit_dim in range(max(1, len(shape))):
        together = stacked_statistics(outputs, rectified=True, unit_dim=unit_dim)
        for number, output in enumerate(outputs):
            alone = output_statistics(output, rectified=True, unit_dim=unit_dim)
            assert set(alone) == set(together)
            for name, value in alone.items():
                assert float(together[name][number]) == pytest.approx(float(value), abs=1e-3)
