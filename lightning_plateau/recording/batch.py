"""The tensors of a batch, whatever it is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from torch import Tensor, nn

MOST = 256
"""Tensors of a batch that are looked at."""

_LEAVES = (str, bytes, bytearray, memoryview, int, float, range, type, nn.Module)


def leaves(batch: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the first 256 tensors of ``batch`` with their paths, in order.

    Mappings, sequences, named tuples, dataclasses and objects with attributes are walked through.

    Example:
        >>> import torch
        >>> [path for path, _ in leaves({"image": torch.zeros(2), "boxes": [torch.ones(1)]})]
        ['image', 'boxes.0']
    """
    return islice(_walk(batch, "", frozenset()), MOST)


def _walk(node: Any, path: str, above: frozenset[int]) -> Iterator[tuple[str, Tensor]]:
    if isinstance(node, Tensor):
        yield path or "batch", node
    elif id(node) not in above:  # a node that holds itself would have no end
        for name, value in _children(node):
            yield from _walk(value, f"{path}.{name}" if path else str(name), above | {id(node)})


def _children(node: Any) -> Iterator[tuple[Any, Any]]:
    if node is None or isinstance(node, _LEAVES):
        return
    if isinstance(node, Mapping):
        yield from node.items()
    elif isinstance(node, tuple) and hasattr(node, "_fields"):  # a named tuple
        yield from zip(node._fields, node, strict=True)
    elif isinstance(node, Sequence):
        yield from enumerate(node)
    elif dataclasses.is_dataclass(node):
        names = (field.name for field in dataclasses.fields(node))
        yield from ((name, getattr(node, name, None)) for name in names)
    else:
        yield from vars(node).items() if hasattr(node, "__dict__") else ()


def batch_size(batch: Any) -> int:
    """Return the number of samples of ``batch``: the longest first dimension among its tensors.

    Example:
        >>> import torch
        >>> batch_size((torch.zeros(8, 3), torch.tensor(1)))
        8
    """
    return max((leaf.size(0) for _, leaf in leaves(batch) if leaf.dim()), default=1)
