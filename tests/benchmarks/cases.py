"""Sick trainings that a callback can mend: generated ones, and those of the zoo.

The generated ones follow the manner of Zhang et al., 2021, AutoTrainer: a training that works, and
one choice of it made wrong.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from tests.benchmarks.recipes import Recipe
from tests.faults.program import Training, programs

Fault = Callable[[Recipe, random.Random], Recipe]


@dataclass(frozen=True)
class Case:
    """A sick training, and what it should have come to.

    Attributes:
        name: Name of the case.
        fault: What is wrong with it.
        sick: Makes the training; seed the generators first.
        twin: The recipe without the fault; None for a program of the zoo.
        floor: Accuracy that it should have come to, where there is no twin.
    """

    name: str
    fault: str
    sick: Callable[[], Training]
    twin: Recipe | None = None
    floor: float = 1.0


def _deep_sigmoid(base: Recipe, chance: random.Random) -> Recipe:
    return replace(
        base, depth=chance.randint(6, 10), activation=nn.Sigmoid, **_sgd(chance.choice((0.05, 0.1)))
    )


def _deep_tanh(base: Recipe, chance: random.Random) -> Recipe:
    depth, std = chance.randint(6, 14), chance.choice((0.01, 0.03))
    return replace(base, depth=depth, activation=nn.Tanh, weights=std, **_sgd(0.1))


def _small_weights(base: Recipe, chance: random.Random) -> Recipe:
    return replace(base, weights=chance.choice((1e-3, 1e-4, 1e-5)), depth=4, **_sgd(0.1))


def _large_weights(base: Recipe, chance: random.Random) -> Recipe:
    return replace(base, weights=chance.choice((4.0, 7.0, 10.0)), depth=3)


def _dead_rectifiers(base: Recipe, chance: random.Random) -> Recipe:
    return replace(base, bias=-chance.choice((3.0, 5.0, 10.0)), depth=3)


def _saturated_biases(base: Recipe, chance: random.Random) -> Recipe:
    act = chance.choice((nn.Tanh, nn.Sigmoid))
    return replace(base, bias=chance.choice((5.0, 8.0)), activation=act, depth=3, **_sgd(0.1))


def _high_rate(base: Recipe, chance: random.Random) -> Recipe:
    return replace(base, rate=base.rate * 10 ** chance.choice((2.0, 2.5, 3.0)))


def _low_rate(base: Recipe, chance: random.Random) -> Recipe:
    return replace(base, rate=base.rate * 10.0 ** -chance.randint(3, 5))


def _bad_optimizer(base: Recipe, chance: random.Random) -> Recipe:
    kind, rate = chance.choice(
        (
            (torch.optim.Adadelta, 1e-3),
            (torch.optim.Adagrad, 1e-4),
            (torch.optim.RMSprop, 0.3),
            (torch.optim.SGD, 1e-4),
        )
    )
    return replace(base, optimizer=kind, rate=rate, momentum=0.0)


def _oscillation(base: Recipe, chance: random.Random) -> Recipe:
    return replace(base, **_sgd(chance.choice((0.5, 1.0, 2.0)), momentum=0.99))


def _slow_convergence(base: Recipe, chance: random.Random) -> Recipe:
    return replace(base, **_sgd(chance.choice((1e-3, 3e-4))))


def _exploding_recurrence(base: Recipe, chance: random.Random) -> Recipe:
    factor, rate = chance.choice((1.5, 2.0, 3.0, 4.0)), chance.choice((0.01, 0.02, 0.05))
    return replace(base, family="rnn", recurrent=factor, **_sgd(rate))


def _raw_inputs(base: Recipe, chance: random.Random) -> Recipe:
    return replace(base, raw=True, **_sgd(chance.choice((0.01, 0.05))))


def _sgd(rate: float, momentum: float = 0.0) -> dict[str, object]:
    return {"optimizer": torch.optim.SGD, "rate": rate, "momentum": momentum}


_MLPS = (
    Recipe("circles", rate=1e-2),
    Recipe("blobs"),
    Recipe("digits", rate=2e-3),
    Recipe("wine"),
    Recipe("breast-cancer"),
)
_CNNS = (Recipe("digits", "cnn"), Recipe("photographs", "cnn"))
_LSTMS = (Recipe("digits", "lstm", rate=1e-2),)
_ALL = (*_MLPS, *_CNNS, *_LSTMS)
FAULTS: dict[str, tuple[Fault, tuple[Recipe, ...]]] = {
    "deep sigmoid": (_deep_sigmoid, _MLPS),
    "deep tanh": (_deep_tanh, _MLPS),
    "weights too small": (_small_weights, (*_MLPS, *_CNNS)),
    "weights too large": (_large_weights, (*_MLPS, *_CNNS)),
    "dead rectifiers": (_dead_rectifiers, (*_MLPS, *_CNNS)),
    "saturated biases": (_saturated_biases, (*_MLPS, *_CNNS)),
    "rate too high": (_high_rate, _ALL),
    "rate too low": (_low_rate, _ALL),
    "bad optimizer": (_bad_optimizer, _ALL),
    "oscillation": (_oscillation, _ALL),
    "slow convergence": (_slow_convergence, _ALL),
    "exploding recurrence": (_exploding_recurrence, _LSTMS),
    "raw inputs": (_raw_inputs, (*_MLPS, *_CNNS)),
}
DRAWS = 20
"""Draws in search of a recipe that was not seen before."""
MOST_REPEATED = 200
"""Repeated ones after which there are no others."""
ZOO = {
    "raw-features": 0.9,
    "raw-pixels": 0.85,
    "ten-layers-of-sigmoids": 0.85,
    "deep-tanh-with-small-weights": 0.9,
    "recurrence-that-explodes": 0.85,
    "weights-of-zero": 0.85,
    "constant-weights": 0.85,
    "weights-of-standard-deviation-one": 0.85,
    "rectifiers-that-died": 0.85,
    "momentum-of-another-framework": 0.9,
    "adam-at-one-tenth": 0.9,
    "sgd-at-three": 0.9,
    "adam-at-a-millionth": 0.85,
    "sgd-at-a-hundred-thousandth": 0.9,
    "momentum-of-one": 0.85,
    "decayed-on-every-batch": 0.85,
    "schedule-ends-too-early": 0.85,
    "logarithm-of-a-probability": 0.85,
}
"""Programs of the zoo that classify and that a callback can mend: what they should come to."""


def generated(count: int) -> tuple[Case, ...]:
    """Return ``count`` sick trainings, no two alike, each fault in turn.

    The first ones are the same for any count.

    Raises:
        ValueError: If there are not so many different ones.
    """
    cases: list[Case] = []
    seen: set[Recipe] = set()
    number = 0
    while len(cases) < count:
        if number - len(cases) > MOST_REPEATED:
            raise ValueError(f"expected at most {len(cases)} sick trainings, but received {count}")
        name = list(FAULTS)[number % len(FAULTS)]
        base, sick = _planted(name, random.Random(number), seen)
        number += 1
        if sick in seen:
            continue
        seen.add(sick)
        title = f"{number - 1:03} {name} ({base.family}, {base.data})"
        cases.append(Case(title, name, sick.training, base))
    return tuple(cases)


def _planted(name: str, chance: random.Random, seen: set[Recipe]) -> tuple[Recipe, Recipe]:
    """Return a recipe without and with a fault, one not seen before where it is found at once."""
    plant, bases = FAULTS[name]
    for _ in range(DRAWS):
        base = chance.choice(bases)
        sick = plant(base, chance)
        if sick not in seen:
            break
    return base, sick


def of_the_zoo() -> tuple[Case, ...]:
    """Return the programs of ``tests/faults`` that a callback can mend; those that still exist."""
    known = {one.name: one for one in programs()}
    return tuple(
        Case(name, "zoo", known[name].build, floor=floor)
        for name, floor in ZOO.items()
        if name in known
    )
