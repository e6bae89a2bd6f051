"""Healthy: one small task under many optimizers and schedules of the learning rate."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler as schedules

from tests.faults import data
from tests.faults.learner import Learner, accuracy, adam, sgd
from tests.faults.program import Training, program


def _training(
    optimizer: Any,
    scheduler: Any = None,
    *,
    epochs: int = 12,
    least: float = 0.9,
    settings: Any = None,
    **when: Any,
) -> Training:
    images, labels = data.digits()
    train, validation = data.loaders(images / 16, labels, batch_size=64)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
    module = Learner(net, optimizer=optimizer, scheduler=scheduler, **when)
    return Training(
        module,
        train,
        validation,
        {"max_epochs": epochs, **(settings or {})},
        lambda: accuracy(module, validation) > least,
    )


@program()
def plain_gradient_descent() -> Training:
    """Stochastic gradient descent without momentum."""
    return _training(sgd(0.05), epochs=25, least=0.85)


@program(part="validation")
def nesterov_momentum() -> Training:
    """Nesterov's momentum and weight decay."""
    return _training(sgd(0.05, momentum=0.9, nesterov=True, weight_decay=1e-4))


@program()
def adamw_with_weight_decay() -> Training:
    """AdamW as most people set it."""
    return _training(lambda p: torch.optim.AdamW(p, lr=2e-3, weight_decay=0.05))


@program()
def rmsprop() -> Training:
    """RMSprop as it comes, at a tenth of its standard rate."""
    return _training(lambda p: torch.optim.RMSprop(p, lr=1e-3))


@program(part="validation")
def adagrad() -> Training:
    """Adagrad, whose steps shrink by themselves."""
    return _training(lambda p: torch.optim.Adagrad(p, lr=0.03))


@program()
def adadelta() -> Training:
    """Adadelta, which starts slowly."""
    return _training(lambda p: torch.optim.Adadelta(p, lr=1.0))


@program(part="validation")
def nadam_with_a_high_beta() -> Training:
    """NAdam with a long memory."""
    return _training(lambda p: torch.optim.NAdam(p, lr=2e-3, betas=(0.95, 0.999)))


@program(family="linear")
def second_order_steps() -> Training:
    """L-BFGS fits a ridge penalty and a linear classifier, all data in each step."""
    images, labels = data.digits()
    train, validation = data.loaders(images / 16, labels, batch_size=2000)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def penalized(said: Any, y: Any) -> Any:
        return F.cross_entropy(said, y) + 1e-3 * net[1].weight.square().sum()

    module = Learner(net, penalized, lambda p: torch.optim.LBFGS(p, max_iter=5))
    return Training(
        module, train, validation, {"max_epochs": 25}, lambda: accuracy(module, validation) > 0.93
    )


@program()
def sign_descent() -> Training:
    """Large betas and an epsilon of 1e-6, as for half precision."""
    return _training(lambda p: torch.optim.Adam(p, lr=2e-3, betas=(0.9, 0.98), eps=1e-6))


@program()
def bias_without_decay() -> Training:
    """Two groups of parameters: weights that decay, and the others."""

    def groups(parameters: Any) -> Any:
        decaying = [p for p in parameters if p.ndim > 1]
        others = [p for p in parameters if p.ndim < 2]
        return torch.optim.AdamW(
            [{"params": decaying, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
            lr=2e-3,
        )

    return _training(groups)


@program()
def warm_up_then_constant() -> Training:
    """A hundred steps of linear warm-up."""
    return _training(
        sgd(0.1, momentum=0.9),
        lambda o: schedules.LambdaLR(o, lambda step: min(1.0, (step + 1) / 100)),
        interval="step",
    )


@program(part="validation")
def warm_up_then_cosine() -> Training:
    """The schedule of every transformer: warm up, then a cosine down to zero."""

    def factor(step: int) -> float:
        if step < 50:
            return (step + 1) / 50
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - 50) / 250)))

    return _training(
        adam(4e-3), lambda o: schedules.LambdaLR(o, factor), epochs=14, interval="step"
    )


@program()
def slow_warm_up() -> Training:
    """The rate rises from a thousandth over half of the run."""
    return _training(
        sgd(0.1),
        lambda o: schedules.LinearLR(o, 0.001, 1.0, total_iters=220),
        epochs=24,
        least=0.85,
        interval="step",
    )


@program()
def one_cycle() -> Training:
    """The rate goes up to its peak and down again, in one cycle."""
    return _training(
        sgd(0.01, momentum=0.9),
        lambda o: schedules.OneCycleLR(o, max_lr=0.2, total_steps=264),
        interval="step",
    )


@program(part="validation")
def one_cycle_of_adam() -> Training:
    """One cycle whose momentum cycles too."""
    return _training(
        adam(1e-3),
        lambda o: schedules.OneCycleLR(o, max_lr=1e-2, total_steps=264, pct_start=0.3),
        interval="step",
    )


@program()
def cosine_with_restarts() -> Training:
    """A cosine that starts again every 88 steps."""
    return _training(
        sgd(0.1, momentum=0.9),
        lambda o: schedules.CosineAnnealingWarmRestarts(o, T_0=88),
        interval="step",
        epochs=16,
    )


@program()
def waiting_for_a_plateau() -> Training:
    """The rate is cut when the validation loss stays; it is cut several times."""
    return _training(
        sgd(0.3),
        lambda o: schedules.ReduceLROnPlateau(o, factor=0.3, patience=1, threshold=0.01),
        epochs=25,
        monitor="val_loss",
    )


@program(part="validation")
def step_decay() -> Training:
    """The rate is divided by ten at two milestones."""
    return _training(
        sgd(0.1, momentum=0.9),
        lambda o: schedules.MultiStepLR(o, milestones=[8, 12]),
        epochs=16,
    )


@program()
def step_decay_to_very_little() -> Training:
    """The rate is divided by ten every third epoch, after the task has been learned."""
    return _training(
        sgd(0.15, momentum=0.9), lambda o: schedules.StepLR(o, 3, gamma=0.1), epochs=15
    )


@program()
def exponential_decay() -> Training:
    """The rate falls by a tenth each epoch."""
    return _training(adam(5e-3), lambda o: schedules.ExponentialLR(o, 0.9), epochs=20)


@program(part="validation")
def cyclic_triangles() -> Training:
    """A triangular cycle between two rates."""
    return _training(
        sgd(0.01),
        lambda o: schedules.CyclicLR(o, base_lr=0.01, max_lr=0.2, step_size_up=40),
        interval="step",
        epochs=15,
    )


@program()
def clipping_that_often_acts() -> Training:
    """Gradients clipped to norm 0.5, as many recipes say."""
    return _training(
        sgd(0.1, momentum=0.9),
        epochs=14,
        settings={"gradient_clip_val": 0.5},
    )


@program(part="validation")
def clipping_by_value() -> Training:
    """Each entry of the gradient clipped to ±0.1."""
    return _training(
        adam(2e-3),
        settings={"gradient_clip_val": 0.1, "gradient_clip_algorithm": "value"},
    )


@program()
def linear_decay_to_zero() -> Training:
    """The rate falls in a line to zero at the planned end."""
    return _training(
        lambda p: torch.optim.AdamW(p, lr=3e-3),
        lambda o: schedules.LinearLR(o, 1.0, 0.0, total_iters=264),
        interval="step",
    )
