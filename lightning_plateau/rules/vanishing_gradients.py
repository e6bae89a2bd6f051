"""LP302: gradients vanish on their way to the first layers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from lightning_plateau.core.columns import last_known
from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.fitting import latest
from lightning_plateau.core.history import Floats, History
from lightning_plateau.core.layers import weights_by_depth
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import (
    EXPERIMENT_GRADIENT_FLOW,
    EXPERIMENT_GRADIENT_THROUGH_TIME,
    GRADIENT_NORMS,
    LOSS,
    PARAMETER_NORMS,
    UPDATE_RATIOS,
)
from lightning_plateau.core.statistics import row_medians, spearman
from lightning_plateau.core.trend import finite_values

_STUCK = ("LP306", "LP401", "LP405", "LP414", "LP802", "LP807", "LP808")
"""What follows where the first steps of a sequence are not heard of."""


@dataclass(frozen=True)
class _Profile:
    """Gradient over weight, layer by layer, in decades; and what the first layer could change."""

    names: tuple[str, ...]
    decades: Floats
    leverage: float

    @property
    def third(self) -> int:
        return max(1, len(self.names) // 3)

    @property
    def loss_of_gradient(self) -> float:
        """Decades that the gradient loses from the last third of the layers to the first."""
        first, last = self.decades[: self.third], self.decades[-self.third :]
        return float(np.median(last) - np.median(first))

    @property
    def without_greatest_step(self) -> float:
        """The same less the greatest step between neighbours: vanishing is not one step's work."""
        return self.loss_of_gradient - float(np.diff(self.decades).max())


@dataclass(frozen=True)
class VanishingGradients(Rule):
    """Gradients vanish on their way to the first layers.

    What it detects:
        The gradients of the weights, each over the norm of its weight, fall from layer to layer
        towards the input: by 2.5 decades from the last third of the layers to the first, over
        several layers and in order of depth; and the first layer has no leverage: a change of all
        of it would hardly change the loss. One step between two layers is no vanishing (an output
        layer that starts at zero makes one), nor are small gradients in the branches of residual
        networks, biases, scales and embeddings. Or the experiment gradient-through-time, in which
        the first steps of a recurrent layer's input get a millionth of the gradient of others.

    Why it matters:
        The first layers stay at their random start, and what they make of the input is all that
        the later ones can ever see.

    Example:
        >>> from lightning_plateau.core.profile import ParameterFact, Profile
        >>> from lightning_plateau.testing import history
        >>> names = [f"net.{i}.weight" for i in range(6)]
        >>> facts = Profile(parameters=tuple(ParameterFact(n, n[:-7], (64, 64)) for n in names))
        >>> norms = {name: [4.6] * 60 for name in names}
        >>> vanishing = {name: [10.0 ** (i - 6)] * 60 for i, name in enumerate(names)}
        >>> series = {GRADIENT_NORMS: vanishing, PARAMETER_NORMS: norms}
        >>> finding = VanishingGradients().check(history(series, loss=[2.3] * 60, profile=facts))
        >>> finding.message
        'gradients shrink 10,000-fold from net.5.weight to net.0.weight, relative to the weights'
        >>> even = {name: [0.01] * 60 for name in names}
        >>> series = {GRADIENT_NORMS: even, PARAMETER_NORMS: norms}
        >>> VanishingGradients().check(history(series, loss=[2.3] * 60, profile=facts)) is None
        True

    Remedies:
        replace-activation puts ReLU-like functions in place of sigmoid and tanh; reinitialize gives
        the weights the variance that the activation needs. Normalization layers and skip
        connections cure it for good.

    Known limitations:
        Over depth it needs four weight layers. What vanishes through time does not show in the one
        weight of a recurrent layer: the experiment, made where the loss stays, must tell. Runs with
        several optimizers are not judged: a generator before its discriminator is not one network.
        Weights that are computed (weight norm) are not seen.

    References:
        Hochreiter, 1991, Untersuchungen zu dynamischen neuronalen Netzen. Glorot and Bengio, 2010,
        Understanding the difficulty of training deep feedforward neural networks (AISTATS).
        Zhang et al., 2021, AutoTrainer (ICSE).
    """

    code: ClassVar[str] = "LP302"
    name: ClassVar[str] = "vanishing-gradients"
    requires: ClassVar = (GRADIENT_NORMS, PARAMETER_NORMS, UPDATE_RATIOS, LOSS)
    explains: ClassVar = (
        "LP104",
        "LP306",
        "LP401",
        "LP405",
        "LP407",
        "LP414",
        "LP707",
        "LP802",
        "LP803",
        "LP807",
        "LP808",
    )
    remedies: ClassVar = ("replace-activation", "reinitialize", "normalize-gradients")
    why: ClassVar[str] = "the first layers learn nothing, and the later ones see only noise of them"

    window: int = 50
    minimum_rows: int = 5
    minimum_layers: int = 4
    least_decades: float = 2.5
    least_decades_without_greatest_step: float = 1.0
    least_order: float = 0.7
    most_leverage: float = 0.03
    most_that_arrives: float = 1e-6
    confidence_through_time: float = 0.65

    def check(self, history: History) -> Finding | None:
        """Return the fault where gradients fall over depth, layer after layer, or through time."""
        return self._over_depth(history) or self._through_time(history)

    def _through_time(self, history: History) -> Finding | None:
        """Return the fault where an experiment saw no gradient at the first steps of a sequence."""
        row = latest(history, EXPERIMENT_GRADIENT_THROUGH_TIME)
        for label, first in row.items():
            layer = label.removesuffix(" first")
            largest, steps = row.get(f"{layer} largest", 0.0), row.get(f"{layer} steps", 0.0)
            if layer == label or not first < self.most_that_arrives * largest < math.inf:
                continue
            found = self.finding(
                history,
                self.confidence_through_time,
                f"the gradient of the loss fades through time in {layer}: it is {largest:.2g} at "
                f"one of {steps:.0f} steps and at most {first:.2g} at the first ones",
                evidence=(
                    Evidence(
                        "gradient at the first steps over the largest",
                        first / largest,
                        self.most_that_arrives,
                        layer,
                    ),
                ),
                fix="nn.LSTM or nn.GRU in place of nn.RNN, nn.init.orthogonal_ for its recurrent "
                "weights, shorter sequences, or the mean over time in place of the last step",
                where=layer,
                remedies=(),
            )
            return replace(found, explains=_STUCK)
        return None

    def _over_depth(self, history: History) -> Finding | None:
        if len(history.profile.optimizers) > 1 or len(history[GRADIENT_NORMS]) < self.minimum_rows:
            return None
        profile = _profile(history, self.window)
        if len(profile.names) < self.minimum_layers or not self._vanishes(profile):
            return None
        first, last = profile.names[0], profile.names[-1]
        lost = profile.loss_of_gradient
        moved = history[UPDATE_RATIOS].column(first).finite.last
        # An adaptive optimizer moves the first layers all the same, though by noise.
        confidence = min(0.95, 0.6 + 0.2 * (lost - self.least_decades)) - 0.1 * (moved > 1e-4)
        if _arrives(history):
            confidence *= 0.5
        return self.finding(
            history,
            confidence,
            f"gradients shrink {_fold(lost)}-fold from {last} to {first}, relative to the weights",
            evidence=(
                Evidence("gradient over weight", 10.0 ** profile.decades[0], where=first),
                Evidence("gradient over weight", 10.0 ** profile.decades[-1], where=last),
                Evidence(
                    "powers of ten lost from the last layers to the first", lost, self.least_decades
                ),
            ),
            fix="use ReLU or GELU with normalization or skip connections between the layers",
            where=first,
        )

    def _vanishes(self, profile: _Profile) -> bool:
        return (
            profile.loss_of_gradient >= self.least_decades
            and profile.without_greatest_step >= self.least_decades_without_greatest_step
            and spearman(np.arange(len(profile.names)), profile.decades) >= self.least_order
            and not profile.leverage > self.most_leverage
        )


