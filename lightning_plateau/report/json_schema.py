"""What ``--json`` prints, command by command, in the words of JSON Schema.

A key that is listed is always there; keys may be added in later versions, and none is renamed.
Numbers that JSON has no word for (NaN, infinities) are the strings ``nan``, ``inf``, ``-inf``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
STEP: Schema = {"type": "integer"}
YES_OR_NO: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": ["number", "string"]}
SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
CODE: Schema = {"type": "string", "pattern": "^LP[0-9]{3}$"}
SEVERITY: Schema = {"enum": ["info", "warning", "error"]}


def _object(told: str = "", /, **properties: Schema) -> Schema:
    made: Schema = {"type": "object", "properties": properties, "required": [*properties]}
    return {"description": told, **made} if told else made


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _or_null(kind: Schema) -> Schema:
    return {"anyOf": [kind, {"type": "null"}]}


def _mapping(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


VALUES = _mapping({"type": ["number", "string", "boolean", "null"]})
EVIDENCE = _object(
    "a measured value beside the limit that a sound training stays on the right side of",
    quantity=TEXT,
    value=NUMBER,
    limit={"type": ["number", "string", "null"]},
    where=TEXT,
    unit=TEXT,
)
FINDING = _object(
    "a fault that was found; explained_by is the code of its cause, or empty",
    code=TEXT,
    name=TEXT,
    step=STEP,
    severity=SEVERITY,
    confidence=SHARE,
    message=TEXT,
    evidence=_list(EVIDENCE),
    why=TEXT,
    fix=TEXT,
    where=TEXT,
    line=TEXT,
    remedies=_list(TEXT),
    explains=_list(TEXT),
    explained_by=TEXT,
)
INTERVENTION = _object(
    "a remedy that was applied, with what it changed",
    number=COUNT,
    step=STEP,
    remedy=TEXT,
    code=TEXT,
    before=VALUES,
    after=VALUES,
    dry_run=YES_OR_NO,
)
OUTCOME = _object(
    "what became of it, with what was measured",
    number=COUNT,
    step=STEP,
    remedy=TEXT,
    code=TEXT,
    verdict={"enum": ["kept", "reverted", "unfinished"]},
    reason=TEXT,
    before=VALUES,
    after=VALUES,
)
TREATMENT = _object(intervention=INTERVENTION, outcome=_or_null(OUTCOME), verdict=TEXT, times=COUNT)
RULE = _object(
    code=CODE,
    name=TEXT,
    kind={"enum": ["cause", "symptom"]},
    severity=SEVERITY,
    summary=TEXT,
    explains=_list(TEXT),
    remedies=_list(TEXT),
    reads=_list(TEXT),
)
REMEDY = _object(
    name=TEXT,
    safety={"enum": ["safe", "unsafe", "advice"]},
    summary=TEXT,
    standing=YES_OR_NO,
    answers=_list(CODE),
)
DIAGNOSIS = _object(
    healthy=YES_OR_NO, steps=COUNT, findings=_list(FINDING), read_from=_mapping(TEXT)
)
REPORT = _object(
    health={"enum": ["healthy", "sick", "treated"]},
    steps=COUNT,
    finished=YES_OR_NO,
    findings=_list(FINDING),
    had=_list(FINDING),
    advice=_list(_object(code=TEXT, text=TEXT)),
    treatments=_list(TREATMENT),
    files=_list(TEXT),
    read_from=_mapping(TEXT),
)
COMPARISON = _object(
    runs=_list(TEXT), rows=_list(_object(name=TEXT, values=_list(TEXT), differs=YES_OR_NO))
)
CHECK = _object(
    healthy=YES_OR_NO,
    steps=COUNT,
    elapsed_s={"type": "number"},
    error=TEXT,
    findings=_list(FINDING),
    experiments=_list(TEXT),
)
TUNE = _object(
    found=YES_OR_NO,
    monitor=TEXT,
    value={"type": ["number", "string", "null"]},
    trial=_or_null(COUNT),
    parameters=VALUES,
    configuration={},
    trials=_mapping(COUNT),
    died=_list(_object(reason=TEXT, trials=_list(COUNT), values={})),
    notes=_list(TEXT),
    stopped={"type": ["object", "null"]},
    elapsed_s={"type": "number"},
    files=_list(TEXT),
)
DEMO = _object(accuracy=_object(untreated=SHARE, treated=SHARE), report=REPORT)


def _with_text(kind: Schema) -> Schema:
    return _object(**{**kind["properties"], "text": TEXT})


SCHEMAS: Mapping[str, Schema] = MappingProxyType(
    {
        "check": CHECK,
        "demo": {"anyOf": [DEMO, _mapping(TEXT)]},
        "diagnose": DIAGNOSIS,
        "explain": {"anyOf": [_with_text(RULE), _with_text(REMEDY)]},
        "remedies": _list(REMEDY),
        "report": {"anyOf": [REPORT, COMPARISON]},
        "rules": _list(RULE),
        "tune": TUNE,
    }
)
"""By command: the schema of what it prints with ``--json``."""


def schema(command: str) -> Schema:
    """Return the JSON Schema of what a command prints with ``--json``.

    Args:
        command: Name of a command that answers in JSON.

    Raises:
        ValueError: If there is no such command; the message names those that there are.

    Example:
        >>> schema("diagnose")["required"]
        ['healthy', 'steps', 'findings', 'read_from']
    """
    if command not in SCHEMAS:
        known = ", ".join(SCHEMAS)
        raise ValueError(f"expected a command that answers in JSON ({known}), but got {command!r}")
    about = f"what `lightning-plateau {command} --json` prints"
    return {"$schema": DIALECT, "title": about, **SCHEMAS[command]}
