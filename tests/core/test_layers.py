from __future__ import annotations

from lightning_plateau.core.history import History
from lightning_plateau.core.layers import weights_by_depth
from lightning_plateau.core.profile import ModuleFact, ParameterFact, Profile
from lightning_plateau.core.tape import Operand, Operation, Tape


def parameter(name: str, shape: tuple[int, ...] = (4, 4)) -> Operand:
    return Operand("parameter", name=name, shape=shape)


def test_the_order_is_that_of_the_calls() -> None:
    profile = Profile(tuple(ParameterFact(n, "", (4, 4)) for n in ("head", "body")))
    calls = (
        Operation(0, "linear", "", (Operand("batch", 0), parameter("body"), parameter("b", (4,)))),
        Operation(1, "batch_norm", "", (Operand("operation", 0), parameter("scale", (4,)))),
        Operation(2, "linear", "", (Operand("operation", 1), parameter("head"))),
        Operation(3, "linear", "", (Operand("operation", 2), parameter("body"))),
    )
    assert weights_by_depth(History(profile=profile, tapes=(Tape(0, calls, 3),))) == (
        "body",
        "head",
    )


def test_what_the_loss_does_not_depend_on_is_left_out() -> None:
    calls = (
        Operation(0, "linear", "", (Operand("batch", 0), parameter("used"))),
        Operation(1, "linear", "", (Operand("batch", 0), parameter("unused"))),
    )
    assert weights_by_depth(History(tapes=(Tape(0, calls, 0),))) == ("used",)


def test_without_a_tape_the_order_is_that_of_the_definition() -> None:
    profile = Profile(
        parameters=(
            ParameterFact("embed.weight", "embed", (100, 4)),
            ParameterFact("a.weight", "a", (4, 4)),
            ParameterFact("a.bias", "a", (4,)),
            ParameterFact("frozen.weight", "frozen", (4, 4), trainable=False),
            ParameterFact("b.weight", "b", (4, 4)),
        ),
        modules=(ModuleFact("embed", "Embedding"), ModuleFact("a", "Linear")),
    )
    assert weights_by_depth(History(profile=profile)) == ("a.weight", "b.weight")
