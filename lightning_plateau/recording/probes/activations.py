"""Statistics of the tensors that operations take and make."""

from __future__ import annotations

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
    "smallest",
)
SAMPLE = 16384
DEAD_BELOW = 1e-5
SATURATED_BEYOND = 5.0


def thinned(tensor: Tensor, limit: int = SAMPLE) -> Tensor:
    """Return at most ``limit`` evenly spaced elements, flat, float32 or float64."""
    flat = spread(tensor.detach(), limit)
    if flat.is_complex():
        flat = flat.abs()
    return flat if flat.dtype == torch.float64 else flat.float()


def unit_dimension(shape: tuple[int, ...], convolved: bool) -> int:
    """Return the dimension that counts units: the channels after a convolution, else the last."""
    return 1 if convolved and len(shape) > 2 else len(shape) - 1


def output_statistics(
    output: Tensor,
    *,
    rectified: bool = False,
    squashed_input: Tensor | None = None,
    unit_dim: int = -1,
) -> Tensor:
    """Return the statistics of an operation's output, ``[7]`` float32, still on its device.

    The columns are ``OUTPUT_STATISTICS``. Moments rest on at most 16,384 evenly spaced elements;
    ``non_finite`` and ``dead_units`` on all of them.

    Args:
        output: Floating-point tensor with at least one element.
        rectified: Whether to count dead units (units without one value beyond 1e-5 in the batch).
        squashed_input: Input of a squashing function, to tell the share of values outside ±5.
        unit_dim: Dimension that counts units.

    Example:
        >>> dead = torch.tensor([[0.0, 1.0], [0.0, 2.0]])
        >>> output_statistics(dead, rectified=True)[5]
        tensor(0.5000)
    """
    values = thinned(output)
    lowest, highest = torch.aminmax(values)
    nothing = torch.full((), float("nan"), device=values.device, dtype=values.dtype)
    dead = saturated = nothing
    if rectified:
        size = output.detach().abs()
        other = [d for d in range(size.dim()) if d != unit_dim % size.dim()]
        peak = size.amax(dim=other) if other else size
        dead = (peak <= DEAD_BELOW).to(values.dtype).mean()
    if squashed_input is not None:
        saturated = (thinned(squashed_input).abs() > SATURATED_BEYOND).to(values.dtype).mean()
    broken = torch.isfinite(output.detach()).all().logical_not().to(values.dtype)
    return torch.stack(
        [values.mean(), values.std(correction=0), lowest, highest, broken, dead, saturated]
    ).float()


def operand_statistics(operand: Tensor) -> Tensor:
    """Return the statistics of an operand, ``[9]`` float32, still on its device.

    The columns are ``OPERAND_STATISTICS``; sums over rows run over dimension 1 and are NaN for
    tensors with fewer than two dimensions; ``smallest`` is the smallest magnitude.

    Args:
        operand: Real tensor of any type with at least one element.

    Example:
        >>> softmaxed = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
        >>> round(float(operand_statistics(softmaxed)[6]), 6)
        0.0
    """
    values = operand.detach()
    if values.is_complex():
        values = values.abs()
    values = values if values.dtype == torch.float64 else values.float()
    lowest, highest = torch.aminmax(values)
    nothing = torch.full((), float("nan"), device=values.device, dtype=values.dtype)
    sums = exponential_sums = nothing
    if values.dim() >= 2 and operand.is_floating_point():
        sums = (values.sum(dim=1) - 1).abs().amax()
        exponential_sums = (values.exp().sum(dim=1) - 1).abs().amax()
    whole = (values == values.round()).all().to(values.dtype)
    broken = torch.isfinite(values).all().logical_not().to(values.dtype)
    return torch.stack(
        [
            lowest,
            highest,
            values.mean(),
            values.std(correction=0),
            broken,
            whole,
            sums,
            exponential_sums,
            values.abs().amin(),
        ]
    ).float()
