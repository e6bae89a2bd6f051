from __future__ import annotations

from typing import Any

import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.profile import OptimizerFact, Profile
from lightning_plateau.core.tape import Operand, Operation, Tape
from lightning_plateau.rules.targets_not_scaled import TargetsNotScaled
from lightning_plateau.testing import history

RULE = TargetsNotScaled()
NAN = float("nan")
X, WEIGHT = Operand("batch", 0, "0", (8, 4)), Operand("parameter", name="fc.weight")
FLAT = [29000.0] * 100
EXPLODED = [29000.0 * 3.0**step for step in range(20)]


def moments(mean: float, std: float) -> dict[str, float]:
    return {"mean": mean, "std": std}


def tape(step: int, target: tuple[float, float], guess: tuple[float, float], loss: str) -> Tape:
    fc = Operation(0, "linear", "fc", (X, WEIGHT), (8, 1))
    sides = (
        Operand("operation", 0, "", (8, 1), statistics=moments(*guess)),
        Operand("batch", 1, "1", (8, 1), statistics=moments(*target)),
    )
    return Tape(step, (fc, Operation(1, loss, "", sides)), root=1)


def run(
    target: tuple[float, float],
    begun: tuple[float, float] = (0.1, 0.3),
    now: tuple[float, float] | None = None,
    *,
    optimizer: str = "Adam",
    loss: str = "mse_loss",
    losses: Any = FLAT,
) -> History:
    tapes = [tape(0, target, begun, loss), tape(50, target, now or begun, loss)]
    profile = Profile(optimizers=(OptimizerFact(optimizer),))
    return history(loss=losses, tapes=tapes, profile=profile)


@pytest.mark.parametrize(
    "sick",
    [
        pytest.param(run((152.0, 77.0)), id="diabetes, on its way"),
        pytest.param(run((152.0, 77.0), now=(30.0, 2.0)), id="a fifth of the way"),
        pytest.param(run((2e5, 8e4), loss="l1_loss"), id="prices"),
        pytest.param(run((0.0, 500.0)), id="centred, not scaled"),
        pytest.param(run((2000.0, 9.0), optimizer="SGD"), id="years"),
        pytest.param(run((152.0, 77.0), now=(150.0, 3.0)), id="only the mean is reached"),
        pytest.param(run((152.0, 77.0), now=(NAN, NAN), optimizer="SGD"), id="torn apart"),
        pytest.param(run((152.0, 77.0), optimizer="SGD", losses=EXPLODED), id="exploding"),
        pytest.param(run((1e-4, 1e-3), losses=[2e-5] * 100), id="micrometres"),
    ],
)
def test_found(sick: History) -> None:
    finding = RULE.check(sick)
    assert finding is not None
    assert not finding.certain


def test_says_what_to_do_instead() -> None:
    finding = RULE.check(run((152.0, 77.0)))
    assert finding is not None
    assert finding.fix == "train on (y - 152) / 77, and undo it on the predictions"


@pytest.mark.parametrize(
    "healthy",
    [
        pytest.param(run((0.0, 1.0)), id="standardized"),
        pytest.param(run((4.5, 2.9)), id="small numbers"),
        pytest.param(run((152.0, 77.0), now=(150.0, 70.0)), id="arrived, yet failing"),
        pytest.param(run((152.0, 77.0), begun=(150.0, 9.0)), id="the model scales its output"),
        pytest.param(run((152.0, 77.0), losses=EXPLODED), id="Adam explodes for other reasons"),
        pytest.param(run((152.0, 77.0), loss="poisson_nll_loss"), id="counts"),
        pytest.param(run((3.0, 1.0), loss="cross_entropy"), id="classes"),
        pytest.param(run((1e-4, 1e-3), losses=[1e-7] * 100), id="small, but learned"),
        pytest.param(run((NAN, NAN)), id="unknown"),
        pytest.param(history(loss=FLAT), id="no tape"),
    ],
)
def test_silent(healthy: History) -> None:
    assert RULE.check(healthy) is None
