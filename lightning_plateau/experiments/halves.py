"""Half of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lightning_plateau.experiments.sandbox import InconclusiveError
from lightning_plateau.recording.batch import leaves


def first_half(batch: Any) -> Any:
    """Return the first half of the samples of a batch of mappings, sequences and tensors.

    Raises:
        InconclusiveError: If the batch is something else, or its tensors differ in their number of
            samples.

    Example:
        >>> import torch
        >>> [len(part) for part in first_half([torch.zeros(8, 3), torch.zeros(8)])]
        [4, 4]
    """
    sizes = {leaf.shape[:1] for _, leaf in leaves(batch)}
    if len(sizes) != 1 or sizes == {()} or next(iter(sizes))[0] < 2:
        raise InconclusiveError("the tensors of the batch do not have one row for each sample")
    return _cut(batch, next(iter(sizes))[0] // 2)


def _cut(node: Any, number: int) -> Any:
    if isinstance(node, Tensor):
        return node[:number]
    if isinstance(node, Mapping):
        return {key: _cut(value, number) for key, value in node.items()}
    if isinstance(node, tuple | list) and not hasattr(node, "_fields"):
        return type(node)(_cut(value, number) for value in node)
    if isinstance(node, tuple):  # a named tuple
        return type(node)(*(_cut(value, number) for value in node))
    raise InconclusiveError(f"the batch holds a {type(node).__name__}, which cannot be halved")
