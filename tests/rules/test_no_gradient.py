from __future__ import annotations

from typing import Any

import pytest

from lightning_plateau.core.profile import ParameterFact, Profile
from lightning_plateau.core.signal import GRADIENT_NORM, GRADIENT_NORMS
from lightning_plateau.core.tape import Operand, Operation, Tape
from lightning_plateau.rules.no_gradient import NoGradient
from lightning_plateau.testing import history

NAN = float("nan")


def check(
    norms: dict[str, float | list[float]], *, rows: int = 20, loss: float = 2.3, **facts: Any
) -> Any:
    columns = {n: v if isinstance(v, list) else [v] * rows for n, v in norms.items()}
    total = facts.pop("total", 1.0)
    series = {GRADIENT_NORMS: columns, GRADIENT_NORM: [total] * rows}
    return NoGradient().check(history(series, loss=[loss] * rows, **facts))


def parameter(name: str) -> Operand:
    return Operand("parameter", name=name, shape=(4, 4))


def made(index: int) -> Operand:
    return Operand("operation", index)


DETACHED = Tape(
    0,
    (
        Operation(0, "linear", "body", (Operand("batch", 0, "x"), parameter("body"))),
        Operation(1, "detach", "", (made(0),), requires_grad=False),
        Operation(2, "linear", "head", (made(1), parameter("head"))),
        Operation(3, "cross_entropy", "", (made(2), Operand("batch", 1, "y"))),
    ),
    root=3,
)


@pytest.mark.parametrize("absent", [NAN, 0.0])
def test_absent_and_zero_alike(absent: float) -> None:
    finding = check({"body": absent, "head": 1.0})
    assert finding is not None
    assert finding.message == "1 of 2 parameters got no gradient in the last 20 steps: body"


def test_a_cut_is_named_and_makes_it_likely() -> None:
    finding = check({"body": NAN, "head": 1.0}, tapes=[DETACHED])
    assert finding is not None
    assert finding.where == "detach"
    assert finding.confidence > 0.8
    unused = check({"body": 1.0, "head": 1.0, "spare": NAN}, tapes=[DETACHED])
    assert unused is not None
    assert unused.confidence < 0.6


def test_zero_gradients_name_the_last_layer_before_them() -> None:
    dead = Tape(0, (DETACHED.operations[0], Operation(1, "relu", "act", (made(0),))), 1)
    finding = check({"body": 0.0, "other": 1.0}, tapes=[dead])
    assert finding is not None
    assert finding.where == "body (linear)"


def test_all_parameters() -> None:
    finding = check({"body": 0.0, "head": 0.0}, total=0.0)
    assert finding is not None
    assert finding.message.startswith("2 of 2")


@pytest.mark.parametrize(
    ("norms", "facts"),
    [
        pytest.param({}, {}, id="nothing recorded"),
        pytest.param({"body": 1e-12, "head": 1.0}, {}, id="small is not zero"),
        pytest.param({"body": 0.0, "head": 1.0}, {"rows": 3}, id="too few steps"),
        pytest.param({"body": [0.0] * 19 + [1.0], "head": 1.0}, {}, id="rests now and then"),
        pytest.param({"body": [0.0] + [1.0] * 19, "head": 1.0}, {}, id="zero-start branch"),
        pytest.param({"body": 0.0}, {"loss": 0.0, "total": 0.0}, id="the loss is at zero"),
        pytest.param({"body": NAN}, {"total": NAN}, id="gradients are NaN, not absent"),
        pytest.param(
            {"body": NAN, "head": 1.0},
            {"profile": Profile(parameters=(ParameterFact("body", "", (4,), trainable=False),))},
            id="frozen on purpose",
        ),
    ],
)
def test_is_silent(norms: dict[str, Any], facts: dict[str, Any]) -> None:
    assert check(norms, **facts) is None
