from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_plateau.core.finding import Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.profile import OptimizerFact, ParameterFact, Profile
from lightning_plateau.core.signal import GRADIENT_NORM, GRADIENT_NORMS
from lightning_plateau.core.tape import Operand, Operation, Tape
from lightning_plateau.rules.parameters_not_optimized import ParametersNotOptimized
from lightning_plateau.testing import history
from tests.rules.taped import labels, optimizing, points, taped

RULE = ParametersNotOptimized()


def network(body: nn.Module | None = None) -> nn.ModuleDict:
    return nn.ModuleDict({"body": body or nn.Linear(4, 8), "head": nn.Linear(8, 3)})


def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    assert isinstance(net, nn.ModuleDict)
    return F.cross_entropy(net["head"](torch.relu(net["body"](x))), y)


def run(net: nn.ModuleDict | None = None) -> History:
    return taped(loss, net or network(), points(), labels())


def test_forgotten_head_is_an_error() -> None:
    found = RULE.check(optimizing(run(), "body"))
    assert found is not None
    assert found.certain
    assert found.severity is Severity.ERROR
    assert found.where == "head.weight"


def test_forgotten_body_is_a_warning() -> None:
    found = RULE.check(optimizing(run(), "head"))
    assert found is not None
    assert found.certain
    assert found.severity is Severity.WARNING


def test_layers_in_a_plain_list_that_were_made_known_late() -> None:
    recurrent = nn.ModuleDict({"body": nn.GRU(4, 8), "head": nn.Linear(8, 3)})

    def last_state(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        assert isinstance(net, nn.ModuleDict)
        return F.cross_entropy(net["head"](net["body"](x[None])[0][-1]), y)

    found = RULE.check(optimizing(taped(last_state, recurrent, points(), labels()), "head"))
    assert found is not None
    assert "4 of 6" in found.message


def test_all_optimized() -> None:
    assert RULE.check(run()) is None


def test_frozen_in_earnest() -> None:
    net = network()
    net["body"].requires_grad_(False)
    assert RULE.check(optimizing(run(net), "head")) is None


def test_teacher_under_no_grad() -> None:
    def distilled(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        assert isinstance(net, nn.ModuleDict)
        with torch.no_grad():
            features = net["body"](x)
        return F.cross_entropy(net["head"](features), y)

    assert RULE.check(optimizing(taped(distilled, network(), points(), labels()), "head")) is None


def test_unused_branch() -> None:
    net = network()
    net["spare"] = nn.Linear(4, 4)
    assert RULE.check(optimizing(run(net), "body", "head")) is None


def test_no_optimizer_at_all_is_not_its_affair() -> None:
    assert RULE.check(optimizing(run(), "nothing")) is None


class Hidden(nn.Module):
    """Keeps its layers where ``parameters()`` does not look."""

    def __init__(self, held: bool = False) -> None:
        super().__init__()
        layers = [nn.Linear(4, 8), nn.Linear(8, 8)]
        self.layers = nn.ModuleList(layers) if held else layers
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.head(x)


def plain_loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(net(x), y)


def test_layers_in_a_plain_list() -> None:
    found = RULE.check(taped(plain_loss, Hidden(), points(), labels()))
    assert found is not None
    assert found.certain
    assert "4 trainable parameters that the module does not know" in found.message
    assert "nn.ModuleList" in found.fix


def test_layers_in_a_module_list() -> None:
    net = Hidden(held=True)
    assert RULE.check(optimizing(taped(plain_loss, net, points(), labels()), "")) is None


def test_a_hidden_teacher_is_not_meant_to_train() -> None:
    teacher = nn.Linear(4, 3)

    def distilled(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            target = teacher(x)
        return F.mse_loss(net(x), target)

    net = Hidden(held=True)
    assert RULE.check(optimizing(taped(distilled, net, points(), labels()), "")) is None


@pytest.mark.parametrize(("open_way", "found"), [(True, True), (False, False)])
def test_parameters_that_were_replaced_after_the_optimizer_was_made(
    *, open_way: bool, found: bool
) -> None:
    facts = tuple(ParameterFact(name, "", (4, 4), optimized=True) for name in ("body", "head"))
    weights = {fact.name: Operand("parameter", name=fact.name) for fact in facts}
    calls = (
        Operation(0, "linear", operands=(Operand("batch", 0, "0"), weights["body"])),
        Operation(1, "detach", operands=(Operand("operation", 0),), requires_grad=open_way),
        Operation(2, "linear", operands=(Operand("operation", 1), weights["head"])),
    )
    norms = {"body": [float("nan")] * 9, "head": [1.0] * 9}
    run = history(
        {GRADIENT_NORMS: norms, GRADIENT_NORM: [1.0] * 9},
        loss=[2.3] * 9,
        profile=Profile(parameters=facts, optimizers=(OptimizerFact("Adam"),)),
        tapes=[Tape(0, calls, root=2)],
    )
    seen = ParametersNotOptimized().check(run)
    assert (seen is not None) is found
    assert seen is None or "never got a gradient" in seen.message
