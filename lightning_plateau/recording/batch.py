"""The tensors of a batch, whatever it is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor


def leaves(batch: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor of ``batch`` with its path, in order.

    Mappings, sequences, named tuples, dataclasses and objects with attributes are walked through.

    Example:
        >>> import torch
        >>> [path for path, _ in leaves({"image": torch.zeros(2), "boxes": [torch.ones(1)]})]
        ['image', 'boxes.0']
    """
    if isinstance(batch, Tensor):
        yield path or "batch", batch
        return
    for name, value in _children(batch):
        yield from leaves(value, f"{path}.{name}" if path else str(name))


def _children(node: Any) -> Iterator[tuple[Any, Any]]:
    if node is None or isinstance(node, str | bytes | int | float):
        return
    if isinstance(node, Mapping):
        yield from node.items()
    elif isinstance(node, tuple) and hasattr(node, "_fields"):  # a named tuple
        yield from zip(node._fields, node, strict=True)
    elif isinstance(node, Sequence):
        yield from enumerate(node)
    elif dataclasses.is_dataclass(node):
        yield from ((field.name, getattr(node, field.name)) for field in dataclasses.fields(node))
    else:
        yield from vars(node).items() if hasattr(node, "__dict__") else ()


def batch_size(batch: Any) -> int:
    """Return the number of samples of ``batch``: the longest first dimension among its tensors.

    Example:
        >>> import torch
        >>> batch_size((torch.zeros(8, 3), torch.tensor(1)))
        8
    """
    return max((leaf.shape[0] for _, leaf in leaves(batch) if leaf.dim()), default=1)
