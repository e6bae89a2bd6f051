"""The recorder: what happens in a training goes in, a History comes out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lightning_plateau.core import signal
from lightning_plateau.core.history import History
from lightning_plateau.core.plain import from_plain, to_plain
from lightning_plateau.core.profile import Profile
from lightning_plateau.core.signal import Signal
from lightning_plateau.core.tape import Tape, kept
from lightning_plateau.recording.batch import leaves
from lightning_plateau.recording.buffers import record_batch_moments, record_buffers
from lightning_plateau.recording.care import record_care
from lightning_plateau.recording.census import Census
from lightning_plateau.recording.delivery import Delivery
from lightning_plateau.recording.draft import Draft
from lightning_plateau.recording.inputs import record_inputs
from lightning_plateau.recording.probes.parameters import sample_elements
from lightning_plateau.recording.profile import clean_name
from lightning_plateau.recording.replicas import Replicas, replica_differences
from lightning_plateau.recording.resemblance import Resemblance
from lightning_plateau.recording.sites import activation_rows
from lightning_plateau.recording.steps import Steps
from lightning_plateau.recording.structure import Structure
from lightning_plateau.recording.tape import TapeRecorder
from lightning_plateau.recording.watched import Watched
from lightning_plateau.recording.weights import record_initial_norms, record_parameters

EARLY_SAMPLES = frozenset({0, 1, 2, 5, 10, 20, 35})
"""Steps that are sampled whatever the cadence: most faults show at once."""
FEW_SAMPLES = frozenset({0, 10})
"""The same, where a look must cost next to nothing."""
LAST_OF_THE_FIRST = 2
"""The first steps are sampled one after another; the gradients after the last are not compared."""
MOST_ALERTS = 2
"""Times that steps are looked at closely one by one, after some were not finite."""
STATE_VERSION = 1


class Recorder:
    """Records a training on its device and drains it to the host.

    An ordinary step costs one fused read of the gradients and one small copy, and never waits for
    the device. On sampled steps (the first few, then one in ``every_n_steps``) the forward pass,
    the batch, the parameters, the update and the normalization layers are looked at too, and the
    gradients are compared with those of the next step.

    Args:
        module: The module that is trained.
        optimizers: The parameters of each optimizer, in the optimizer's order.
        every_n_steps: Optimizer steps between samples, and between drains.
        tags: Tags of the signals that somebody needs; None records all.
        tape: Whether the forward pass may be recorded; False for compiled modules.
        early: Steps that are sampled whatever the cadence.

    Attributes:
        clock: Optimizer steps made.
        sampling: Whether the step under way is one that is looked at closely.
        spared: Whether the next sample that only the cadence asks for is left out.

    Raises:
        ValueError: If ``every_n_steps`` is not positive.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizers: Sequence[Sequence[Tensor]],
        *,
        every_n_steps: int = 50,
        tags: frozenset[str] | None = None,
        tape: bool = True,
        early: frozenset[int] = EARLY_SAMPLES,
    ) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, but is {every_n_steps}")
        names = {id(p): clean_name(n) for n, p in module.named_parameters()}
        self.clock = 0
        self.every_n_steps = every_n_steps
        self.profile = Profile()
        self.failure: Exception | None = None
        self.sampling = False
        self.spared = False
        self._module = module
        self._tape_allowed, self._early = tape, early
        self._optimizers = [
            Watched(
                list(parameters),
                [names.get(id(p), f"unnamed.{i}") for i, p in enumerate(parameters)],
            )
            for parameters in optimizers
        ]
        self._delivery = Delivery(tags)
        self._store = self._delivery.store
        self._transfer = self._delivery.transfer
        self._census = Census(self.wants)
        self._resemblance = Resemblance(module, self._delivery)
        self._replicas = Replicas()
        self._tapes: tuple[Tape, ...] = ()
        self._epoch_ends: list[int] = []
        self._steps = Steps(self._optimizers, self._delivery, every_n_steps)
        self._batch: Any = None
        self._backwards = 0
        self._structure: Structure | None = None
        self._tape: TapeRecorder | None = None
        self._learning_rates: dict[str, float] = {}
        self._alert_until = 0
        self._alerts = MOST_ALERTS
        self._keeping_step = False

    # -- what is wanted -------------------------------------------------------------------------

    def wants(self, *signals: Signal) -> bool:
        """Whether somebody needs one of ``signals``."""
        return self._delivery.wants(*signals)

    @property
    def sampled_now(self) -> bool:
        """Whether a step that begins now is one to look at closely."""
        return (
            (self.clock % self.every_n_steps == 0 and not self.spared)
            or self.clock in self._early
            or self.clock < self._alert_until
        )

    @property
    def due(self) -> bool:
        """Whether the step that just ended is one after which to drain."""
        return self.clock % self.every_n_steps == 0 or self._steps.full

    # -- the hooks of a batch, in order ---------------------------------------------------------

    def begin_batch(
        self,
        batch: Any,
        *,
        first_of_window: bool = True,
        before_first_loss: Callable[[Draft], None] | None = None,
    ) -> None:
        """Note the batch; on a sampled step look at it, and start the tape."""
        self._batch = batch
        if first_of_window:
            self.sampling = self.sampled_now
            self._steps.forget_losses()
            for optimizer in self._optimizers if self.sampling else ():
                optimizer.leftovers.begin()
            # What the ranks measure together comes first: what is a batch's own may fail on one.
            if self.sampling and self.clock == 0:
                record_initial_norms(self._delivery, self._optimizers)
        if self._keeping_step:
            return
        self._census.observe(batch, step=self.clock, sampled=self.sampling)
        self._resemblance.begin_batch(sampled=self.sampling)
        if not (self.sampling and first_of_window):
            return
        self._structure = Structure.of(self._module)
        self.record_batch()
        if self._tape_allowed and not self.profile.unshaped:
            held = [
                pair for o in self._optimizers for pair in zip(o.names, o.parameters, strict=True)
            ]
            self._tape = TapeRecorder(
                self.clock, self._module, leaves(batch), before_first_loss, held, self._structure
            )
            self._tape.start()

    def record_batch(self) -> None:
        """Look at the tensors of the batch under way."""
        record_inputs(self._delivery, self.clock, self._batch)

    def observe_loss(self, loss: Tensor) -> None:
        """Note a tensor that backward starts from, and end the tape."""
        self._steps.add_loss(loss)
        self._backwards += 1
        if self.sampling and self.wants(signal.GRADIENTS_LEFT_OVER):
            for optimizer in self._optimizers:
                optimizer.leftovers.before_backward()
        if not self._keeping_step:
            self.end_tape(loss)

    def end_tape(self, loss: Tensor | None = None) -> None:
        """End the tape, if one is being recorded."""
        self._resemblance.end_batch()
        if self._tape is None:
            return
        tape, self._tape = self._tape, None
        draft = tape.stop(loss)
        if tape.failure is not None:
            self.failure = tape.failure
            return
        self._transfer.add(draft.tensors(), lambda arrays: self._add_tape(draft.tape(arrays)))
        record_batch_moments(self._delivery, draft)
        if self._census.unknown and self._batch is not None:
            self._census.learn(draft)
            self._census.observe(self._batch, step=self.clock, sampled=True)
        if self._resemblance.unknown:
            self._resemblance.learn(draft)

    def observe_gradients(
        self,
        index: int,
        *,
        accumulated: int | None = None,
        loss_scale: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> Tensor | None:
        """Note the gradients of an optimizer that is about to step, and the losses they came from.

        Args:
            index: Position of the optimizer.
            accumulated: Micro-batches that each loss was divided by; the step's loss is then the
                mean of those seen. None in manual optimization, where it is their sum.
            loss_scale: Scale of the losses under a gradient scaler.
            scale: Scale of the gradients, where they are still scaled at this point.

        Returns:
            The unscaled L2 norms of the gradients that are present, ``[k]`` on their device; None
            where there are none.
        """
        optimizer = self._optimizers[index]
        with torch.no_grad():
            norms = self._steps.write(index, self.clock, accumulated, loss_scale, scale)
            if self.sampling or optimizer.agreement.waits:
                self._compare_gradients(optimizer)
            if self.sampling:
                automatic = accumulated is not None
                self._look_at_gradients(optimizer, norms if automatic else None, loss_scale)
        return norms

    def _look_at_gradients(
        self, optimizer: Watched, norms: Tensor | None, loss_scale: Tensor | None
    ) -> None:
        """Remember what the step is compared with when it is made; ``norms``: if clipping is."""
        if loss_scale is not None:
            self.record_tensor(signal.LOSS_SCALE, loss_scale)
        if norms is not None:
            optimizer.norm = torch.linalg.vector_norm(norms)
        if self.wants(signal.UPDATE_RATIOS, signal.UPDATE_DESCENT):
            optimizer.before = sample_elements(optimizer.parameters)

    def _compare_gradients(self, optimizer: Watched) -> None:
        """Compare the gradients with those of the step before, if that one was sampled."""
        compared = self.wants(signal.GRADIENT_AGREEMENT, signal.UPDATE_DESCENT)
        if len(self._optimizers) > 1 or not compared:
            return
        agreement = optimizer.agreement.compare()
        if agreement is not None:
            self.record_tensor(signal.GRADIENT_AGREEMENT, agreement)
        if self.sampling and self.clock != LAST_OF_THE_FIRST:
            optimizer.agreement.remember()

    def end_batch(
        self,
        *,
        loss: Tensor | None = None,
        learning_rates: Mapping[str, float] | None = None,
        skipped: Tensor | bool = False,
    ) -> bool:
        """Close the batch; if an optimizer stepped in it, close the step too.

        Args:
            loss: What ``training_step`` returned, for steps whose backward was not seen.
            learning_rates: Learning rate of each group; kept where it changed and where sampled.
            skipped: Whether the step was skipped, as a bool or a 0-d tensor.

        Returns:
            Whether a step was closed.
        """
        steps = self._steps
        if self.sampling and steps.stepped:
            record_care(self._delivery, self.clock, self._optimizers, steps.stepped)
            self._record_weights()
        if not self._keeping_step:
            self._end_own_part(loss, learning_rates, skipped)
        self._batch = None
        if not steps.stepped:
            return False
        steps.close()
        self.sampling = False
        self._structure = None
        self.clock += 1
        return True

    def _end_own_part(
        self,
        loss: Tensor | None,
        learning_rates: Mapping[str, float] | None,
        skipped: Tensor | bool,
    ) -> None:
        """Note what this rank knows by itself of the batch and, if it made one, of the step."""
        self.end_tape()
        if not self._steps.stepped:
            return
        self._steps.complete(loss, skipped)
        if not (self.sampling or self._steps.known_finite):
            self.record_batch()
        if learning_rates and (learning_rates != self._learning_rates or self.sampling):
            self._learning_rates = dict(learning_rates)
            self._store.append_row(signal.LEARNING_RATES, self.clock, self._learning_rates)
        self._census.close_step(self.clock, self._transfer, self._store)

    def keep_step(self) -> None:
        """Measure from now on only what all ranks measure together; let go of all else."""
        self._keeping_step = True
        self.release()

    def abandon_batch(self) -> None:
        """Leave the batch under way because training died in it; what was seen of it is kept."""
        if self._tape is None and self._batch is not None and not self.sampling:
            self.record_batch()
        self.end_tape()
        self._batch = None
        self._steps.forget_losses()

    def close_unstepped(self) -> None:
        """Note, of a run that made no step, how often backward ran and where the weights are."""
        if self.clock or not self._backwards:
            return
        self.record_value(signal.UNANSWERED_BACKWARDS, float(self._backwards))
        self._record_weights()

    def release(self) -> None:
        """Let go of the batch and of the tape."""
        self._census.forget_step(self.clock)
        self._resemblance.end_batch()
        if self._tape is not None:
            self._tape.stop()
            self._tape = None
        self._batch = None
        self._steps.forget_losses()

    def _record_weights(self) -> None:
        structure = self._structure or Structure.of(self._module)
        record_parameters(self._delivery, self.clock, self._optimizers)
        record_buffers(self._delivery, self.clock, structure)

    def _add_tape(self, tape: Tape) -> None:
        self._tapes = kept((*self._tapes, tape))
        for which, values in activation_rows(tape).items():
            if values and self.wants(which):
                self._store.append_row(which, tape.step, values)

    # -- values from elsewhere ------------------------------------------------------------------

    def record_value(self, which: Signal, value: float) -> None:
        """Add one value of a scalar signal at the current step."""
        self._store.append_row(which, self.clock, value)

    def record_row(self, which: Signal, values: Mapping[str, float]) -> None:
        """Add a row of a signal with columns at the current step."""
        self._store.append_row(which, self.clock, values)

    def record_tensor(self, which: Signal, value: Tensor) -> None:
        """Add one value that lies on the device; it is read with the next drain."""
        self._delivery.number(which, self.clock, value)

    @property
    def replicas_due(self) -> bool:
        """Whether it is time to compare the parameters over the ranks; the same on each."""
        held = any(optimizer.parameters for optimizer in self._optimizers)
        return held and self.wants(signal.REPLICA_DIFFERENCES) and self._replicas.due(self.clock)

    def compare_replicas(self, largest: Callable[[Tensor], Tensor]) -> None:
        """Compare the parameters over the ranks; to be called on every rank.

        Args:
            largest: Returns the elementwise maximum of a tensor over the ranks.
        """
        held = {n: p for o in self._optimizers for n, p in zip(o.names, o.parameters, strict=True)}
        self._replicas.compared(self.clock)
        differences = replica_differences(list(held.values()), largest)
        self._delivery.sample(signal.REPLICA_DIFFERENCES, self.clock, tuple(held), differences)

    def observe_validation(self, batch: Any) -> None:
        """Look at a batch of the validation under way."""
        self._census.observe_validation(batch)
        self._resemblance.begin_validation_batch()

    def end_validation(self) -> None:
        """Close the validation under way."""
        self._census.close_validation(self.clock, self._transfer, self._store)
        self._resemblance.close_validation(self.clock)

    def end_epoch(self) -> None:
        """Note that an epoch ended."""
        self._census.end_epoch()
        if not self._epoch_ends or self._epoch_ends[-1] != self.clock:
            self._epoch_ends.append(self.clock)

    # -- to the host ----------------------------------------------------------------------------

    @property
    def losses(self) -> Tensor:
        """Losses of the steps since the last drain, ``[every_n_steps, optimizers]``, on the device.

        Rows of steps not made yet hold nothing of use.
        """
        return self._steps.block(self.clock).losses

    def drain(self, *, losses: Tensor | None = None, wait: bool = False) -> None:
        """Send what was recorded to the host.

        Args:
            losses: What ``losses`` are over all ranks; None where there is one rank.
            wait: Whether to wait until all of it has arrived.
        """
        self._steps.send(losses, self._watch_closely)
        self._census.send(self._transfer, self._store)
        self._transfer.send(wait=wait)

    def _watch_closely(self, finite: NDArray[np.bool_]) -> None:
        """Sample every step for a while, where some were not finite and training goes on."""
        caught = any(not tape.finite for tape in self._tapes)
        if self._alerts and not caught and not finite.all() and finite[-1]:
            self._alerts -= 1
            self._alert_until = self.clock + self.every_n_steps

    def history(self, *, finished: bool = False) -> History:
        """Return what has arrived on the host so far."""
        return History(
            series=self._store.series(),
            profile=self.profile,
            tapes=self._tapes,
            step=self.clock,
            epoch_ends=tuple(self._epoch_ends),
            finished=finished,
        )

    def first_look(self, draft: Draft) -> History:
        """Return the history of a run whose first forward pass is under way, read at once."""
        arrays = [tensor.detach().float().cpu().numpy() for tensor in draft.tensors()]
        self._transfer.send(wait=True)
        history = self.history()
        return replace(history, tapes=(*history.tapes, draft.tape(arrays)))

    # -- resume ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return all that was recorded, in plain types and tensors."""
        self.drain(wait=True)
        return {
            "version": STATE_VERSION,
            "clock": self.clock,
            "spared": self.spared,
            "series": self._store.state_dict(),
            "tapes": json.dumps(to_plain(self._tapes)),
            "epoch_ends": list(self._epoch_ends),
            "learning_rates": dict(self._learning_rates),
            "census": self._census.state_dict(),
            "resemblance": self._resemblance.state_dict(),
            "agreement": [optimizer.agreement.state_dict() for optimizer in self._optimizers],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``.

        Raises:
            ValueError: If the state is of a newer version.
        """
        check_version(state)
        self.clock = state["clock"]
        self.spared = state.get("spared", False)
        if "census" in state:  # the first states had none of these
            self._census.load_state_dict(state["census"])
        self._resemblance.load_state_dict(state.get("resemblance", {}))
        for optimizer, waiting in zip(self._optimizers, state.get("agreement", ()), strict=False):
            optimizer.agreement.load_state_dict(waiting)
        self._store.load_state_dict(state["series"])
        self._tapes = from_plain(tuple[Tape, ...], json.loads(state["tapes"]))
        self._epoch_ends = list(state["epoch_ends"])
        self._learning_rates = dict(state["learning_rates"])


def check_version(state: Mapping[str, Any]) -> None:
    """Do nothing for a state of a recorder that this version of the library reads.

    Raises:
        ValueError: If it is of a newer version.
    """
    if state["version"] > STATE_VERSION:
        raise ValueError(
            f"the checkpoint's recorder state is of version {state['version']}; "
            f"this version of lightning_plateau reads up to {STATE_VERSION}: upgrade it"
        )
