"""The part of JSON Schema that ours are written in, checked without a library."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

KINDS: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}
ANNOTATIONS = {"$schema", "title", "description"}
KNOWN = ANNOTATIONS | {
    "type",
    "enum",
    "anyOf",
    "items",
    "required",
    "properties",
    "additionalProperties",
    "pattern",
    "minimum",
    "maximum",
}


def errors(value: Any, schema: dict[str, Any], at: str = "$") -> Iterator[str]:
    """Yield where ``value`` is not what ``schema`` says; keys it does not list are errors, too."""
    assert set(schema) <= KNOWN, f"{set(schema) - KNOWN} is not understood here"
    if "anyOf" in schema:
        tried = [list(errors(value, one, at)) for one in schema["anyOf"]]
        yield from () if any(not found for found in tried) else min(tried, key=len)
        return
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        yield f"{at}: expected {kinds}, found {value!r}"
        return
    yield from _bounds(value, schema, at)
    if isinstance(value, dict):
        yield from _members(value, schema, at)
    if isinstance(value, list):
        for place, item in enumerate(value):
            yield from errors(item, schema.get("items", {}), f"{at}[{place}]")


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool) and kind != "boolean":
        return False
    return isinstance(value, KINDS[kind])


def _bounds(value: Any, schema: dict[str, Any], at: str) -> Iterator[str]:
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is none of {schema['enum']}"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{at}: {value!r} does not match {schema['pattern']}"
    if isinstance(value, int | float):
        low, high = schema.get("minimum", value), schema.get("maximum", value)
        if not low <= value <= high:
            yield f"{at}: {value!r} is not in {low} … {high}"


def _members(value: dict[str, Any], schema: dict[str, Any], at: str) -> Iterator[str]:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    yield from (f"{at}: no {name}" for name in schema.get("required", ()) if name not in value)
    for name, item in value.items():
        if name in properties:
            yield from errors(item, properties[name], f"{at}.{name}")
        elif others is not None:
            yield from errors(item, others, f"{at}.{name}")
        elif properties:
            yield f"{at}: {name} is not in the schema"
