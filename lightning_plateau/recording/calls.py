"""What a torch function was called with: its name, and its arguments by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

POSITIONAL = {
    "softmax": ("dim",),
    "log_softmax": ("dim",),
    "sum": ("dim",),
    "mean": ("dim",),
    "logsumexp": ("dim",),
    "pow": ("exponent",),
    "getitem": ("index",),
    "dropout": ("p", "training"),
    "view": (),
    "reshape": (),
}

TRANSPOSED = frozenset({"T", "mT", "H", "mH"})
"""Properties of a tensor that exchange dimensions; the others read the elements as they are."""


def operation_name(function: Callable[..., Any]) -> str:
    """Return the name of a torch function as the tape writes it.

    Example:
        >>> import torch
        >>> operation_name(torch.Tensor.__rsub__), operation_name(torch.relu_)
        ('rsub', 'relu')
        >>> operation_name(torch.Tensor.T.__get__), operation_name(torch.Tensor.real.__get__)
        ('t', 'view')
    """
    name = getattr(function, "__name__", "unknown")
    if name == "__get__":  # properties that return tensors: x.T, x.real
        attribute = getattr(getattr(function, "__self__", None), "__name__", "")
        return "t" if attribute in TRANSPOSED else "view"
    return name.strip("_") or "unknown"


@lru_cache(maxsize=1024)
def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (ValueError, TypeError):
        return None


@lru_cache(maxsize=1024)
def _simple_names(function: Callable[..., Any]) -> dict[str, Any] | None:
    """Return names and defaults in order, of a function without ``*`` in its signature."""
    signature = _signature(function)
    if signature is None:
        return None
    parameters = signature.parameters.values()
    plain = inspect.Parameter.POSITIONAL_OR_KEYWORD
    if any(parameter.kind is not plain for parameter in parameters):
        return None
    return {parameter.name: parameter.default for parameter in parameters}


def _quickly_bound(
    names: Mapping[str, Any] | None, args: Any, kwargs: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return what ``bind`` and ``apply_defaults`` do, which take as long as a small layer does."""
    if names is None or len(args) > len(names):
        return None
    given = dict(zip(names, args, strict=False))
    if given.keys() & kwargs.keys() or not kwargs.keys() <= names.keys():
        return None
    given.update(kwargs)
    bound = {name: given.get(name, default) for name, default in names.items()}
    missing = any(value is inspect.Parameter.empty for value in bound.values())
    return None if missing else bound


def bound_arguments(
    function: Callable[..., Any], name: str, args: Any, kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments by name, in order; ``arg0``, ``arg1`` where names are unknown."""
    quickly = _quickly_bound(_simple_names(function), args, kwargs)
    if quickly is not None:
        return quickly
    signature = _signature(function)
    if signature is not None:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            pass
        else:
            bound.apply_defaults()
            return dict(bound.arguments)
    names = POSITIONAL.get(name, ())
    named = {}
    for index, value in enumerate(args):
        known = 0 < index <= len(names)
        named[names[index - 1] if known else f"arg{index}"] = value
    return {**named, **kwargs}