def _arrives(history: History) -> bool:
    """Whether an experiment saw a tenth of the last output's gradient at the first layer's."""
    series = history[EXPERIMENT_GRADIENT_FLOW]
    flow = [value for value in series.last_row.tolist() if math.isfinite(value)]
    return len(flow) > 1 and flow[0] > 0.1 * flow[-1] > 0.0


def _profile(history: History, window: int) -> _Profile:
    """Return the layers' relative gradients over the recent ``window`` rows."""
    recent = history[GRADIENT_NORMS].tail(window)
    sizes = last_known(history[PARAMETER_NORMS])
    weights = [name for name in weights_by_depth(history) if name in recent.places]
    usual = row_medians(recent.values.T[[recent.places[name] for name in weights]]).tolist()
    names: list[str] = []
    decades: list[float] = []
    first = math.nan
    for name, gradient in zip(weights, usual, strict=True):
        size = sizes.get(name, 0.0)
        # Zeros are another fault: LP304.
        if gradient > 0.0 and size > 0.0:
            first = gradient if not names else first
            names.append(name)
            decades.append(math.log10(gradient) - math.log10(size))
    losses = np.abs(finite_values(history[LOSS].tail(window)))
    leverage = math.nan
    level = float(np.median(losses)) if len(losses) else 0.0
    if names and level > 0.0:
        logarithm = math.log10(first) + math.log10(sizes[names[0]]) - math.log10(level)
        leverage = 10.0 ** min(logarithm, 300.0)
    return _Profile(tuple(names), np.array(decades), leverage)


def _fold(decades: float) -> str:
    return f"{10.0**decades:,.0f}" if decades < 6 else f"10^{decades:.0f}"
