"""reinitialize: give layers that are dead or badly scaled fresh weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from lightning_plateau.core.history import History
from lightning_plateau.core.remedy import Change, Remedy, Safety
from lightning_plateau.core.signal import ACTIVATION_DEAD
from lightning_plateau.core.stages import Stage, stages
from lightning_plateau.training.initialization import fresh_recurrence, fresh_weight, looks_trained
from lightning_plateau.training.rewriting import restore, rewrite

SEED = 20_150_206
MOST_DEAD = 0.5


@dataclass(frozen=True)
class Reinitialize(Remedy):
    """Give layers fresh weights of the size that their activation needs.

    Args:
        layers: ``"all"`` for every linear, convolutional and recurrent layer, ``"dead"`` for those
            that lead to dead units only; None for all in a run that has learned nothing yet, and
            for the dead ones in any other.

    What it changes:
        Weights of the chosen layers are drawn anew from a normal distribution whose standard
        deviation is gain/√fan-in; the gain is that of the activation they lead to, as on the tape
        (√2 for rectifiers: He's initialization). The recurrent weights of ``nn.RNN``, ``nn.LSTM``
        and ``nn.GRU`` become orthogonal. Biases become zero, and what the optimizer
        remembers of these parameters is cleared. The values come from a seed of their own: ranks
        stay equal, and your random numbers are not drawn from.

    When it helps:
        With weights that begin at zero, far too small or too large (LP302, LP706), biases that
        switch units off, and units that a too long step has killed (LP501).

    Safety:
        What these layers have learned is lost; therefore it is all layers only where nothing was
        learned yet. It refuses networks whose first weights look trained, as in fine-tuning:
        nothing of a pretrained network is overwritten. Weights that are shared, computed or frozen,
        and embeddings, are left alone.

    How to undo:
        It is reverted by itself where it does not help: weights and optimizer state are put back,
        bit for bit. To keep it, initialize in the code: ``nn.init.kaiming_normal_``.

    Example:
        >>> Reinitialize(layers="dead").renews
        True

    References:
        He et al., 2015, "Delving Deep into Rectifiers". Glorot and Bengio, 2010, "Understanding
        the difficulty of training deep feedforward neural networks".
    """

    name: ClassVar[str] = "reinitialize"
    safety: ClassVar[Safety] = Safety.UNSAFE
    renews: ClassVar[bool] = True

    layers: Literal["all", "dead"] | None = None

    def __post_init__(self) -> None:
        if self.layers not in ("all", "dead", None):
            raise ValueError(f"layers must be 'all', 'dead' or None, but is {self.layers!r}")

    def obstacle(self, run: Any) -> str | None:
        """Return why no layer can be given fresh weights; None where one can."""
        reasons = [adapter.obstacle("roll-back") for adapter in run.adapters]
        reason = next((reason for reason in reasons if reason is not None), None)
        if reason is not None:
            return str(reason)
        if run.history.last_tape is None:
            return f"{run.untaped}, so that the layers are not known"
        chosen = self._chosen(run)
        names = [*(stage.weight for stage in chosen), *_recurrent(run, all_layers=self._all(run))]
        if not names:
            return "no layer has a weight of its own that may be drawn anew"
        return pretrained(run, names)

    def apply(self, run: Any) -> Change:
        """Draw the weights anew."""
        chosen = self._chosen(run)
        recurrent = _recurrent(run, all_layers=self._all(run))
        undo = rewrite(run.module, run.adapters, {**fresh_values(run, chosen, {}), **recurrent})
        layers = len(chosen) + len({name.rpartition(".")[0] for name in recurrent})
        return Change({"weights": "as they were"}, {"weights": f"fresh in {layers} layers"}, undo)

    def revert(self, run: Any, change: Change) -> None:
        """Put the weights back."""
        restore(run.module, run.adapters, change.undo)

    def _all(self, run: Any) -> bool:
        return self.layers == "all" or (self.layers is None and run.worthless)

    def _chosen(self, run: Any) -> list[Stage]:
        found = may_be_drawn(run)
        if self._all(run):
            return found
        dead = dead_sites(run.history)
        return [s for s in found if s.activation is not None and s.activation.site in dead]


def may_be_drawn(run: Any) -> list[Stage]:
    """Return the stages whose weight is a trainable parameter of the module."""
    tape = run.history.last_tape
    trainable = {name for name, p in run.module.named_parameters() if p.requires_grad}
    return [] if tape is None else [s for s in stages(tape) if s.weight in trainable]


def _recurrent(run: Any, *, all_layers: bool) -> dict[str, torch.Tensor]:
    """Return fresh values of all recurrent layers that are trained as a whole, by name."""
    generator = torch.Generator().manual_seed(SEED + run.snapshots.restored)
    values: dict[str, torch.Tensor] = {}
    for path, module in run.module.named_modules() if all_layers else ():
        if isinstance(module, nn.RNNBase) and all(p.requires_grad for p in module.parameters()):
            fresh = fresh_recurrence(module, generator)
            values |= {f"{path}.{name}" if path else name: fresh[name] for name in fresh}
    return values


def dead_sites(history: History) -> frozenset[str]:
    """Return the rectifiers most of whose units were dead when last looked at."""
    dead = history[ACTIVATION_DEAD]
    return frozenset(
        label for label, share in zip(dead.labels, dead.last_row, strict=True) if share > MOST_DEAD
    )


def pretrained(run: Any, names: Iterable[str]) -> str | None:
    """Return why the weights must not be overwritten: they were trained before; None otherwise."""
    first = run.snapshots.initial
    if first is None:
        return "there is no snapshot of the first weights, which may be pretrained"
    held = first.state["module"]
    trained = [
        name for name in names if name in held and held[name].ndim > 1 and looks_trained(held[name])
    ]
    return f"{trained[0]} looks pretrained" if trained else None


def fresh_values(
    run: Any, chosen: Sequence[Stage], instead: Mapping[str, str]
) -> dict[str, torch.Tensor]:
    """Return fresh weights and zero biases by name.

    Args:
        run: The run.
        chosen: The stages.
        instead: Names of activations by the site of the one whose place they take.
    """
    generator = torch.Generator().manual_seed(SEED + run.snapshots.restored)
    parameters = dict(run.module.named_parameters())
    values = {}
    for stage in chosen:
        site = "" if stage.activation is None else stage.activation.site
        own = "" if stage.activation is None else stage.activation.name
        shape = parameters[stage.weight].shape
        values[stage.weight] = fresh_weight(shape, instead.get(site, own), generator)
        if stage.bias in parameters and parameters[stage.bias].requires_grad:
            values[stage.bias] = torch.zeros(parameters[stage.bias].shape)
    return values
