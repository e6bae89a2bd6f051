"""Frozen data to plain JSON types and back."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from lightning_plateau.core.profile import Value

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")


@cache
def _converter() -> Converter:
    # Here, because it takes longer to import than all of this package but the rules.
    from cattrs.preconf.json import make_converter

    converter = make_converter()
    # Strict JSON has no NaN and no infinity: they travel as strings that float() reads back.
    converter.register_unstructure_hook(float, _write_scalar)
    converter.register_unstructure_hook(Value, _write_scalar)
    converter.register_structure_hook(float, lambda x, _: float(x))
    # By predicate: cattrs has a hook of its own for unions of JSON types, which goes before types.
    converter.register_structure_hook_func(lambda kind: kind == Value, lambda x, _: _read_scalar(x))
    return converter


def _write_scalar(value: Any) -> Any:
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def _read_scalar(value: Any) -> Any:
    return float(value) if value in ("nan", "inf", "-inf") else value


def to_plain(value: Any) -> Any:
    """Return frozen data of this package as dicts, lists and scalars that strict JSON can hold.

    Example:
        >>> from lightning_plateau.core.finding import Evidence
        >>> to_plain(Evidence("gradient/norm", float("inf"), 10.0))["value"]
        'inf'
    """
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return _converter().unstructure(value)


def from_plain(kind: type[T], value: Any) -> T:
    """Return the object of type ``kind`` that ``to_plain`` made ``value`` of.

    Raises:
        ValueError: If ``value`` does not describe such an object.
    """
    try:
        return _converter().structure(value, kind)
    except Exception as error:
        raise ValueError(
            f"expected the plain form of {kind}, but received {str(value)[:200]}: {error}"
        ) from error
