from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lightning_plateau.core.profile import GroupFact, OptimizerFact, ParameterFact, Profile
from lightning_plateau.core.signal import (
    GRADIENT_NORM,
    GRADIENT_NORMS,
    LOSS_PER_OPTIMIZER,
    UPDATE_RATIOS,
)
from lightning_plateau.core.tape import Operand, Operation, Tape
from lightning_plateau.rules.no_gradient import NoGradient
from lightning_plateau.testing import history

NAN = float("nan")


def check(
    norms: dict[str, float | list[float]], *, rows: int = 20, loss: float = 2.3, **facts: Any
) -> Any:
    columns = {n: v if isinstance(v, list) else [v] * rows for n, v in norms.items()}
    total = facts.pop("total", 1.0)
    more = facts.pop("more", {})
    series = {GRADIENT_NORMS: columns, GRADIENT_NORM: [total] * rows, **more}
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


def test_where_gradients_are_switched_off_the_first_call_is_named() -> None:
    off = [replace(operation, requires_grad=False) for operation in DETACHED.operations[:1]]
    off.append(Operation(1, "linear", "neck", (made(0), parameter("neck")), requires_grad=False))
    off.append(Operation(2, "abs", "", (made(1),), requires_grad=False))
    off.append(Operation(3, "linear", "head", (made(2), parameter("head"))))
    finding = check({"body": NAN, "neck": NAN, "head": 1.0}, tapes=[Tape(0, tuple(off), root=3)])
    assert finding is not None
    assert finding.message.endswith("(from body (linear) on, forward runs without gradients)")
    assert "no_grad" in finding.fix


def test_gradients_that_were_cleared_before_the_step() -> None:
    whole = Tape(0, (DETACHED.operations[0], Operation(1, "mean", "", (made(0),))), root=1)
    finding = check({"body": NAN, "other": NAN}, total=0.0, tapes=[whole])
    assert finding is not None
    assert finding.confidence > 0.9
    assert "zero_grad() must not come between backward() and step()" in finding.fix


def players(generator: float, second_loss: float) -> Any:
    names = ("generator", "critic")
    facts = tuple(ParameterFact(name, name, (4, 4)) for name in names)
    optimizers = tuple(OptimizerFact("Adam", (GroupFact((name,)),)) for name in names)
    return check(
        {"generator": generator, "critic": 1.0},
        profile=Profile(facts, optimizers=optimizers),
        more={LOSS_PER_OPTIMIZER: {"0": [0.7] * 20, "1": [second_loss] * 20}},
    )


def rounded(*, around: bool) -> Tape:
    """A code is rounded, and the sum of it and what it was made of may reach the loss."""
    joined = (made(1), made(0)) if around else (made(1),)
    return Tape(
        0,
        (
            Operation(0, "linear", "body", (Operand("batch", 0, "x"), parameter("body"))),
            Operation(1, "round", "code", (made(0),)),
            Operation(2, "cat", "", joined),
            Operation(3, "linear", "head", (made(2), parameter("head"))),
            Operation(4, "mse_loss", "", (made(3), Operand("batch", 1, "y"))),
        ),
        root=4,
    )


def test_a_function_of_steps_is_a_certain_reason() -> None:
    finding = check({"body": 0.0, "head": 1.0}, tapes=[rounded(around=False)])
    assert finding is not None
    assert finding.certain
    assert finding.where == "code (round)"


def test_a_way_around_the_steps_leaves_the_reason_open() -> None:
    finding = check({"body": 0.0, "head": 1.0}, tapes=[rounded(around=True)])
    assert finding is not None
    assert not finding.certain
    assert check({"body": 0.1, "head": 1.0}, tapes=[rounded(around=True)]) is None


def test_an_optimizer_that_steps_in_vain() -> None:
    finding = players(NAN, 1.4)
    assert finding is not None
    assert finding.certain
    assert finding.message.startswith("optimizer 0 (Adam) made the last 20 steps on a loss of its")
    assert players(0.5, 1.4) is None


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


def unrolled(*, handed_on: bool) -> Tape:
    weights = parameter("cell.weight_ih"), parameter("cell.weight_hh")
    calls = []
    for index in range(0, 8, 2):
        state = made(index - 1) if handed_on and index else made(index)
        calls += [
            Operation(index, "zeros"),
            Operation(index + 1, "gru_cell", "cell", (Operand("batch", 0, "x"), state, *weights)),
        ]
    return Tape(0, (*calls, Operation(8, "mse_loss", "", (made(7), Operand("batch", 1)))), root=8)


@pytest.mark.parametrize(("handed_on", "likely"), [(False, True), (True, False)])
def test_a_state_that_is_never_handed_on(*, handed_on: bool, likely: bool) -> None:
    norms = {"cell.weight_ih": 1.0, "cell.weight_hh": 0.0}
    finding = check(norms, tapes=[unrolled(handed_on=handed_on)])
    assert finding is not None
    assert ("4 times with a new state" in finding.message) is likely
    assert (finding.certainty == "likely") is likely


def test_by_hand_not_one_step_had_a_gradient() -> None:
    still = {"body": NAN, "head": NAN}
    for moved, certain in ((0.0, True), (1e-3, False)):
        updates = {UPDATE_RATIOS: {"body": [moved] * 4, "head": [moved] * 4}}
        finding = check(still, total=0.0, more=updates, profile=Profile(manual_optimization=True))
        assert finding is not None
        assert finding.certain is certain
    cut_off = Tape(0, (Operation(0, "tensor", requires_grad=False),), root=-1)
    updates = {UPDATE_RATIOS: {"body": [0.0] * 4, "head": [0.0] * 4}}
    by_hand = Profile(manual_optimization=True)
    finding = check(still, total=0.0, more=updates, profile=by_hand, tapes=[cut_off])
    assert finding is not None
    assert not finding.certain
