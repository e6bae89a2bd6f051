from __future__ import annotations

from dataclasses import replace

import pytest
from torch import nn
from torch.nn.functional import cross_entropy

from lightning_plateau.core.history import History
from lightning_plateau.core.profile import ModuleFact
from lightning_plateau.rules.module_in_eval_mode import ModuleInEvalMode
from tests.rules.taped import labels, points, taped

RULE = ModuleInEvalMode()


def net(p: float = 0.2) -> nn.Module:
    body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(p))
    return nn.Sequential(body, nn.Linear(8, 3))


def run(module: nn.Module, *, root: bool | None = None) -> History:
    """Return a history of one step of ``module``; ``root`` is the mode of the LightningModule."""
    root = module.training if root is None else root
    history = taped(lambda net, x, y: cross_entropy(net(x), y), module, points(), labels())
    modules = tuple(
        ModuleFact(name, type(child).__name__, child.training)
        for name, child in module.named_modules()
        if name
    )
    profile = replace(history.profile, modules=(ModuleFact("", "Module", root), *modules))
    return replace(history, profile=profile, tapes=(replace(history.tapes[0], training=root),))


def one_after_another(*histories: History) -> History:
    tapes = [replace(h.tapes[0], step=100 * n) for n, h in enumerate(histories)]
    return replace(histories[0], tapes=tuple(tapes), step=100 * len(tapes))


def test_certain_where_all_was_left_in_evaluation_mode() -> None:
    found = RULE.check(run(net().eval()))
    assert found is not None
    assert found.certain
    assert found.message == (
        "the module is in evaluation mode: 2 of 2 calls run as in evaluation: batch_norm, dropout"
    )


def test_certain_where_eval_was_called_on_the_way() -> None:
    found = RULE.check(one_after_another(run(net()), run(net().eval(), root=True)))
    assert found is not None
    assert found.certain
    assert "went over to evaluation mode" in found.message


def test_certain_where_a_hook_calls_eval_before_the_first_step() -> None:
    module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)).eval()
    seen = run(module, root=True)
    found = RULE.check(replace(seen, tapes=(replace(seen.tapes[0], training=False),)))
    assert found is not None
    assert found.certain
    assert "went over to evaluation mode" in found.message


def test_possible_where_a_part_that_learns_has_its_dropout_off() -> None:
    module = nn.Sequential(net(), nn.Dropout(0.1))
    module[0].eval()
    found = RULE.check(run(module))
    assert found is not None
    assert found.certainty == "possible"
    assert found.where == "0.0.3 (dropout)"


def frozen_backbone() -> nn.Module:
    module = net()
    module[0].requires_grad_(False)
    return module


def only_batch_norm_frozen() -> nn.Module:
    module = net()
    module[0][1].eval()
    return module


@pytest.mark.parametrize(
    "healthy",
    [
        run(net()),
        run(nn.Linear(4, 3).eval()),
        run(frozen_backbone().eval()),
        run(only_batch_norm_frozen()),
        run(net(p=0.0).eval(), root=True),
        one_after_another(run(net().eval(), root=True), run(net())),
        one_after_another(run(net()), run(only_batch_norm_frozen())),
        History(),
    ],
    ids=[
        "in training mode",
        "no mode to speak of",
        "linear probe of a frozen network",
        "batch norm frozen alone",
        "no dropout and a module in training mode",
        "train() came in time",
        "batch norm frozen later",
        "empty",
    ],
)
def test_silent(healthy: History) -> None:
    assert RULE.check(healthy) is None
