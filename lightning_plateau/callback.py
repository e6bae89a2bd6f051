"""PlateauCallback: the hooks of Lightning, and the wiring between them and the pipeline."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Any, Literal, ParamSpec, cast, get_args

from torch import Tensor

from lightning_plateau.cadence import Cadence
from lightning_plateau.chronicle import Chronicle
from lightning_plateau.core import signal
from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.journal import Journal, Note
from lightning_plateau.core.profile import Profile
from lightning_plateau.core.rule import Rule
from lightning_plateau.diagnosis import diagnose, diagnose_since, select_rules
from lightning_plateau.economy import Economy
from lightning_plateau.experiments.experiment import described
from lightning_plateau.framework import Callback, LightningModule, Trainer
from lightning_plateau.inquiry import Check, Inquiry, When
from lightning_plateau.ranks import RankFailedError, Ranks
from lightning_plateau.recording.batch import batch_size
from lightning_plateau.recording.draft import Draft
from lightning_plateau.recording.profile import Hints, take_profile
from lightning_plateau.recording.recorder import Recorder
from lightning_plateau.recording.validation import ValidationLoss, loss_name
from lightning_plateau.recording.waiting import Waiting
from lightning_plateau.report.loggers import LoggerFeed
from lightning_plateau.report.progress_column import WATCHING, ProgressColumn, bar_state
from lightning_plateau.training.optimizers import OptimizerAdapter, adapt
from lightning_plateau.training.run import Run
from lightning_plateau.training.surroundings import (
    holds_replicas,
    is_compiled,
    is_fast_dev_run,
    is_last_epoch,
    log_folder,
)
from lightning_plateau.treatment.policy import Policy
from lightning_plateau.treatment.treatment import Treatment, resume_optimizers

P = ParamSpec("P")
PolicyName = Literal["observe", "safe", "auto"]


def harmless(hook: Callable[P, None]) -> Callable[P, None]:
    """Let a failure of ours never reach the training: it becomes one finding, and we step aside."""

    @wraps(hook)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        callback = cast(PlateauCallback, args[0])
        if callback.disabled:
            return
        try:
            hook(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - it becomes LP903, and the run goes on
            callback.give_up(hook.__name__, error)

    return guarded


@dataclass(frozen=True)
class Watch:
    """What watches one training."""

    recorder: Recorder
    treatment: Treatment
    inquiry: Inquiry
    waiting: Waiting
    ranks: Ranks
    replicated: bool


class PlateauCallback(Callback):
    """Tells why the loss does not go down, and treats what can be treated.

    Pass it to the Trainer; without arguments it watches the training, skips steps that are not
    finite exactly, and prints what it finds. After ``fit`` read ``findings``, ``journal`` and
    ``history``.

    Args:
        policy: What may be done to the run. ``"observe"``: nothing. ``"safe"``: only what cannot
            hurt a healthy run. ``"auto"``: all remedies, each on trial. Or a ``Policy``.
        rules: Rule objects to use in place of all.
        select: Codes, beginnings of codes or names of the rules to use.
        ignore: The same, of the rules to leave out.
        every_n_steps: Optimizer steps between diagnoses.
        dirpath: Folder for ``journal.jsonl``, ``history.npz`` and, where Jinja2 is installed,
            ``report.html``; by default ``plateau`` in the folder of the logger.
        dry_run: Say what would be done, and do nothing.
        experiments: ``"when-stuck"``: where the loss does not go down and no cause is certain,
            short experiments on a copy of the module tell the causes apart. They leave the training
            bit for bit, and take at most 2 % of its time, or five seconds. ``"never"``: none.
        check: Begin with experiments on the first batches, whatever the loss does; ``"thorough"``
            for those too that say how to go on when nothing is wrong.
        log: Whether to log scalars under ``plateau/``, findings and actions with the Trainer's own
            loggers; None: under every policy but ``"observe"``, which leaves logs as they are.
        quiet: Say nothing; what is found is in ``findings`` and in the journal.
        progress_bar: Whether the progress bar gets a column ``plateau`` that says how the training
            is: watching, healthy, the first cause, or which remedy is on trial.

    Raises:
        ValueError: If an argument is out of its range; the message says what was expected.

    Example:
        >>> PlateauCallback(policy="careful")
        Traceback (most recent call last):
            ...
        ValueError: policy must be 'observe', 'safe', 'auto' or a Policy, but is 'careful'
    """

    def __init__(  # noqa: PLR0913 - settings by name, each with a default
        self,
        *,
        policy: PolicyName | Policy = "safe",
        rules: list[Rule] | None = None,
        select: list[str] | None = None,
        ignore: list[str] | None = None,
        every_n_steps: int = 50,
        dirpath: str | None = None,
        dry_run: bool = False,
        experiments: When = "when-stuck",
        check: Check = False,
        log: bool | None = None,
        quiet: bool = False,
        progress_bar: bool = False,
    ) -> None:
        super().__init__()
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, but is {every_n_steps}")
        if experiments not in get_args(When):
            raise ValueError(f"experiments must be 'when-stuck' or 'never', but is {experiments!r}")
        self.disabled = False
        self._policy = Policy.of(policy, dry_run=dry_run)
        self._rules = select_rules(rules, select, ignore)
        self._every_n_steps = every_n_steps
        self._dirpath = dirpath
        self._when, self._check = experiments, check
        self._column = ProgressColumn() if progress_bar else None
        self._cadence = Cadence(every_n_steps)
        self._economy = Economy()
        symptoms = frozenset(rule.code for rule in self._rules if rule.symptom)
        self._chronicle = Chronicle(symptoms, quiet=quiet)
        self._watch: Watch | None = None
        self._validation = ValidationLoss()
        self._restored: Mapping[str, Any] | None = None
        self._window_open = False
        self._log = policy not in ("observe", Policy.observe()) if log is None else log
        self._history = History()
        self._current: tuple[Finding, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process can be started with: all but the training under way."""
        return {**vars(self), "_watch": None}

    # -- what users read ------------------------------------------------------------------------

    @property
    def state_key(self) -> str:
        """Key of the state in checkpoints; the same for every setting."""
        return "PlateauCallback"

    @property
    def journal(self) -> Journal:
        """Findings, interventions and outcomes so far, in order."""
        return self._chronicle.journal

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings so far, the most probable cause first."""
        return self._chronicle.ledger.findings

    @property
    def history(self) -> History:
        """What was recorded so far."""
        return self._history

    def record(self, name: str, value: Tensor | float) -> None:
        """Record a value as the signal ``user/<name>`` at the current step."""
        if self._watch is None:
            return
        if isinstance(value, Tensor):
            self._watch.recorder.record_tensor(signal.user(name), value)
        else:
            self._watch.recorder.record_value(signal.user(name), float(value))

    # -- the start ------------------------------------------------------------------------------

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace the optimizers of a resumed run as before, in time for their state."""
        self.disabled = False
        if self._restored is not None:
            self._resume_optimizers(trainer, pl_module)

    @harmless
    def _resume_optimizers(self, trainer: Trainer, module: LightningModule) -> None:
        if self._restored is not None:
            run = Run.of(trainer, module, adapt(trainer))
            resume_optimizers(run, self._restored["treatment"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set up: optimizers, restored learning rates and loaders are known only now."""
        self.disabled = False
        self._watch = None
        self._window_open = False
        self._current = ()
        self._chronicle.begin(speaks=trainer.is_global_zero)
        self._prepare(trainer, pl_module)
        if trainer.world_size > 1:
            self._begin_together(trainer)

    def _begin_together(self, trainer: Trainer) -> None:
        """Watch on all ranks or on none; a rank that could not be prepared comes here too."""
        ready = trainer.strategy.reduce_boolean_decision(not self.disabled, all=True)
        if not ready and not self.disabled:
            self.give_up("on_train_start", RankFailedError("another rank could not be watched"))

    @harmless
    def _prepare(self, trainer: Trainer, module: LightningModule) -> None:
        restored, self._restored = self._restored, None
        if restored is None:
            self._chronicle.forget()
        self._chronicle.open_folder(self._folder(trainer))
        adapters = adapt(trainer)
        taped = not is_compiled(module)
        profile = _profile(trainer, module, adapters)
        every_n_steps = self._policy.looks_every(self._every_n_steps, profile.planned_steps)
        self._cadence, self._economy = Cadence(every_n_steps), Economy()
        recorder = Recorder(
            module,
            [adapter.parameters for adapter in adapters],
            every_n_steps=every_n_steps,
            tags=_needed(self._rules),
            tape=taped,
        )
        recorder.profile = profile
        run = Run.of(trainer, module, adapters)
        treatment = Treatment(run, self._policy, self.journal, self._chronicle.say)
        if restored is not None:
            recorder.load_state_dict(restored["recorder"])
        planned = profile.planned_steps
        treatment.start(recorder.clock, planned, restored and restored["treatment"])
        shape = every_n_steps, max(1, len(adapters))
        ranks = Ranks(trainer, shape, recorder.losses.dtype, recorder.clock)
        inquiry = Inquiry(run, self._when, check=self._check, agree=ranks.any)
        if restored is not None:
            inquiry.load_state_dict(restored.get("inquiry", {}))
        waiting, replicated = Waiting(trainer.strategy.root_device), holds_replicas(trainer)
        self._watch = Watch(recorder, treatment, inquiry, waiting, ranks, replicated)
        self._chronicle.clock = lambda: recorder.clock
        self._history = recorder.history()
        self._chronicle.open_loggers(self._feed(trainer, recorder.clock), self._history)
        if self._column is not None:
            self._column.text = WATCHING
            self._column.attach(trainer.progress_bar_callback)
        if not taped:
            self._chronicle.unsupported(
                "compiled modules are not taped: activations are not watched"
            )

    def _folder(self, trainer: Trainer) -> Path | None:
        """Return where to write; None where this rank, or a run of a few steps, writes nothing."""
        logs = log_folder(trainer)  # on every rank: it is a collective
        if not trainer.is_global_zero or is_fast_dev_run(trainer):
            return None
        return logs if self._dirpath is None else Path(self._dirpath)

    def _feed(self, trainer: Trainer, clock: int) -> LoggerFeed | None:
        every_n_steps = int(getattr(trainer, "log_every_n_steps", 0))  # barebones has none
        if not (self._log and trainer.is_global_zero and trainer.loggers and every_n_steps > 0):
            return None
        # What Lightning's own loggers count by; `global_step` counts every optimizer.
        logged = trainer.fit_loop.epoch_loop._batches_that_stepped
        return LoggerFeed(trainer.loggers, every_n_steps, offset=logged - clock)

    # -- one batch ------------------------------------------------------------------------------

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note the batch."""
        self._begin_batch(batch)
        if self._absent and self._watch is not None and self._watch.inquiry.ready(batch):
            self._watch.ranks.answer()

    @property
    def _absent(self) -> bool:
        """Whether watching has failed here, and other ranks do not know it yet."""
        return self._watch is not None and bool(self._watch.ranks.failure)

    @harmless
    def _begin_batch(self, batch: Any) -> None:
        if self._watch is None:
            return
        self._watch.waiting.batch_starts()
        self._experiment(self._watch, batch)
        recorder, first = self._watch.recorder, not self._window_open
        self._window_open = True
        self._economy.begin_step()
        self._watch.treatment.before_batch(first)
        look = self._first_look if recorder.clock == 0 and first else None
        recorder.begin_batch(batch, first_of_window=first, before_first_loss=look)

    def _leave_out_waiting(self) -> None:
        """Something else than the next batch comes: what it takes is no waiting."""
        if self._watch is not None:
            self._watch.waiting.interrupt()

    def _experiment(self, watch: Watch, batch: Any) -> None:
        """Make the experiment that is wanted, if any; what it measured is diagnosed with the step.

        It is made before the tape starts and the guard looks: nothing of ours is in the way.
        """
        made = watch.inquiry.before_batch(batch)
        if made is None:
            return
        experiment, result = made
        for row in result.rows:
            watch.recorder.record_row(experiment.signal, row)
        self._chronicle.note(Note(watch.recorder.clock, described(result)))
        if watch.inquiry.obstacle is not None:
            self._chronicle.unsupported(f"no experiment can be made: {watch.inquiry.obstacle}")
        elif result.failure:
            self._chronicle.unsupported(f"the experiment {result.name} failed: {result.failure}")

    @harmless
    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Note the loss."""
        if self._watch is not None:
            self._watch.recorder.observe_loss(loss)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Any
    ) -> None:
        """Note the gradients before clipping, and guard the step."""
        if self._watch is not None:
            self._watch.ranks.note_step()
        self._begin_step(trainer, pl_module, optimizer)

    @harmless
    def _begin_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if self._watch is None:
            return
        index, adapter = self._watch.treatment.adapter_of(optimizer)
        automatic = pl_module.automatic_optimization
        norms = self._watch.recorder.observe_gradients(
            index,
            accumulated=trainer.accumulate_grad_batches if automatic else None,
            loss_scale=adapter.loss_scale,
            scale=adapter.gradient_scale,
        )
        if norms is not None:
            self._watch.treatment.before_step(adapter, norms)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Close the step; every so often, diagnose and treat."""
        news = self._watch is not None and self._watch.inquiry.has_news
        self._end_batch(trainer, pl_module, outputs, batch)
        if self._watch is not None:
            self._watch.ranks.end_batch(news=news)

    @harmless
    def _end_batch(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any
    ) -> None:
        if self._watch is None:
            return
        recorder, treatment = self._watch.recorder, self._watch.treatment
        if recorder.profile.unshaped:
            recorder.profile = _profile(trainer, pl_module, adapt(trainer))
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        closely = recorder.sampled_now
        closed = recorder.end_batch(
            loss=loss if isinstance(loss, Tensor) else None,
            learning_rates=treatment.learning_rates(closely=recorder.sampled_now),
            skipped=treatment.after_step(),
        )
        failure, recorder.failure = recorder.failure, None
        if failure is not None:
            kind = type(failure).__name__
            self._chronicle.unsupported(f"the forward pass could not be taped: {kind}: {failure}")
        if closed:
            self._window_open = False
            treatment.step = recorder.clock
            treatment.note_batch(batch)
            if recorder.due or self._watch.inquiry.has_news:
                closely = True
                with treatment.given(batch):
                    self._consider(self._watch)
        self._economy.end_step(closely=closely)
        self._watch.waiting.batch_ends()

    # -- validation and epochs ------------------------------------------------------------------

    @harmless
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a validation."""
        self._validation.reset()
        self._leave_out_waiting()

    @harmless
    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Look whether training has been given these samples."""
        if not trainer.sanity_checking and self._watch is not None:
            self._watch.recorder.observe_validation(batch)

    @harmless
    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add to the validation loss, for runs that log none."""
        if not trainer.sanity_checking and self._watch is not None:
            self._validation.update(outputs, batch_size(batch))

    @harmless
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the validation loss and the logged metrics."""
        if trainer.sanity_checking or self._watch is None:
            return
        recorder, metrics = self._watch.recorder, trainer.callback_metrics
        recorder.end_validation()
        name = loss_name(metrics, recorder.profile.monitor)
        loss = float(metrics[name]) if name is not None else self._validation.compute()
        if loss is not None:
            recorder.record_value(signal.VALIDATION_LOSS, loss)
        _record_metrics(trainer, recorder)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the end of the epoch."""
        if self._watch is None:
            return
        extends = self._watch.treatment.may_extend and is_last_epoch(trainer)
        self._end_epoch(self._watch, trainer, extends)
        if extends and self._absent:
            self._watch.ranks.answer()

    @harmless
    def _end_epoch(self, watch: Watch, trainer: Trainer, extends: bool) -> None:
        self._leave_out_waiting()
        watch.recorder.end_epoch()
        if not watch.recorder.profile.has_validation:
            _record_metrics(trainer, watch.recorder)
        if extends:
            self._consider(watch, finished=True)

    # -- diagnosis ------------------------------------------------------------------------------

    def _first_look(self, draft: Draft) -> None:
        """Report what is certain before the first loss: bad labels may crash the device."""
        if self._watch is not None:
            history = self._watch.recorder.first_look(draft)
            certain = tuple(f for f in diagnose(history, self._rules) if f.certain)
            self._chronicle.tell(self._chronicle.ledger.add(certain))

    def _consider(self, watch: Watch, *, finished: bool = False, ended: bool = False) -> None:
        """Drain, diagnose and, while training goes on, treat; the same on every rank.

        Ranks that have met come to the end together. After an exception each is on its own.
        """
        together = watch.ranks.several and (finished or not ended)
        if ended or finished:
            watch.recorder.close_unstepped()
        due = finished or ended or watch.treatment.on_trial or watch.inquiry.has_news
        spared, losses = not (finished or ended) and self._spared(watch), None
        if together:
            losses, spared, due = self._meet(watch, spared=spared, at_once=due)
        watch.recorder.spared = spared
        self._drain(watch, losses, ended=ended, finished=finished)
        if due or (not together and self._due(watch, self._history)):
            self._examine(watch, together, ended=ended, finished=finished)
            if together:
                watch.ranks.close()

    def _meet(self, watch: Watch, *, spared: bool, at_once: bool) -> tuple[Tensor, bool, bool]:
        """Average the losses over the ranks; return them, and what all of them do.

        Each says by what it knew before whether to diagnose: what is new arrives with the losses.
        """
        recorder, replicas = watch.recorder, watch.replicated and watch.recorder.replicas_due
        recorder.spared = spared
        more = at_once or replicas or self._due(watch, recorder.history())
        meeting = watch.ranks.open(recorder.losses, affordable=not spared, more=more)
        if replicas:
            recorder.compare_replicas(watch.ranks.largest)
        return meeting.losses, not meeting.affordable, meeting.answer

    def _drain(self, watch: Watch, losses: Tensor | None, *, ended: bool, finished: bool) -> None:
        _record_waiting(watch)
        try:
            watch.recorder.drain(losses=losses, wait=ended or finished)
        except RuntimeError as error:
            if not ended:
                raise
            # After an assertion on an accelerator nothing can be read from it any more.
            self._chronicle.unsupported(
                f"the last steps could not be read from the device: {error}"
            )
        self._history = watch.recorder.history(finished=finished)
        if not ended:
            self._chronicle.log(self._history)

    def _examine(self, watch: Watch, together: bool, *, ended: bool, finished: bool) -> None:
        """Diagnose, tell what is new and, while training goes on, ask or treat."""
        treatment, chronicle = watch.treatment, self._chronicle
        self._current = self._diagnose(watch, together)
        chronicle.tell(chronicle.ledger.update(self._current, treatment.treated_codes))
        if treatment.tell_skipped(self._history, self._current):
            self._current = self._diagnose(watch, together)
        if ended:
            return
        watch.inquiry.has_news = False
        may_ask = not (treatment.on_trial or finished)
        asked = may_ask and watch.inquiry.consider(self._history, self._current)
        if not asked:  # what is measured next may change what is to be treated
            treatment.consider(self._history, self._current)
            verdict, treatment.verdict = treatment.verdict, None
            chronicle.tell(chronicle.ledger.add(() if verdict is None else (verdict,)))
        self._show_state(bar_state(self._current, treatment.trial))

    def _show_state(self, text: str) -> None:
        if self._column is not None:
            self._column.text = text

    def _spared(self, watch: Watch) -> bool:
        """Whether close looks cost too much to take one now."""
        since = watch.treatment.episode_step
        if watch.treatment.on_trial or self._cadence.bound(watch.recorder.clock, since):
            return False
        return not self._economy.affordable()

    def _due(self, watch: Watch, history: History) -> bool:
        since = watch.treatment.episode_step
        return self._cadence.due(history, since, spared=watch.recorder.spared)

    def _diagnose(self, watch: Watch, together: bool) -> tuple[Finding, ...]:
        """Diagnose the run as it is since its last treatment; rank zero speaks for all."""

        def make() -> tuple[Finding, ...]:
            seen = self._history.without(watch.treatment.skipped_steps)
            return diagnose_since(seen, watch.treatment.episode_step, self._rules)

        return watch.ranks.first(make) if together else make()

    def give_up(self, where: str, error: Exception) -> None:
        """Step aside after a failure of our own: say so, let go of the run, let it go on."""
        self.disabled = True
        kind, moment = type(error).__name__, where.strip("_").replace("_", " ")
        message = f"watching failed at '{moment}' and stopped: {kind}: {error}"
        if isinstance(error, RankFailedError):
            message = f"watching stopped: {error}"
        _try_last(lambda: self._chronicle.unsupported(message, Severity.WARNING))
        _try_last(self._release)
        _try_last(partial(self._chronicle.save, self._history))
        _try_last(self._chronicle.close)
        if self._watch is not None and not isinstance(error, RankFailedError):
            self._watch.ranks.step_aside(message)

    # -- the end --------------------------------------------------------------------------------

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Diagnose the whole run and report."""
        self._end(trainer)
        if self._absent and self._watch is not None:
            self._watch.ranks.answer()

    @harmless
    def _end(self, trainer: Trainer) -> None:
        if self._watch is not None:
            # What was logged for the last epoch is known only now.
            _record_metrics(trainer, self._watch.recorder, known=self._watch.recorder.history())
            self._consider(self._watch, finished=True, ended=True)
            self._watch.treatment.end(self._history, self._current)
            self._conclude()

    @harmless
    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Report what is known of a training that died."""
        if self._watch is None:
            return
        self._watch.recorder.abandon_batch()
        kind, step = type(exception).__name__, self._watch.recorder.clock
        self.journal.append(Note(step, f"training ended with {kind}: {exception}"))
        self._consider(self._watch, ended=True)
        self._watch.treatment.end(self._history, self._current)
        self._conclude()

    def _conclude(self) -> None:
        self._chronicle.conclude(self._current, self._history)
        self._release()
        self._chronicle.close()

    @harmless
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let go of the run."""
        self._release()
        self._chronicle.close()

    def _release(self) -> None:
        if self._column is not None:
            self._column.detach()
        if self._watch is not None:
            self._watch.recorder.release()
            self._watch.treatment.release()
            self._watch.inquiry.release()

    # -- resume ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return recorder, journal, findings and treatment in plain types and tensors."""
        state: dict[str, Any] = {}
        self._put_state(state)
        return state

    @harmless
    def _put_state(self, state: dict[str, Any]) -> None:
        if self._watch is None:
            return
        self._leave_out_waiting()
        whole = {
            "recorder": self._watch.recorder.state_dict(),
            **self._chronicle.state_dict(),
            "treatment": self._watch.treatment.state_dict(),
            "inquiry": self._watch.inquiry.state_dict(),
        }
        state.update(whole)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state until training starts: optimizers and loops exist only then."""
        self._restored = state_dict
        self._chronicle.load_state_dict(state_dict)


def _profile(
    trainer: Trainer, module: LightningModule, adapters: Sequence[OptimizerAdapter]
) -> Profile:
    flags = [adapter.capabilities for adapter in adapters]
    return take_profile(trainer, module, flags, getattr(module, "plateau_hints", Hints()))


def _needed(rules: Sequence[Rule]) -> frozenset[str]:
    always = (signal.LOSS, signal.GRADIENT_NORM, signal.VALIDATION_LOSS, signal.GRADIENT_NORMS)
    return frozenset(s.tag for s in always) | {s.tag for rule in rules for s in rule.requires}


def _try_last(action: Callable[[], object]) -> None:
    """Do what may fail for the same reason for which watching has."""
    try:
        action()
    except Exception as error:  # noqa: BLE001 - nothing else is left to tell it by
        warnings.warn(f"lightning_plateau: {type(error).__name__}: {error}", stacklevel=3)


def _record_waiting(watch: Watch) -> None:
    times = watch.waiting.take()
    if times is not None and watch.recorder.wants(signal.DATA_WAIT):
        watch.recorder.record_row(signal.DATA_WAIT, times)


def _record_metrics(trainer: Trainer, recorder: Recorder, known: History | None = None) -> None:
    for name, value in trainer.callback_metrics.items():
        if value.numel() == 1 and (known is None or signal.metric(name) not in known):
            recorder.record_value(signal.metric(name), float(value))
