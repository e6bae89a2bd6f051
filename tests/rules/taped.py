"""Tapes of real torch code, for tests of the rules that read them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor, nn

from lightning_plateau.core.history import History
from lightning_plateau.core.profile import OptimizerFact, ParameterFact, Profile
from lightning_plateau.core.tape import Tape
from lightning_plateau.recording.tape import TapeRecorder

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


def taped(loss: Loss, net: nn.Module, x: Tensor, y: Tensor) -> History:
    """Return a history with the tape of ``loss(net, x, y)``; a loss that raises ends the tape."""
    recorder = TapeRecorder(0, net, [("0", x), ("1", y)])
    recorder.start()
    value = None
    with suppress(RuntimeError, ValueError):
        value = loss(net, x, y)
    draft = recorder.stop(value)
    assert recorder.failure is None
    tape = draft.tape([tensor.numpy() for tensor in draft.tensors()])
    return history_of(tape, net)


def history_of(tape: Tape, net: nn.Module, optimized: Callable[[str], bool] = bool) -> History:
    """Return a history with ``tape``; ``optimized`` says which parameters an optimizer holds."""
    facts = tuple(
        ParameterFact(
            name,
            name.rpartition(".")[0],
            tuple(parameter.shape),
            trainable=parameter.requires_grad,
            optimized=optimized(name),
        )
        for name, parameter in net.named_parameters()
    )
    return History(
        profile=Profile(parameters=facts, optimizers=(OptimizerFact("Adam"),)), tapes=(tape,)
    )


def optimizing(history: History, *names: str) -> History:
    """Return ``history`` as if the optimizer held only parameters whose names begin so."""
    facts = tuple(
        replace(fact, optimized=fact.name.startswith(names)) for fact in history.profile.parameters
    )
    return replace(history, profile=replace(history.profile, parameters=facts))


def points(samples: int = 16, features: int = 4, seed: int = 0) -> Tensor:
    """Return standard normal inputs."""
    return torch.randn(samples, features, generator=torch.Generator().manual_seed(seed))


def labels(samples: int = 16, classes: int = 3) -> Tensor:
    """Return class labels, each class equally often."""
    return torch.arange(samples) % classes
