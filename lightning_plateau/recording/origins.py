"""Where the tensors of a forward pass come from."""

from __future__ import annotations

from weakref import ReferenceType, ref

from torch import Tensor

from lightning_plateau.core.tape import Operand


class Origins:
    """Remembers of tensors where they come from, and keeps none of them alive.

    They are known by their identity, for tensors compare by their values. The identity of one that
    died may be given to another: the reference tells.

    Example:
        >>> import torch
        >>> origins, tensor = Origins(), torch.zeros(2)
        >>> origins.set(tensor, Operand("batch", 0, "x"))
        >>> origins.get(tensor).name, origins.get(torch.zeros(2))
        ('x', None)
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[ReferenceType[Tensor], Operand]] = {}

    def set(self, tensor: Tensor, operand: Operand) -> None:
        """Remember that ``tensor`` comes from ``operand``."""
        self._known[id(tensor)] = (ref(tensor), operand)

    def get(self, tensor: Tensor) -> Operand | None:
        """Return where ``tensor`` comes from; None where nobody said."""
        found = self._known.get(id(tensor))
        return found[1] if found is not None and found[0]() is tensor else None
