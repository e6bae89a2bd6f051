"""`core.statistics` against scipy, against plain definitions, and against any input at all."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lightning_plateau.core import statistics
from lightning_plateau.core.statistics import (
    block_medians,
    coefficient_of_variation,
    ema,
    finite,
    lag1_autocorrelation,
    log_ema_z_scores,
    mann_kendall,
    noise,
    normalized_entropy,
    perplexity,
    relative_drop,
    spearman,
    theil_sen,
    thin,
)

# A warning that leaks into a training is a defect.
pytestmark = pytest.mark.filterwarnings("error")

NAN, INF = math.nan, math.inf
LARGEST, SMALLEST = 1.7976931348623157e308, 5e-324

any_floats = st.lists(st.floats(), max_size=60)
moderate = st.floats(-1e6, 1e6, allow_subnormal=False)
few_levels = st.integers(-4, 4).map(float)
series = st.lists(moderate, min_size=2, max_size=60)
series_with_ties = st.lists(few_levels, min_size=2, max_size=60)
scales = st.sampled_from([2.0**-40, 0.25, 2.0, 2.0**40])  # exact, so results are comparable


def random_series(seed: int, length: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=length)


# --- Total: any data gives a documented result --------------------------------------------------

SCALAR_FUNCTIONS: list[tuple[Callable[..., float], float, float]] = [
    (theil_sen, -INF, INF),
    (noise, 0.0, INF),
    (lag1_autocorrelation, -1.0, 1.0),
    (lambda values: lag1_autocorrelation(values, detrend=True), -1.0, 1.0),
    (coefficient_of_variation, 0.0, INF),
    (normalized_entropy, 0.0, 1.0),
    (perplexity, 1.0, 60.0),
]

AWKWARD: list[list[float]] = [
    [],
    [NAN],
    [1.0],
    [INF, -INF, NAN],
    [0.0, -0.0, 0.0],
    [LARGEST, -LARGEST, LARGEST, -LARGEST],
    [LARGEST] * 5,
    [SMALLEST, 2 * SMALLEST, 0.0, SMALLEST],
    [LARGEST, SMALLEST, -SMALLEST, -LARGEST, NAN],
    [1.0, NAN, 2.0, INF, 3.0, -INF, 4.0],
]


@pytest.mark.parametrize(("function", "low", "high"), SCALAR_FUNCTIONS)
@given(values=any_floats)
def test_a_scalar_is_in_its_range_or_nan(
    function: Callable[..., float], low: float, high: float, values: list[float]
) -> None:
    result = function(values)
    assert type(result) is float
    assert math.isnan(result) or low <= result <= high


@pytest.mark.parametrize(("function", "low", "high"), SCALAR_FUNCTIONS)
@pytest.mark.parametrize("values", AWKWARD)
def test_awkward_values_give_a_result(
    function: Callable[..., float], low: float, high: float, values: list[float]
) -> None:
    result = function(values)
    assert math.isnan(result) or low <= result <= high


@given(x=any_floats, y=any_floats)
@example(x=[1.0, 1.0], y=[2.0, 3.0])
@example(x=[-LARGEST, LARGEST], y=[-LARGEST, LARGEST])
@example(x=[0.0, SMALLEST, 1.0], y=[-LARGEST, LARGEST, 0.0])
def test_paired_functions_are_total(x: list[float], y: list[float]) -> None:
    assert isinstance(theil_sen(y, x), float)
    assert math.isnan(spearman(x, y)) or -1.0 <= spearman(x, y) <= 1.0
    first, second = finite(x, y)
    assert first.size == second.size <= min(len(x), len(y))
    assert np.isfinite(first).all()
    assert np.isfinite(second).all()


@given(values=any_floats, alpha=st.floats(0, 1), warm_up=st.integers(-1, 9), limit=st.floats())
@example(values=[LARGEST, -LARGEST, LARGEST], alpha=0.5, warm_up=1, limit=4.0)
@example(values=[9007199254740996.0, 1.0], alpha=0.0, warm_up=1, limit=4.0)
@example(values=[0.0, -1.0, 1.0, NAN, INF, -INF, 1.0], alpha=0.97, warm_up=1, limit=4.0)
def test_moving_averages_are_total(
    values: list[float], alpha: float, warm_up: int, limit: float
) -> None:
    known = np.array([value for value in values if math.isfinite(value)])
    averages = ema(values, alpha)
    scores = log_ema_z_scores(values, alpha=alpha, warm_up=warm_up, z_limit=limit)
    assert averages.shape == scores.shape == (len(values),)
    kept = averages[~np.isnan(averages)]
    if kept.size:
        rounding = np.ldexp(np.abs(known).max(), -1070)
        assert known.min() - rounding <= kept.min()
        assert kept.max() <= known.max() + rounding
    assert (np.isposinf(scores) == ~np.isfinite(np.array(values, dtype=float))).all()
    assert not np.isneginf(scores).any()


@given(values=any_floats, blocks=st.integers(1, 70))
def test_blocks_are_total(values: list[float], blocks: int) -> None:
    for result in (block_medians(values, blocks), thin(values, blocks)):
        assert result.shape == (min(blocks, len(values)),)


@given(values=any_floats)
def test_mann_kendall_is_total(values: list[float]) -> None:
    outcome = mann_kendall(values)
    assert type(outcome.s) is int
    assert abs(outcome.s) <= len(values) * (len(values) - 1) // 2
    assert math.isfinite(outcome.z)
    assert 0.0 <= outcome.p_value <= 1.0
    assert -1.0 <= outcome.tau <= 1.0


@given(first=st.floats(), last=st.floats(), scale=st.none() | st.floats())
@example(first=LARGEST, last=-LARGEST, scale=None)
@example(first=LARGEST, last=-LARGEST, scale=SMALLEST)
@example(first=SMALLEST, last=0.0, scale=None)
def test_relative_drop_is_total(first: float, last: float, scale: float | None) -> None:
    drop = relative_drop(first, last, scale)
    if not all(math.isfinite(value) for value in (first, last, scale or 0.0)):
        assert math.isnan(drop)
    elif scale is None:
        assert -2.0 <= drop <= 2.0
    else:
        assert not math.isnan(drop)


def test_input_is_left_alone_and_output_is_fresh() -> None:
    values = np.array([3.0, 1.0, NAN, 2.0, 5.0])
    before = values.copy()
    values.flags.writeable = False
    for function, *_ in SCALAR_FUNCTIONS:
        function(values)
    mann_kendall(values)
    spearman(values, values)
    for result in (
        finite(values),
        thin(values, 10),
        block_medians(values, 2),
        ema(values, 0.5),
        log_ema_z_scores(values),
    ):
        assert not np.shares_memory(result, values)
        assert result.flags.writeable
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("kind", [np.int64, np.float32, np.float16, np.bool_])
def test_other_kinds_of_numbers_are_read(kind: type) -> None:
    values = np.array([1, 0, 1, 1, 0, 1], dtype=kind)
    assert theil_sen(values) == theil_sen(values.astype(float))
    assert thin(values, 3).dtype == np.float64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: block_medians([1.0], 0), "blocks must be at least 1, received 0"),
        (lambda: thin([1.0], -2), "limit must be at least 1, received -2"),
        (lambda: ema([1.0], 1.5), r"in \[0, 1\], received 1.5"),
        (lambda: log_ema_z_scores([1.0], alpha=NAN), r"in \[0, 1\], received nan"),
    ],
)
def test_a_senseless_parameter_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_every_public_function_is_documented_in_full() -> None:
    for name in statistics.__all__:
        member = getattr(statistics, name)
        if inspect.isfunction(member):
            sections = ("Args:", "Returns:", "Example:", ">>> ")
            assert all(section in (member.__doc__ or "") for section in sections), name


# --- finite, block_medians, thin ----------------------------------------------------------------


def test_finite_gives_one_array_for_one_series_and_a_tuple_for_several() -> None:
    assert finite([NAN, 1.0]).tolist() == [1.0]
    rows = finite([1.0, 2.0, INF], [NAN, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0])
    assert [row.tolist() for row in rows] == [[2.0], [3.0], [6.0]]


@given(values=st.lists(moderate, min_size=1, max_size=60), blocks=st.integers(1, 60))
def test_block_medians_are_medians_of_array_split(values: list[float], blocks: int) -> None:
    parts = np.array_split(np.array(values), min(blocks, len(values)))
    expected = [float(np.median(part)) for part in parts]
    np.testing.assert_allclose(block_medians(values, blocks), expected, rtol=1e-15)


def test_block_medians_skip_what_is_not_finite() -> None:
    medians = block_medians([1.0, NAN, 3.0, NAN, INF, -INF, 7.0, 9.0, INF], 3)
    np.testing.assert_array_equal(medians, [2.0, NAN, 8.0])


def test_thin_keeps_a_short_series_as_it_is() -> None:
    np.testing.assert_array_equal(thin([3.0, NAN, INF], 3), [3.0, NAN, INF])


# --- theil_sen ----------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [2, 3, 4, 7, 50, 199, 200])
@pytest.mark.parametrize("seed", range(3))
def test_theil_sen_agrees_with_scipy(length: int, seed: int) -> None:
    y, x = random_series(seed, length), random_series(seed + 100, length)
    assert theil_sen(y) == pytest.approx(scipy.stats.theilslopes(y)[0], rel=1e-12)
    assert theil_sen(y, x) == pytest.approx(scipy.stats.theilslopes(y, x)[0], rel=1e-12)


@given(y=series_with_ties, data=st.data())
def test_theil_sen_agrees_with_scipy_when_positions_repeat(
    y: list[float], data: st.DataObject
) -> None:
    x = data.draw(st.lists(few_levels, min_size=len(y), max_size=len(y)))
    if len(set(x)) < 2:
        assert math.isnan(theil_sen(y, x))
    else:
        with np.errstate(invalid="ignore"):  # its confidence interval, with many ties
            expected = scipy.stats.theilslopes(y, x)[0]
        assert theil_sen(y, x) == pytest.approx(expected, abs=1e-12)


@given(slope=moderate, intercept=moderate, length=st.integers(2, 400))
def test_theil_sen_recovers_a_line(slope: float, intercept: float, length: int) -> None:
    x = np.arange(length, dtype=float)
    y = slope * x + intercept
    rounding = 1e-13 * (abs(slope) * length + abs(intercept))
    assert theil_sen(y, x) == pytest.approx(slope, rel=1e-9, abs=rounding)
    assert theil_sen(y) == pytest.approx(slope, rel=1e-9, abs=rounding)


@given(values=series, scale=scales, sign=st.sampled_from([-1.0, 1.0]))
def test_theil_sen_scales_with_its_input(values: list[float], scale: float, sign: float) -> None:
    y = np.array(values)
    slope = theil_sen(y)
    assert theil_sen(sign * scale * y) == sign * scale * slope
    assert theil_sen(y, scale * np.arange(y.size)) == slope / scale


@given(values=series, shift=moderate)
def test_theil_sen_ignores_a_shift(values: list[float], shift: float) -> None:
    y = np.array(values)
    assert theil_sen(y + shift) == pytest.approx(theil_sen(y), abs=1e-9)


def test_theil_sen_forgives_a_quarter_of_outliers() -> None:
    y = 0.5 * np.arange(80.0)
    y[::4] = 1e9
    assert theil_sen(y) == pytest.approx(0.5, abs=0.2)


def test_theil_sen_keeps_the_positions_of_what_it_drops() -> None:
    assert theil_sen([0.0, NAN, NAN, 6.0]) == 2.0


def test_theil_sen_of_a_long_series_is_close_to_the_exact_slope() -> None:
    y = 1e-3 * np.arange(3000.0) + random_series(0, 3000)
    assert theil_sen(y) == pytest.approx(1e-3, rel=0.1)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, NAN], [INF, NAN]])
def test_theil_sen_is_unknown_for_one_point(values: list[float]) -> None:
    assert math.isnan(theil_sen(values))


def test_theil_sen_at_the_limits_of_float64() -> None:
    assert theil_sen([-LARGEST, LARGEST]) == INF
    assert theil_sen([-LARGEST, 0.0, LARGEST]) == LARGEST
    assert theil_sen([0.0, SMALLEST, 2 * SMALLEST]) == SMALLEST


# --- mann_kendall -------------------------------------------------------------------------------


def mann_kendall_by_definition(values: NDArray[np.float64]) -> tuple[int, float]:
    """S from every pair, and its variance from the groups of ties."""
    n = len(values)
    s = sum(int(np.sign(values[j] - values[i])) for i in range(n) for j in range(i + 1, n))
    ties = np.unique(values, return_counts=True)[1].astype(float)
    variance = n * (n - 1) * (2 * n + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())
    return s, variance / 18


@given(values=series_with_ties)
def test_mann_kendall_agrees_with_its_definition_and_scipy(values: list[float]) -> None:
    outcome = mann_kendall(values)
    s, variance = mann_kendall_by_definition(np.array(values))
    assert outcome.s == s
    if variance == 0.0:
        assert (outcome.z, outcome.p_value, outcome.tau) == (0.0, 1.0, 0.0)
        return
    expected = (s - np.sign(s)) / math.sqrt(variance)
    assert outcome.z == pytest.approx(expected, abs=1e-12)
    assert outcome.p_value == pytest.approx(2 * scipy.stats.norm.sf(abs(expected)), rel=1e-10)
    kendall = scipy.stats.kendalltau(np.arange(len(values)), values, variant="b")
    assert outcome.tau == pytest.approx(kendall.statistic, abs=1e-12)


def test_mann_kendall_p_value_is_near_the_exact_one() -> None:
    values = random_series(3, 30) + 0.03 * np.arange(30)
    exact = scipy.stats.kendalltau(np.arange(30), values, method="exact").pvalue
    assert mann_kendall(values).p_value == pytest.approx(exact, abs=0.01)


@given(values=series_with_ties, scale=scales, shift=few_levels)
def test_mann_kendall_depends_on_order_only(
    values: list[float], scale: float, shift: float
) -> None:
    y = np.array(values)
    outcome = mann_kendall(y)
    assert mann_kendall(scale * y) == outcome
    assert mann_kendall(y + shift) == outcome
    assert mann_kendall(np.arctan(y)) == outcome
    for mirrored in (mann_kendall(-y), mann_kendall(y[::-1])):
        assert (mirrored.s, mirrored.z, mirrored.tau) == (-outcome.s, -outcome.z, -outcome.tau)
        assert mirrored.p_value == outcome.p_value


def test_mann_kendall_thins_a_long_series() -> None:
    assert mann_kendall(np.arange(5000)) == mann_kendall(np.arange(200))


def test_mann_kendall_tells_a_trend_from_noise() -> None:
    flat = random_series(1, 100)
    assert mann_kendall(flat).p_value > 0.05
    falling = mann_kendall(flat - 0.05 * np.arange(100))
    assert falling.z < -4
    assert falling.p_value < 1e-4


# --- ema, log_ema_z_scores ----------------------------------------------------------------------


@given(values=series, alpha=st.floats(0.0, 1.0))
def test_ema_is_the_weighted_mean_of_the_past(values: list[float], alpha: float) -> None:
    expected = []
    for last in range(len(values)):
        weights = alpha ** np.arange(last, -1, -1.0)
        expected.append(np.average(values[: last + 1], weights=weights))
    np.testing.assert_allclose(ema(values, alpha), expected, rtol=1e-9, atol=1e-7)


@given(values=series, alpha=st.floats(0.0, 0.999))
def test_ema_is_the_bias_corrected_recursion(values: list[float], alpha: float) -> None:
    moment, expected = 0.0, []
    for step, value in enumerate(values, start=1):
        moment = alpha * moment + (1 - alpha) * value
        expected.append(moment / (1 - alpha**step))
    np.testing.assert_allclose(ema(values, alpha), expected, rtol=1e-7, atol=1e-5)


def test_ema_extremes_and_gaps() -> None:
    np.testing.assert_array_equal(ema([3.0, 1.0, 2.0], 0.0), [3.0, 1.0, 2.0])
    np.testing.assert_allclose(ema([3.0, 1.0, 2.0], 1.0), [3.0, 2.0, 2.0])
    np.testing.assert_array_equal(ema([0.1] * 50, 0.9), [0.1] * 50)
    np.testing.assert_array_equal(ema([NAN, 2.0, INF, 2.0], 0.5), [NAN, 2.0, 2.0, 2.0])


def z_scores_by_definition(
    values: NDArray[np.float64], alpha: float, warm_up: int, z_limit: float
) -> list[float]:
    """ZClip, step by step as in the paper, on logarithms, spikes left out."""
    logs = np.log(values)
    mean, variance = logs[:warm_up].mean(), logs[:warm_up].var()
    scores = [NAN] * warm_up
    for value in logs[warm_up:]:
        scores.append((value - mean) / math.sqrt(variance))
        if scores[-1] <= z_limit:
            mean = alpha * mean + (1 - alpha) * value
            variance = alpha * variance + (1 - alpha) * (value - mean) ** 2
    return scores


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("alpha", "warm_up", "z_limit"), [(0.97, 25, 4.0), (0.8, 5, 1.5)])
def test_z_scores_agree_with_the_definition(
    seed: int, alpha: float, warm_up: int, z_limit: float
) -> None:
    values = np.exp(random_series(seed, 300))
    values[[60, 61, 200]] *= 1e5
    actual = log_ema_z_scores(values, alpha=alpha, warm_up=warm_up, z_limit=z_limit)
    expected = z_scores_by_definition(values, alpha, warm_up, z_limit)
    np.testing.assert_allclose(actual, expected, rtol=1e-9)
    assert (actual[[60, 61, 200]] > z_limit).all()


def test_what_stays_out_of_the_averages_does_not_change_the_other_scores() -> None:
    clean = np.exp(0.1 * random_series(0, 100))
    expected = log_ema_z_scores(clean)
    for intruder, score in [(NAN, INF), (INF, INF), (-INF, INF), (0.0, NAN), (-3.0, NAN)]:
        for place in (0, 10, 60):
            scores = log_ema_z_scores(np.insert(clean, place, intruder))
            np.testing.assert_array_equal(scores[place], score)
            np.testing.assert_array_equal(np.delete(scores, place), expected)
    spiked = log_ema_z_scores(np.insert(clean, 60, 1e6))
    assert spiked[60] > 100
    np.testing.assert_array_equal(np.delete(spiked, 60), expected)


@given(factor=st.floats(1e-6, 1e6))
def test_z_scores_do_not_depend_on_the_unit(factor: float) -> None:
    values = np.exp(random_series(5, 60))
    np.testing.assert_allclose(
        log_ema_z_scores(factor * values), log_ema_z_scores(values), rtol=1e-6, atol=1e-9
    )


def test_rounding_of_a_constant_series_is_not_a_spike() -> None:
    values = np.full(100, 0.3, dtype=np.float32)
    values[60] = np.nextafter(values[60], np.float32(1.0))
    assert np.nanmax(log_ema_z_scores(values)) < 1.0


def test_z_scores_are_unknown_until_the_warm_up_ends() -> None:
    assert np.isnan(log_ema_z_scores([1.0] * 25)).all()
    np.testing.assert_array_equal(log_ema_z_scores([1.0] * 26)[-1], 0.0)


# --- noise, lag1_autocorrelation, coefficient_of_variation, relative_drop -----------------------


@pytest.mark.parametrize("seed", range(3))
def test_noise_agrees_with_scipy(seed: int) -> None:
    values = random_series(seed, 150)
    deviation = scipy.stats.median_abs_deviation(np.diff(values), scale="normal") / math.sqrt(2)
    assert noise(values) == pytest.approx(deviation, rel=1e-4)  # 1.4826 is rounded


def test_noise_sees_neither_the_trend_nor_spikes() -> None:
    values = 3.0 * random_series(0, 5000)
    assert noise(values) == pytest.approx(3.0, rel=0.05)
    assert noise(values + 0.5 * np.arange(5000)) == pytest.approx(3.0, rel=0.05)
    values[::50] = 1e6
    assert noise(values) == pytest.approx(3.0, rel=0.1)


@given(values=series, scale=scales)
def test_noise_scales_with_its_input(values: list[float], scale: float) -> None:
    np.testing.assert_equal(noise(-scale * np.array(values)), scale * noise(values))


def test_noise_does_not_bridge_a_gap() -> None:
    assert noise([1.0, 2.0, 3.0, NAN, 90.0, 91.0, 92.0]) == 0.0
    assert math.isnan(noise([1.0, NAN, 2.0, NAN, 3.0]))
    assert math.isnan(noise([1.0, 2.0]))


@pytest.mark.parametrize("detrend", [False, True])
def test_autocorrelation_agrees_with_its_definition(detrend: bool) -> None:
    values = np.cumsum(random_series(2, 120))
    fit = np.polynomial.Polynomial.fit(np.arange(120), values, deg=1 if detrend else 0)
    rest = values - fit(np.arange(120))
    expected = (rest[1:] * rest[:-1]).sum() / (rest**2).sum()
    assert lag1_autocorrelation(values, detrend=detrend) == pytest.approx(expected, rel=1e-9)


def test_autocorrelation_of_known_processes() -> None:
    white = random_series(0, 4000)
    assert lag1_autocorrelation(white) == pytest.approx(0.0, abs=0.05)
    zigzag = white + 20 * (-1.0) ** np.arange(4000)
    assert lag1_autocorrelation(zigzag) < -0.95
    on_a_slope = white + 0.1 * np.arange(4000)
    assert lag1_autocorrelation(on_a_slope) > 0.95
    assert lag1_autocorrelation(on_a_slope, detrend=True) == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("values", [[], [1.0, 2.0], [0.1] * 30, [1e-300] * 9])
def test_autocorrelation_of_what_does_not_vary_is_unknown(values: list[float]) -> None:
    assert math.isnan(lag1_autocorrelation(values))
    assert math.isnan(lag1_autocorrelation(values, detrend=True))


def test_autocorrelation_of_a_perfect_line_without_the_line_is_unknown() -> None:
    assert math.isnan(lag1_autocorrelation(0.1 * np.arange(100) + 7.0, detrend=True))


@given(values=series, scale=scales)
def test_scale_free_statistics_ignore_unit_and_sign(values: list[float], scale: float) -> None:
    mirrored = -scale * np.array(values)
    for function in (coefficient_of_variation, lag1_autocorrelation):
        np.testing.assert_equal(function(mirrored), function(values))


@pytest.mark.parametrize("seed", range(3))
def test_coefficient_of_variation_agrees_with_scipy(seed: int) -> None:
    values = random_series(seed, 50) - 5
    expected = abs(scipy.stats.variation(values))
    assert coefficient_of_variation(values) == pytest.approx(expected, rel=1e-12)


def test_coefficient_of_variation_about_zero() -> None:
    assert coefficient_of_variation([-1.0, 1.0]) == INF
    assert coefficient_of_variation([0.0, 0.0, NAN]) == 0.0
    assert coefficient_of_variation([0.1] * 10) == 0.0
    assert math.isnan(coefficient_of_variation([1.0]))


@pytest.mark.parametrize(
    ("first", "last", "scale", "drop"),
    [
        (2.0, 1.0, None, 0.5),
        (1.0, 2.0, None, -0.5),
        (-1.0, -2.0, None, 0.5),
        (1.0, -1.0, None, 2.0),
        (1.0, 0.0, None, 1.0),
        (0.0, 0.0, None, 0.0),
        (2.0, 1.0, 4.0, 0.25),
        (2.0, 1.0, -4.0, 0.25),
        (2.0, 1.0, 0.0, INF),
        (1.0, 2.0, 0.0, -INF),
        (2.0, 2.0, 0.0, 0.0),
        (NAN, 1.0, None, NAN),
        (1.0, INF, None, NAN),
        (1.0, 2.0, INF, NAN),
    ],
)
def test_relative_drop_in_a_table(
    first: float, last: float, scale: float | None, drop: float
) -> None:
    np.testing.assert_equal(relative_drop(first, last, scale), drop)


@given(first=moderate, last=moderate, scale=scales)
def test_relative_drop_is_antisymmetric_and_free_of_scale(
    first: float, last: float, scale: float
) -> None:
    drop = relative_drop(first, last)
    assert relative_drop(last, first) == -drop
    assert relative_drop(scale * first, scale * last) == drop
    assert (drop > 0) == (first > last)


# --- normalized_entropy, perplexity, spearman ---------------------------------------------------

counts = st.lists(st.integers(0, 1000), min_size=2, max_size=40).filter(any)


@given(counts=counts)
def test_entropy_agrees_with_scipy(counts: list[int]) -> None:
    entropy = scipy.stats.entropy(counts)
    expected = entropy / math.log(len(counts))
    assert normalized_entropy(counts) == pytest.approx(expected, abs=1e-12)
    assert perplexity(counts) == pytest.approx(math.exp(entropy), rel=1e-12)


@given(counts=counts, scale=scales, data=st.data())
def test_entropy_depends_on_shares_only(
    counts: list[int], scale: float, data: st.DataObject
) -> None:
    shuffled = scale * np.array(data.draw(st.permutations(counts)))
    assert normalized_entropy(shuffled) == pytest.approx(normalized_entropy(counts), abs=1e-12)
    assert perplexity(shuffled) == pytest.approx(perplexity(counts), rel=1e-12)


def test_entropy_of_odd_counts() -> None:
    assert normalized_entropy([LARGEST] * 3) == 1.0
    assert normalized_entropy([3.0, -5.0]) == 0.0
    assert normalized_entropy([1.0, 1.0, NAN]) == 1.0
    assert perplexity([5.0]) == 1.0
    for nothing in ([], [0.0, 0.0], [NAN], [-1.0, -2.0]):
        assert math.isnan(normalized_entropy(nothing))
        assert math.isnan(perplexity(nothing))
    assert math.isnan(normalized_entropy([5.0]))


@given(x=series_with_ties, data=st.data())
def test_spearman_agrees_with_scipy(x: list[float], data: st.DataObject) -> None:
    y = data.draw(st.lists(few_levels, min_size=len(x), max_size=len(x)))
    if len(set(x)) < 2 or len(set(y)) < 2:
        assert math.isnan(spearman(x, y))
    else:
        assert spearman(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-12)


@given(x=series_with_ties, data=st.data())
def test_spearman_depends_on_order_only(x: list[float], data: st.DataObject) -> None:
    y = data.draw(st.lists(few_levels, min_size=len(x), max_size=len(x)))
    first, second = np.array(x), np.array(y)
    rho = spearman(first, second)
    np.testing.assert_equal(spearman(second, first), rho)
    np.testing.assert_equal(spearman(np.exp(first), second), rho)
    np.testing.assert_equal(0.0 - spearman(-first, second), rho)
