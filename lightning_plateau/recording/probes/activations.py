"""Statistics of the tensors that operations take and make."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from lightning_plateau.recording.probes.sampling import spread

OUTPUT_STATISTICS = ("mean", "std", "minimum", "maximum", "non_finite", "dead_units", "saturated")
OPERAND_STATISTICS = (
    "minimum",
    "maximum",
    "mean",
    "std",
    "non_finite",
    "integer",
    "row_sum_error",
    "row_exponential_sum_error",
    "column_std",
    "smallest",
)
SAMPLE = 16384
LARGEST_WHOLE = 1 << 16
"""Elements of an operand up to which all of its rows are looked at one by one."""
DEAD_BELOW = 1e-5
SATURATED_BEYOND = 5.0


def thinned(tensor: Tensor, limit: int = SAMPLE) -> Tensor:
    """Return at most ``limit`` evenly spaced elements, flat, float32 or float64."""
    flat = spread(tensor.detach(), limit)
    if flat.is_complex():
        flat = flat.abs()
    return (flat if flat.dtype == torch.float64 else flat.float()).contiguous()


def unit_dimension(shape: tuple[int, ...], convolved: bool) -> int:
    """Return the dimension that counts units: the channels after a convolution, else the last."""
    return 1 if convolved and len(shape) > 2 else len(shape) - 1


def output_statistics(
    output: Tensor,
    *,
    rectified: bool = False,
    squashed_input: Tensor | None = None,
    unit_dim: int = -1,
) -> dict[str, Tensor]:
    """Return the statistics of an operation's output by name, 0-d, still on its device.

    The names are among ``OUTPUT_STATISTICS``; ``completed`` adds ``non_finite`` on the host.
    Moments rest on at most 16,384 evenly spaced elements; extremes and ``dead_units`` on all of
    them, in a single read.

    Args:
        output: Floating-point tensor with at least one element.
        rectified: Whether to count dead units (units without one value beyond 1e-5 in the batch).
        squashed_input: Input of a squashing function, to tell the share of values outside ±5.
        unit_dim: Dimension that counts units.

    Example:
        >>> dead = torch.tensor([[0.0, 1.0], [0.0, 2.0]])
        >>> output_statistics(dead, rectified=True)["dead_units"]
        tensor(0.5000)
    """
    found = _moments(thinned(output))
    whole = _comparable(output)
    if rectified:
        lowest, highest = _unit_extremes(whole, unit_dim)
        silent = torch.maximum(highest, -lowest) <= DEAD_BELOW
        found["dead_units"] = silent.mean(dtype=torch.float32)
        found["minimum"], found["maximum"] = lowest.amin(), highest.amax()
    else:
        found["minimum"], found["maximum"] = torch.aminmax(whole)
    if squashed_input is not None:
        beyond = thinned(squashed_input).abs() > SATURATED_BEYOND
        found["saturated"] = beyond.mean(dtype=torch.float32)
    return found


def stacked_statistics(
    outputs: Tensor, *, rectified: bool = False, unit_dim: int = -1
) -> dict[str, Tensor]:
    """Return the same of ``k`` small outputs of one shape, ``[k]`` each, measured together.

    Args:
        outputs: The outputs, one after another along dimension 0, ``[k, …]``.
        rectified: Whether to count dead units.
        unit_dim: Dimension of an output that counts units.

    Example:
        >>> stacked_statistics(torch.tensor([[1.0, 3.0], [0.0, 0.0]]))["mean"]
        tensor([2., 0.])
    """
    whole = _comparable(outputs)
    values = whole if whole.dtype == torch.float64 else whole.float()
    rows = values.reshape(len(values), -1)
    mean = rows.mean(dim=1)
    centred = torch.linalg.vector_norm(rows - mean[:, None], dim=1)
    found = {"mean": mean, "std": centred / math.sqrt(rows.shape[1])}
    if rectified:
        inner = values[0].dim()
        unit = 1 + unit_dim % inner if inner else 0
        other = [d for d in range(1, values.dim()) if d != unit]
        peak = values.abs().amax(dim=other) if other else values.abs()
        silent = (peak <= DEAD_BELOW).reshape(len(values), -1)
        found["dead_units"] = silent.mean(dim=1, dtype=torch.float32)
    found["minimum"], found["maximum"] = torch.aminmax(rows, dim=1)
    return found


def completed(statistics: Mapping[str, float]) -> dict[str, float]:
    """Return statistics that were read, with ``non_finite`` beside them.

    An extreme of values is not finite exactly where one of them is not: NaN passes through both.

    Example:
        >>> completed({"minimum": 0.0, "maximum": float("inf")})["non_finite"]
        1.0
    """
    known = (statistics["minimum"], statistics["maximum"])
    return {**statistics, "non_finite": float(not all(map(math.isfinite, known)))}


def operand_statistics(operand: Tensor) -> dict[str, Tensor]:
    """Return the statistics of an operand by name, 0-d, still on its device.

    The names are among ``OPERAND_STATISTICS``; ``completed`` adds ``non_finite`` on the host. Sums
    over rows run over dimension 1, and are left out for tensors with fewer than two dimensions;
    ``column_std`` is the typical standard deviation of one output over the samples;
    ``smallest`` is the smallest magnitude. Extremes rest on all elements; whether numbers are whole
    and what rows sum to, on evenly spaced samples where there are more than 65,536.

    Args:
        operand: Real tensor of any type with at least one element.

    Example:
        >>> softmaxed = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
        >>> round(float(operand_statistics(softmaxed)["row_sum_error"]), 6)
        0.0
    """
    values = operand.detach()
    if values.is_complex():
        values = values.abs()
    values = values if values.dtype == torch.float64 else values.float()
    found = _moments(values)
    found["minimum"], found["maximum"] = torch.aminmax(values)
    found["smallest"] = values.abs().amin()
    rows = values
    if rows.dim() and rows.numel() > LARGEST_WHOLE:
        rows = rows[:: -(-rows.numel() // LARGEST_WHOLE)]
    found["integer"] = (rows == rows.round()).all().to(values.dtype)
    if rows.dim() >= 2 and operand.is_floating_point():
        found["row_sum_error"] = (rows.sum(dim=1) - 1).abs().amax()
        found["row_exponential_sum_error"] = (rows.exp().sum(dim=1) - 1).abs().amax()
        if len(rows) > 1:
            apart = torch.linalg.vector_norm(rows - rows.mean(dim=0))
            found["column_std"] = apart / math.sqrt(rows.numel() * (len(rows) - 1) / len(rows))
    return found


def _moments(values: Tensor) -> dict[str, Tensor]:
    """Return mean and standard deviation: two reads, several times faster than ``std``."""
    mean = values.mean()
    spread = torch.linalg.vector_norm(values - mean) / math.sqrt(values.numel())
    return {"mean": mean, "std": spread}


def _comparable(output: Tensor) -> Tensor:
    """Return values whose order torch knows: magnitudes of complex ones, wider than eight bits."""
    values = output.detach()
    if values.is_complex():
        return values.abs()
    return values if values.element_size() > 1 else values.float()


def _unit_extremes(values: Tensor, unit_dim: int) -> tuple[Tensor, Tensor]:
    """Return the least and the largest value of each unit."""
    other = [d for d in range(values.dim()) if d != unit_dim % values.dim()] if values.dim() else []
    return (values.amin(dim=other), values.amax(dim=other)) if other else (values, values)
