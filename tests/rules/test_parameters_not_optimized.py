from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_plateau.core.finding import Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.profile import GroupFact, OptimizerFact, ParameterFact, Profile
from lightning_plateau.core.signal import GRADIENT_NORM, GRADIENT_NORMS, LOSS_PER_OPTIMIZER
from lightning_plateau.core.tape import Operand, Operation, Tape
from lightning_plateau.rules.parameters_not_optimized import ParametersNotOptimized
from lightning_plateau.testing import history
from tests.faults.learner import Learner
from tests.faults.observation import observe
from tests.faults.program import Program, Training
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


def _two_optimizers(
    steps: list[float], *, finished: bool = True, cut: bool = False, gradient: float = float("nan")
) -> History:
    """Return a run of an encoder and a decoder, and how the encoder's optimizer stepped."""
    facts = tuple(ParameterFact(name, "", (4, 4), optimized=True) for name in ("body", "head"))
    weights = {fact.name: Operand("parameter", name=fact.name) for fact in facts}
    calls = (
        Operation(0, "linear", operands=(Operand("batch", 0, "0"), weights["body"])),
        Operation(1, "detach", operands=(Operand("operation", 0),), requires_grad=not cut),
        Operation(2, "linear", operands=(Operand("operation", 1), weights["head"])),
    )
    optimizers = tuple(OptimizerFact("Adam", (GroupFact((fact.name,)),)) for fact in facts)
    run = history(
        {
            LOSS_PER_OPTIMIZER: {"0": steps, "1": [2.3] * 9},
            GRADIENT_NORMS: {"body": [gradient] * 9, "head": [1.0] * 9},
        },
        loss=[2.3] * 9,
        profile=Profile(
            parameters=facts, optimizers=optimizers, planned_steps=100, manual_optimization=True
        ),
        tapes=[Tape(0, calls, root=2)],
    )
    return replace(run, finished=finished)


def test_an_optimizer_that_is_never_asked_to_step() -> None:
    found = RULE.check(_two_optimizers([float("nan")] * 9))
    assert found is not None
    assert found.message == (
        "optimizer 0 (Adam) has made no step in 9, though gradients reach what it holds: body"
    )


@pytest.mark.parametrize(
    "run",
    [
        _two_optimizers([2.3] * 9),
        _two_optimizers([float("nan")] * 8 + [2.3]),
        _two_optimizers([float("nan")] * 9, finished=False),
        _two_optimizers([float("nan")] * 9, cut=True),
        _two_optimizers([float("nan")] * 9, gradient=1.0),
    ],
    ids=["both", "one steps late", "one may step yet", "no gradient reaches it", "one loss"],
)
def test_optimizers_that_step_or_have_nothing_to_step_for(run: History) -> None:
    assert RULE.check(run) is None


@pytest.mark.parametrize("added", [False, True])
def test_layers_that_were_unfrozen_after_the_optimizer_was_made(*, added: bool) -> None:
    class Thawing(Learner):
        def on_train_epoch_start(self) -> None:
            if self.current_epoch == 1:
                self.net[0].requires_grad_(requires_grad=True)
                if added:
                    self.optimizers().add_param_group({"params": list(self.net[0].parameters())})

    x, y = points(samples=64), labels(64)
    module = Thawing(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
    module.net[0].requires_grad_(requires_grad=False)
    train = DataLoader(TensorDataset(x, y), 8)
    observed = observe(Program(lambda: Training(module, train, None, {"max_epochs": 12})))
    assert ("LP410" in observed.codes) is not added
