"""LP504: the initial weights are off scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from lightning_plateau.core.chance import chance_loss, summed, untrained_loss
from lightning_plateau.core.columns import first_known
from lightning_plateau.core.derived import derived
from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import Floats, History
from lightning_plateau.core.patience import patience
from lightning_plateau.core.progress import progress
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import (
    ACTIVATION_DEAD,
    INITIAL_NORMS,
    LOSS,
    VALIDATION_LOSS,
)
from lightning_plateau.core.stages import Stage, stages, wiring
from lightning_plateau.core.statistics import spearman
from lightning_plateau.core.tape import (
    ACTIVATIONS,
    LINEAR_OPERATIONS,
    LOSSES,
    PASSING_OPERATIONS,
    Operation,
    Tape,
)

_JUDGED = frozenset({"linear", "conv1d", "conv2d", "conv3d", "matmul", "mm", "addmm"})
_PRODUCTS = frozenset({"matmul", "mm", "addmm"})
_RECURRENT, _GATED = frozenset({"rnn_tanh", "rnn_relu"}), frozenset({"lstm", "gru"})
_SUMS = frozenset({"add", "iadd"})
_PLAIN = ACTIVATIONS | LINEAR_OPERATIONS | LOSSES


_MOSTLY = 0.5


@dataclass(frozen=True, slots=True)
class _Gain:
    """By what factor a layer scales its input, by the size of its first weights."""

    weight: str
    site: str
    value: float
    spread: float


@dataclass(frozen=True)
class PoorInitialization(Rule):
    """The weights began far too large or far too small.

    What it detects:
        In a run that is no better than guessing yet: layers whose first weights would scale a
        signal by three and more each (the norm of the weights over the square root of the number of
        units; sound initializations give 0.5 to 1.5), or by a tenth and less; or activations whose
        spread on the first step grows or shrinks a thousandfold from layer to layer; or a plain
        recurrent layer (``rnn_tanh``, ``rnn_relu``) that scales its state by 1.4 and more at each
        step, and tenfold over the sequence, or a gated one (``lstm``, ``gru``) whose recurrent
        weights scale it by three and more. Layers that a
        normalization follows count for nothing, nor do residual branches, which may start small,
        and outputs that are multiplied by something. First weights that are too large, and a first
        loss of three times that of guessing, are told of a run that learns as well: while
        validation keeps above half of guessing as a fault, and then as a remark.

    Why it matters:
        What each layer does to the scale multiplies up over depth, and over time: outputs begin far
        too large, or the signal and its gradient are lost on the way.

    Example:
        >>> from lightning_plateau.core.profile import ParameterFact, Profile
        >>> from lightning_plateau.core.tape import Operand
        >>> from lightning_plateau.testing import history
        >>> def layer(index, given):
        ...     weight = Operand("parameter", name=f"{index}.weight", shape=(64, 64))
        ...     return Operation(index, "linear", f"{index}", (given, weight), (32, 64))
        >>> relu = Operation(1, "relu", "act", (Operand("operation", 0),))
        >>> calls = layer(0, Operand("batch", 0)), relu, layer(2, Operand("operation", 1))
        >>> names = ("0.weight", "2.weight")
        >>> facts = Profile(tuple(ParameterFact(name, name[0], (64, 64)) for name in names))
        >>> norms = {INITIAL_NORMS: {name: [64.0] for name in names}}
        >>> run = history(norms, loss=[250.0] * 60, profile=facts, tapes=[Tape(0, calls, root=2)])
        >>> PoorInitialization().check(run).message
        'the first weights are too large: 2 of 2 layers scale their input by 8 (typical layer)'

    Remedies:
        reinitialize gives every layer weights of the size that its activation needs.

    Known limitations:
        Says nothing of runs that were resumed, and takes no part in judging attention
        and embeddings. Pretrained weights are judged like others. A sequence that
        is longer than the batch counts as long as the batch.

    References:
        Glorot and Bengio, 2010, Understanding the difficulty of training deep feedforward neural
        networks (AISTATS). He et al., 2015, Delving Deep into Rectifiers (ICCV). Mishkin and
        Matas, 2016, All you need is a good init (ICLR). Sompolinsky et al., 1988, Chaos in Random
        Neural Networks. Pascanu et al., 2013, On the difficulty of training Recurrent Neural
        Networks (ICML).
    """

    code: ClassVar[str] = "LP504"
    name: ClassVar[str] = "poor-initialization"
    needs_failure: ClassVar[bool] = False  # ``check`` itself asks whether anything was learned
    requires: ClassVar = (INITIAL_NORMS, LOSS, VALIDATION_LOSS, ACTIVATION_DEAD)
    explains: ClassVar = (
        "LP106",
        "LP206",
        "LP301",
        "LP302",
        "LP303",
        "LP304",
        "LP306",
        "LP401",
        "LP402",
        "LP403",
        "LP404",
        "LP405",
        "LP406",
        "LP407",
        "LP414",
        "LP501",
        "LP502",
        "LP706",
        "LP707",
        "LP801",
        "LP802",
        "LP803",
        "LP807",
        "LP808",
    )
    remedies: ClassVar = ("reinitialize",)
    why: ClassVar[str] = "what each layer does to the scale multiplies up over depth, or over time"

    large: float = 3.0
    large_in_all: float = 20.0
    large_in_time: float = 1.4
    large_over_sequence: float = 10.0
    small: float = 0.1
    decades_in_all: float = 3.0
    least_layers: int = 2
    least_layers_of_depth: int = 4
    least_order: float = 0.9
    least_learned: float = 0.1
    first_loss_off: float = 3.0
    overcome: float = 0.5
    minimum_steps: int = 50

    def check(self, history: History) -> Finding | None:
        """Return the fault where first weights are off scale and nothing was learned since."""
        tape = history.first_tape
        if tape is None or tape.step != 0 or not self._judged(history):
            return None
        gains, failing = _gains(history, tape), self._failing(history)
        large = [gain for gain in gains if gain.value >= self.large]
        small = [gain for gain in gains if 0.0 < gain.value <= self.small]
        enough = max(self.least_layers, -(-len(gains) // 2))
        if len(large) >= enough and self._in_all(gains) >= math.log(self.large_in_all):
            found = self._report(history, gains, large, "large", self.large)
            return found if failing else self._while_learning(history, found)
        recurrent = self._through_time(history, tape)
        if recurrent is not None and (failing or self._not_overcome(history)):
            return recurrent
        if not failing:
            return None
        if len(small) >= enough:
            return self._report(history, gains, small, "small", self.small)
        return self._through_depth(history, gains)

    def _judged(self, history: History) -> bool:
        enough = max(self.minimum_steps, patience(history))
        return len(history[LOSS].finite) > 0 and history.step >= enough

    def _while_learning(self, history: History, found: Finding) -> Finding | None:
        """Return what large first weights did to a run that learns; None where they did nothing."""
        chance, losses = chance_loss(history), history[LOSS].finite
        if chance is None or chance <= 0 or losses.steps[0] != 0:
            return None
        first = float(losses.values[0])
        if first < self.first_loss_off * chance:
            return None
        began = f"; the first loss was {first:.4g}, where guessing gives {chance:.4g}"
        found = replace(found, message=found.message + began)
        if self._not_overcome(history):
            return found
        return replace(found, severity=Severity.INFO, explains=())

    def _not_overcome(self, history: History) -> bool:
        """Whether the latest validation losses have stayed above half of that of guessing."""
        chance, validations = chance_loss(history), _validations(history)
        known = chance is not None and chance > 0 and len(validations) == 3
        return known and bool(validations.min() > self.overcome * (chance or 0.0))

    def _failing(self, history: History) -> bool:
        """Whether training, or what it brings in validation, is no better than guessing."""
        chance, start = chance_loss(history), untrained_loss(history)
        gone = progress(history[LOSS])
        if start is None or not gone.rows:
            return False
        if gone.now > start - self.least_learned * abs(start):
            return True
        validations = _validations(history)
        return chance is not None and len(validations) == 3 and bool(validations.min() > chance)

    def _in_all(self, gains: Sequence[_Gain]) -> float:
        """Return the logarithm of what the layers do to the scale together."""
        return sum(math.log(gain.value) for gain in gains if gain.value > 0.0)

    def _report(
        self,
        history: History,
        gains: Sequence[_Gain],
        off: Sequence[_Gain],
        how: str,
        limit: float,
    ) -> Finding:
        typical = float(np.median([gain.value for gain in off]))
        return self.finding(
            history,
            0.8,
            f"the first weights are too {how}: {len(off)} of {len(gains)} layers scale their "
            f"input by {typical:.3g} (typical layer)",
            evidence=tuple(
                Evidence("‖W‖ over √units", gain.value, limit, gain.weight) for gain in off[:3]
            ),
            fix="leave torch's own initialization, or nn.init.kaiming_normal_(layer.weight) before "
            "rectifiers and nn.init.xavier_normal_ before tanh",
            where=off[0].weight,
            step=0,
        )

    def _through_time(self, history: History, tape: Tape) -> Finding | None:
        """Return the fault where a recurrent layer blows its state up, or saturates its gates."""
        off = [
            (gain, growth)
            for gain, growth in _recurrent_gains(history, tape)
            if gain.value >= self.large
            or (gain.value >= self.large_in_time and growth >= self.large_over_sequence)
        ]
        if not off:
            return None
        gain, growth = max(off, key=lambda entry: entry[1])
        over = f", and the sequence by {growth:.2g}" if growth > 2 * gain.value else ""
        return self.finding(
            history,
            0.8,
            f"the first recurrent weights are too large: each step scales the state by "
            f"{gain.value:.3g}{over}",
            evidence=(Evidence("‖W‖ over √units", gain.value, self.large_in_time, gain.weight),),
            fix="leave torch's own initialization, or nn.init.orthogonal_(rnn.weight_hh_l0)",
            where=gain.weight,
            step=0,
        )

    def _through_depth(self, history: History, gains: Sequence[_Gain]) -> Finding | None:
        """Return the fault where the spread of activations grows or shrinks layer by layer."""
        spreads = [gain for gain in gains if 0.0 < gain.spread < math.inf]
        if len(spreads) < self.least_layers_of_depth:
            return None
        decades = np.log10([gain.spread for gain in spreads])
        total = float(decades[-1] - decades[0])
        order = spearman(np.arange(len(decades)), decades)
        if abs(total) < self.decades_in_all or abs(order) < self.least_order:
            return None
        if total < 0 and _born_dead(history):
            return None  # what dead units let through shrinks as well, and they say why
        first, last = spreads[0], spreads[-1]
        return self.finding(
            history,
            0.75,
            f"activations {'grow' if total > 0 else 'shrink'} from layer to layer on the first "
            f"step: their standard deviation is {first.spread:.2g} at {first.site} and "
            f"{last.spread:.2g} at {last.site}",
            evidence=(Evidence("decades over depth", total, self.decades_in_all, last.site),),
            fix="nn.init.kaiming_normal_(layer.weight, nonlinearity='relu') in every layer, or "
            "normalization or skip connections between the layers",
            where=last.site,
            step=0,
        )


def _validations(history: History) -> Floats:
    """Return the latest validation losses, where they are comparable with those of training."""
    values = history[VALIDATION_LOSS].finite.values
    return values[:0] if summed(history) else values[-3:]


def _born_dead(history: History) -> bool:
    """Whether most units of some rectifier are dead on the first step."""
    dead = history[ACTIVATION_DEAD]
    first = dead.values[0] if len(dead) else np.empty(0)
    return bool((first[np.isfinite(first)] > _MOSTLY).any())


def _gains(history: History, tape: Tape) -> tuple[_Gain, ...]:
    """Return the gains of the layers whose scale nothing resets, in call order."""
    norms, shapes = first_known(history[INITIAL_NORMS]), history.profile.shapes
    trainable = history.profile.trainable
    found = []
    for stage in _plain_stages(tape):
        shape = shapes.get(stage.weight, ()) if stage.weight in trainable else ()
        norm = norms.get(stage.weight)
        if stage.operation.name not in _JUDGED or len(shape) < 2 or norm is None:
            continue
        units = shape[-1] if stage.operation.name in _PRODUCTS else shape[0]
        if units:
            spread = stage.operation.statistics.get("std", math.nan)
            value = min(1e100, max(0.0, norm)) / math.sqrt(units)
            found.append(_Gain(stage.weight, stage.operation.site, value, spread))
    return tuple(found)


def _recurrent_gains(history: History, tape: Tape) -> list[tuple[_Gain, float]]:
    """Return the gain of each recurrent layer, and what the sequence makes of it.

    Gates keep a state from growing: for gated layers the two are the same.
    """
    norms, trainable = first_known(history[INITIAL_NORMS]), history.profile.trainable
    found = []
    for call in tape:
        given = call.operands[0].shape if call.operands else ()
        if call.name not in _RECURRENT | _GATED or len(given) != 3:
            continue
        steps = min(given[:2]) - 1 if call.name in _RECURRENT else 1
        for own in call.operands:
            recurrent = own.name.rpartition(".")[2].startswith("weight_hh")  # torch's name for it
            weighs = own.source == "parameter" and recurrent and any(own.shape[:1])
            norm = norms.get(own.name) if weighs else None
            if norm is not None and own.name in trainable:
                value = min(1e100, norm) / math.sqrt(own.shape[0])
                growth = math.exp(min(steps * math.log(max(value, 1e-100)), 700.0))
                found.append((_Gain(own.name, call.site, value, math.nan), growth))
    return found


@derived
def _plain_stages(tape: Tape) -> tuple[Stage, ...]:
    """Return the layers that lead to activations, further layers and losses only, as they are."""
    return tuple(
        stage
        for stage in stages(tape)
        if all(user.name in _PLAIN for user in _users(tape, stage.operation))
    )


def _users(tape: Tape, operation: Operation) -> list[Operation]:
    """Return what uses an output on the way to the loss.

    Shape operations, dropout, pooling and biases that are added are walked through.
    """
    wired, waiting, users = wiring(tape), [operation], {}
    seen = {operation.index}
    while waiting:
        for other in wired.users_of(waiting.pop()):
            biased = other.name in _SUMS and any(o.source == "parameter" for o in other.operands)
            if not (other.name in PASSING_OPERATIONS or "pool" in other.name or biased):
                users[other.index] = other
            elif other.index not in seen:
                seen.add(other.index)
                waiting.append(other)
    return [users[index] for index in sorted(users)]
