"""One training under watch: what records, diagnoses and treats it, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from lightning_plateau.cadence import Cadence
from lightning_plateau.chronicle import Chronicle
from lightning_plateau.core import signal
from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.journal import Note
from lightning_plateau.core.profile import Profile
from lightning_plateau.core.rule import Rule
from lightning_plateau.diagnosis import diagnose, diagnose_since
from lightning_plateau.economy import Economy
from lightning_plateau.experiments.experiment import described
from lightning_plateau.framework import LightningModule, Trainer
from lightning_plateau.inquiry import Inquiry
from lightning_plateau.ranks import Ranks
from lightning_plateau.recording.batch import batch_size
from lightning_plateau.recording.draft import Draft
from lightning_plateau.recording.profile import Hints, parameter_facts, take_profile, thawed
from lightning_plateau.recording.recorder import EARLY_SAMPLES, FEW_SAMPLES, Recorder
from lightning_plateau.recording.validation import ValidationLoss, loss_name
from lightning_plateau.recording.waiting import Waiting
from lightning_plateau.report.progress_column import bar_state
from lightning_plateau.settings import Settings
from lightning_plateau.training.optimizers import OptimizerAdapter, adapt
from lightning_plateau.training.run import Run
from lightning_plateau.training.surroundings import holds_replicas, is_compiled
from lightning_plateau.treatment.treatment import Treatment


class Watch:
    """Watches one training, hook by hook.

    Args:
        trainer: The Trainer, its loaders and optimizers set up.
        module: The module.
        settings: What the callback is set to.
        chronicle: Where it is told and kept.
        restored: State of the run that goes on; None for a new one.
        show: Shows in a few words how the training is.

    Attributes:
        recorder: What records the training.
        treatment: What treats it.
        inquiry: What makes experiments.
        waiting: What measures how long batches are waited for.
        ranks: What the ranks do together.
        history: What was recorded, as of the last look.
        findings: What the last look has found, the most probable cause first.
        looks: How often the run was diagnosed.
    """

    def __init__(
        self,
        trainer: Trainer,
        module: LightningModule,
        settings: Settings,
        chronicle: Chronicle,
        restored: Mapping[str, Any] | None,
        show: Callable[[str], None],
    ) -> None:
        adapters = adapt(trainer)
        profile = profile_of(trainer, module, adapters)
        planned = profile.planned_steps
        every_n_steps = settings.policy.looks_every(settings.every_n_steps, planned)
        run = Run.of(trainer, module, adapters)
        self.recorder = Recorder(
            module,
            [adapter.parameters for adapter in adapters],
            every_n_steps=every_n_steps,
            tags=_needed(settings.rules),
            tape=not is_compiled(module),
            early=FEW_SAMPLES if settings.lean else EARLY_SAMPLES,
        )
        self.recorder.profile = profile
        self.treatment = Treatment(run, settings.policy, chronicle.journal, chronicle.say)
        if restored is not None:
            self.recorder.load_state_dict(restored["recorder"])
        clock = self.recorder.clock
        self.treatment.start(clock, planned, restored and restored["treatment"])
        shape = every_n_steps, max(1, len(adapters))
        self.ranks = Ranks(trainer, shape, self.recorder.losses.dtype, clock)
        self.inquiry = Inquiry(
            run, settings.experiments, check=settings.check, agree=self.ranks.any
        )
        if restored is not None:
            self.inquiry.load_state_dict(restored.get("inquiry", {}))
        self.waiting = Waiting(trainer.strategy.root_device)
        self.history = self.recorder.history()
        self.findings: tuple[Finding, ...] = ()
        self.looks = 0
        self._rules, self._chronicle, self._show = settings.rules, chronicle, show
        self._cadence, self._economy = Cadence(every_n_steps), Economy()
        self._lean = settings.lean
        self._replicated = holds_replicas(trainer)
        self._validation = ValidationLoss()
        self._window_open = False

    # -- one batch ------------------------------------------------------------------------------

    def begin_batch(self, batch: Any) -> None:
        """Note a batch; what is wanted of experiments is made with it."""
        self.waiting.batch_starts()
        if not self.ranks.failure:
            self._experiment(batch)
        recorder, first = self.recorder, not self._window_open
        self._window_open = True
        self._economy.begin_step()
        self.treatment.before_batch(first)
        look = self._first_look if recorder.clock == 0 and first else None
        recorder.begin_batch(batch, first_of_window=first, before_first_loss=look)

    def _experiment(self, batch: Any) -> None:
        """Make the experiment that is wanted, if any; what it measured is diagnosed with the step.

        It is made before the tape starts and the guard looks: nothing of ours is in the way.
        """
        made = self.inquiry.before_batch(batch)
        if made is None:
            return
        experiment, result = made
        for row in result.rows:
            self.recorder.record_row(experiment.signal, row)
        self._chronicle.note(Note(self.recorder.clock, described(result)))
        if self.inquiry.obstacle is not None:
            self._chronicle.unsupported(f"no experiment can be made: {self.inquiry.obstacle}")
        elif result.failure:
            self._chronicle.unsupported(f"the experiment {result.name} failed: {result.failure}")

    def begin_step(self, trainer: Trainer, module: LightningModule, optimizer: Any) -> None:
        """Note the gradients before clipping, and guard the step."""
        index, adapter = self.treatment.adapter_of(optimizer)
        automatic = module.automatic_optimization
        norms = self.recorder.observe_gradients(
            index,
            accumulated=trainer.accumulate_grad_batches if automatic else None,
            loss_scale=adapter.loss_scale,
            scale=adapter.gradient_scale,
        )
        if norms is not None:
            self.treatment.before_step(adapter, norms)

    def end_batch(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any
    ) -> None:
        """Close the step; every so often, look."""
        recorder, treatment = self.recorder, self.treatment
        if recorder.profile.unshaped:
            recorder.profile = profile_of(trainer, module, adapt(trainer))
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        closely = recorder.sampling
        if closely and thawed(recorder.profile, module):
            parameters = parameter_facts(trainer, module)
            recorder.profile = replace(recorder.profile, parameters=parameters)
        closed = recorder.end_batch(
            loss=loss if isinstance(loss, Tensor) else None,
            learning_rates=treatment.learning_rates(closely=closely),
            skipped=treatment.after_step(),
        )
        self._tell_untaped()
        if closed:
            self._window_open = False
            treatment.step = recorder.clock
            treatment.note_batch(batch)
            last = treatment.makes_the_last_step
            meets = recorder.due or self.inquiry.has_news or last
            if meets and not self.ranks.failure:
                closely = True
                with treatment.given(batch):
                    self.look(at_once=last)
        self._economy.end_step(closely=closely)
        self.waiting.batch_ends()

    def _tell_untaped(self) -> None:
        failure, self.recorder.failure = self.recorder.failure, None
        if failure is not None:
            kind = type(failure).__name__
            self._chronicle.unsupported(f"the forward pass could not be taped: {kind}: {failure}")

    # -- validation and epochs ------------------------------------------------------------------

    def begin_validation(self) -> None:
        """Note that a validation begins: what it takes is no waiting."""
        self._validation.reset()
        self.waiting.interrupt()

    def add_validation(self, outputs: Any, batch: Any) -> None:
        """Add to the validation loss, for runs that log none."""
        self._validation.update(outputs, batch_size(batch))

    def end_validation(self, trainer: Trainer) -> None:
        """Record the validation loss and the logged metrics."""
        recorder, metrics = self.recorder, trainer.callback_metrics
        recorder.end_validation()
        name = loss_name(metrics, recorder.profile.monitor)
        loss = float(metrics[name]) if name is not None else self._validation.compute()
        if loss is not None:
            recorder.record_value(signal.VALIDATION_LOSS, loss)
        self._record_metrics(trainer)

    def end_epoch(self, trainer: Trainer, *, extends: bool) -> None:
        """Record the end of an epoch; ``extends``: it is the last, unless the run is extended."""
        self.waiting.interrupt()
        self.recorder.end_epoch()
        if not self.recorder.profile.has_validation:
            self._record_metrics(trainer)
        if extends:
            self.look(finished=True)

    def _record_metrics(self, trainer: Trainer, known: History | None = None) -> None:
        for name, value in trainer.callback_metrics.items():
            if value.numel() == 1 and (known is None or signal.metric(name) not in known):
                self.recorder.record_value(signal.metric(name), float(value))

    # -- looks ----------------------------------------------------------------------------------

    def _first_look(self, draft: Draft) -> None:
        """Report what is certain before the first loss: bad labels may crash the device."""
        history = self.recorder.first_look(draft)
        certain = tuple(f for f in diagnose(history, self._rules) if f.certain)
        self._chronicle.tell(self._chronicle.ledger.add(certain))

    def look(self, *, finished: bool = False, ended: bool = False, at_once: bool = False) -> None:
        """Drain, diagnose and, while training goes on, treat; the same on every rank.

        Ranks that have met come to the end together. After an exception each is on its own.
        ``at_once``: diagnose, whether it is time or not.
        """
        together = self.ranks.several and (finished or not ended)
        if together and finished:
            together = self.ranks.end_together
        if ended or finished:
            self.recorder.close_unstepped()
        due = finished or ended or at_once or self.treatment.on_trial or self.inquiry.has_news
        losses, over = None, finished or ended
        if together:
            losses, due = self._meet(over=over, at_once=due)
        self._drain(losses, ended=ended, finished=finished)
        if not together:
            self.recorder.spared = not over and self._spared(self.history)
        if due or (not together and self._due(self.history)):
            self._examine(together, ended=ended, finished=finished)
            if together:
                self.ranks.close()

    def _meet(self, *, over: bool, at_once: bool) -> tuple[Tensor, bool]:
        """Average the losses over the ranks; return them, and whether all of them diagnose.

        Each says by what it knew before whether to look closely and to diagnose: what is new
        arrives with the losses.
        """
        recorder, replicas = self.recorder, self._replicated and self.recorder.replicas_due
        known = recorder.history()
        recorder.spared = not over and self._spared(known)
        more = at_once or replicas or self._due(known)
        meeting = self.ranks.open(recorder.losses, affordable=not recorder.spared, more=more)
        if replicas:
            recorder.compare_replicas(self.ranks.largest)
        recorder.spared = not meeting.affordable
        return meeting.losses, meeting.answer

    def _drain(self, losses: Tensor | None, *, ended: bool, finished: bool) -> None:
        self._record_waiting()
        try:
            self.recorder.drain(losses=losses, wait=ended or finished)
        except RuntimeError as error:
            if not ended:
                raise
            # After an assertion on an accelerator nothing can be read from it any more.
            self._chronicle.unsupported(
                f"the last steps could not be read from the device: {error}"
            )
        self.history = self.recorder.history(finished=finished)
        if not ended:
            self._chronicle.log(self.history)

    def _record_waiting(self) -> None:
        times = self.waiting.take()
        if times is not None and self.recorder.wants(signal.DATA_WAIT):
            self.recorder.record_row(signal.DATA_WAIT, times)

    def _examine(self, together: bool, *, ended: bool, finished: bool) -> None:
        """Diagnose, tell what is new and, while training goes on, ask or treat."""
        treatment, chronicle = self.treatment, self._chronicle
        self.findings = self._diagnose(together)
        self.looks += 1
        over, treated = finished or ended, treatment.treated_codes
        chronicle.tell(chronicle.ledger.update(self.findings, treated, finished=over))
        if treatment.tell_skipped(self.history, self.findings):
            self.findings = self._diagnose(together)
        if ended:
            return
        self.inquiry.has_news = False
        may_ask = not (treatment.on_trial or finished)
        asked = may_ask and self.inquiry.consider(self.history, self.findings)
        if not asked:  # what is measured next may change what is to be treated
            treatment.consider(self.history, self.findings)
            verdict, treatment.verdict = treatment.verdict, None
            chronicle.tell(chronicle.ledger.add(() if verdict is None else (verdict,)))
        self._show(bar_state(self.findings, treatment.trial))

    def _spared(self, history: History) -> bool:
        """Whether a close look now would cost more than it may tell."""
        step, since = self.recorder.clock, self.treatment.episode_step
        if self.treatment.on_trial:
            return False
        if not self._lean:
            if self._cadence.bound(step, since) or self._cadence.alarming(history):
                return False
            if self._cadence.young(step, since):
                return self._well and self._cadence.calm(history, since)
        return not self._economy.affordable()

    @property
    def _well(self) -> bool:
        """Whether the last diagnosis has found nothing but what is worth a remark."""
        return all(finding.severity is Severity.INFO for finding in self.findings)

    def _due(self, history: History) -> bool:
        if self._lean:
            return self._cadence.alarming(history)
        since = self.treatment.episode_step
        return self._cadence.due(history, since, spared=self.recorder.spared)

    def _diagnose(self, together: bool) -> tuple[Finding, ...]:
        """Diagnose the run as it is since its last treatment; rank zero speaks for all."""

        def make() -> tuple[Finding, ...]:
            seen = self.history.without(self.treatment.skipped_steps)
            return diagnose_since(seen, self.treatment.episode_step, self._rules)

        return self.ranks.first(make) if together else make()

    # -- the end --------------------------------------------------------------------------------

    def end(self, trainer: Trainer) -> None:
        """Look at the whole run, which has come to its end."""
        # What was logged for the last epoch is known only now.
        self._record_metrics(trainer, known=self.recorder.history())
        self.look(finished=True, ended=True)
        self.treatment.end(self.history, self.findings)

    def die(self, exception: BaseException) -> None:
        """Look at what is known of a run that died."""
        self.recorder.abandon_batch()
        kind, step = type(exception).__name__, self.recorder.clock
        self._chronicle.journal.append(Note(step, f"training ended with {kind}: {exception}"))
        self.look(ended=True)
        self.treatment.end(self.history, self.findings)

    def release(self) -> None:
        """Let go of the run."""
        self.recorder.release()
        self.treatment.release()
        self.inquiry.release()

    def state_dict(self) -> dict[str, Any]:
        """Return recorder, treatment and experiments in plain types and tensors."""
        self.waiting.interrupt()
        return {
            "recorder": self.recorder.state_dict(),
            "treatment": self.treatment.state_dict(),
            "inquiry": self.inquiry.state_dict(),
        }


def profile_of(
    trainer: Trainer, module: LightningModule, adapters: Sequence[OptimizerAdapter]
) -> Profile:
    """Return the static facts of a training."""
    flags = [adapter.capabilities for adapter in adapters]
    return take_profile(trainer, module, flags, getattr(module, "plateau_hints", Hints()))


def _needed(rules: Sequence[Rule]) -> frozenset[str]:
    always = (signal.LOSS, signal.GRADIENT_NORM, signal.VALIDATION_LOSS, signal.GRADIENT_NORMS)
    return frozenset(s.tag for s in always) | {s.tag for rule in rules for s in rule.requires}
