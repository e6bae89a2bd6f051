"""PlateauCallback: the hooks of Lightning, and the wiring between them and the pipeline."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, get_args

from torch import Tensor

from lightning_plateau.chronicle import Chronicle
from lightning_plateau.core import signal
from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.journal import Journal
from lightning_plateau.core.rule import Rule
from lightning_plateau.framework import Callback, LightningModule, Trainer
from lightning_plateau.occasions import Check, When
from lightning_plateau.ranks import RankFailedError
from lightning_plateau.report.progress_column import WATCHING, ProgressColumn
from lightning_plateau.settings import Settings
from lightning_plateau.training.surroundings import (
    is_compiled,
    is_fast_dev_run,
    is_last_epoch,
    log_folder,
)
from lightning_plateau.treatment.policy import Policy

if TYPE_CHECKING:
    from lightning_plateau.report.loggers import LoggerFeed
    from lightning_plateau.watch import Watch

P = ParamSpec("P")
PolicyName = Literal["observe", "safe", "auto"]


def harmless(hook: Callable[P, None]) -> Callable[P, None]:
    """Let a failure of ours never reach the training: it becomes one finding, and we step aside."""
    return _guarded(hook, lambda callback: callback.disabled)


def in_step(hook: Callable[P, None]) -> Callable[P, None]:
    """Do the same; but keep in step with other ranks until they know that watching has failed.

    What is spread over the ranks is measured together, and a step that one skips all skip.
    """
    return _guarded(hook, lambda callback: callback.disabled and not callback.is_absent)


def _guarded(hook: Callable[P, None], over: Callable[[Any], bool]) -> Callable[P, None]:
    @wraps(hook)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        callback: Any = args[0]
        if over(callback):
            return
        try:
            hook(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - it becomes LP903, and the run goes on
            callback.give_up(hook.__name__, error)

    return guarded


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
        from lightning_plateau.diagnosis import select_rules

        super().__init__()
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, but is {every_n_steps}")
        if experiments not in get_args(When):
            raise ValueError(f"experiments must be 'when-stuck' or 'never', but is {experiments!r}")
        self.disabled = False
        self._failed = ""
        self._settings = Settings(
            Policy.of(policy, dry_run=dry_run),
            select_rules(rules, select, ignore),
            every_n_steps,
            experiments,
            check,
        )
        self._dirpath = dirpath
        self._log = policy not in ("observe", Policy.observe()) if log is None else log
        self._column = ProgressColumn() if progress_bar else None
        symptoms = frozenset(rule.code for rule in self._settings.rules if rule.symptom)
        self._chronicle = Chronicle(symptoms, quiet=quiet)
        self._watch: Watch | None = None
        self._history = History()
        self._restored: Mapping[str, Any] | None = None
        self._unread = ""

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process can be started with: all but the training under way."""
        return {**vars(self), "_watch": None, "_history": self.history}

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
        return self._history if self._watch is None else self._watch.history

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
        from lightning_plateau.training.optimizers import adapt
        from lightning_plateau.training.run import Run
        from lightning_plateau.treatment.treatment import resume_optimizers

        if self._restored is not None:
            run = Run.of(trainer, module, adapt(trainer))
            resume_optimizers(run, self._restored["treatment"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set up: optimizers, restored learning rates and loaders are known only now."""
        self.disabled, self._failed = False, ""
        self._watch = None
        self._chronicle.begin(speaks=trainer.is_global_zero)
        self._prepare(trainer, pl_module)
        if trainer.world_size > 1:
            self._begin_together(trainer)

    def _begin_together(self, trainer: Trainer) -> None:
        """Watch on all ranks or on none; a rank that could not be prepared comes here too."""
        strategy, ranks = trainer.strategy, range(trainer.world_size)
        ready = strategy.reduce_boolean_decision(not self.disabled, all=True)
        if not ready:
            said = [strategy.broadcast(self._failed, src=rank) for rank in ranks]
            rank = next(rank for rank in ranks if said[rank])
            if not self.disabled:
                self.give_up("on_train_start", RankFailedError(f"on rank {rank}: {said[rank]}"))
        batches = trainer.num_training_batches
        even = batches == strategy.broadcast(batches) and batches != float("inf")
        ends_alike = strategy.reduce_boolean_decision(even, all=True)
        if ready and self._watch is not None and not ends_alike:
            self._watch.ranks.expect_uneven_ends()

    @harmless
    def _prepare(self, trainer: Trainer, module: LightningModule) -> None:
        from lightning_plateau.watch import Watch  # most of the library, which no import needs

        restored, self._restored = self._restored, None
        unread, self._unread = self._unread, ""
        if restored is None:
            self._chronicle.forget()
        self._chronicle.open_folder(self._folder(trainer))
        settings, chronicle = self._settings, self._chronicle
        watch = Watch(trainer, module, settings, chronicle, restored, self._show)
        self._watch = watch
        chronicle.clock = lambda: watch.recorder.clock
        chronicle.open_loggers(self._feed(trainer, watch.recorder.clock), watch.history)
        if self._column is not None:
            self._column.text = WATCHING
            self._column.attach(trainer.progress_bar_callback)
        if unread:
            chronicle.unsupported(f"{unread}; the run is watched as if it began here")
        if is_compiled(module):
            chronicle.unsupported("compiled modules are not taped: activations are not watched")

    def _show(self, text: str) -> None:
        if self._column is not None:
            self._column.text = text

    def _folder(self, trainer: Trainer) -> Path | None:
        """Return where to write; None where this rank, or a run of a few steps, writes nothing."""
        logs = log_folder(trainer)  # on every rank: it is a collective
        if not trainer.is_global_zero or is_fast_dev_run(trainer):
            return None
        return logs if self._dirpath is None else Path(self._dirpath)

    def _feed(self, trainer: Trainer, clock: int) -> LoggerFeed | None:
        from lightning_plateau.report.loggers import LoggerFeed

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
        if self.is_absent and self._watch is not None and self._watch.inquiry.ready(batch):
            self._answer(self._watch.ranks.answer)

    @property
    def is_absent(self) -> bool:
        """Whether watching has failed here, and other ranks do not know it yet."""
        return self._watch is not None and bool(self._watch.ranks.failure)

    def _answer(self, act: Callable[[], None]) -> None:
        """Let the others know, where they meet now, that watching has failed here."""
        absent = self.is_absent
        act()
        if absent and not self.is_absent:
            _try_last(self._release)

    @in_step
    def _begin_batch(self, batch: Any) -> None:
        if self._watch is not None:
            self._watch.begin_batch(batch)

    @in_step
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

    @in_step
    def _begin_step(self, trainer: Trainer, module: LightningModule, optimizer: Any) -> None:
        if self._watch is not None:
            self._watch.begin_step(trainer, module, optimizer)

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
            met = news or self._watch.treatment.makes_the_last_step
            self._answer(partial(self._watch.ranks.end_batch, news=met))

    @in_step
    def _end_batch(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any
    ) -> None:
        if self._watch is not None:
            self._watch.end_batch(trainer, module, outputs, batch)

    # -- validation and epochs ------------------------------------------------------------------

    @harmless
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a validation."""
        if self._watch is not None:
            self._watch.begin_validation()

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
            self._watch.add_validation(outputs, batch)

    @harmless
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the validation loss and the logged metrics."""
        if not trainer.sanity_checking and self._watch is not None:
            self._watch.end_validation(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the end of the epoch."""
        if self._watch is None:
            return
        extends = self._watch.treatment.may_extend and is_last_epoch(trainer)
        self._end_epoch(self._watch, trainer, extends=extends)
        if extends and self.is_absent:
            self._answer(self._watch.ranks.answer_at_end)

    @harmless
    def _end_epoch(self, watch: Watch, trainer: Trainer, *, extends: bool) -> None:
        watch.end_epoch(trainer, extends=extends)

    # -- the end --------------------------------------------------------------------------------

    def give_up(self, where: str, error: Exception) -> None:
        """Step aside after a failure of our own: say so, let go of the run, let it go on."""
        if self.disabled:  # and in step with the others until they know of the first failure
            return
        self.disabled = True
        kind, moment = type(error).__name__, where.strip("_").replace("_", " ")
        message = f"watching failed at '{moment}' and stopped: {kind}: {error}"
        if isinstance(error, RankFailedError):
            message = f"watching stopped: {error}"
        self._failed = message
        _try_last(lambda: self._chronicle.unsupported(message, Severity.WARNING))
        _try_last(partial(self._chronicle.save, self.history))
        _try_last(self._chronicle.close)
        if self._watch is not None and not isinstance(error, RankFailedError):
            self._watch.ranks.step_aside(message)
        if self._watch is not None and self.is_absent:
            _try_last(self._watch.recorder.keep_step)
        else:
            _try_last(self._release)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Diagnose the whole run and report."""
        self._end(trainer)
        if self._watch is not None:
            self._answer(self._watch.ranks.answer_at_end)

    @harmless
    def _end(self, trainer: Trainer) -> None:
        if self._watch is not None:
            self._watch.end(trainer)
            self._conclude(self._watch)

    @harmless
    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Report what is known of a training that died."""
        if self._watch is not None:
            self._watch.die(exception)
            self._conclude(self._watch)

    def _conclude(self, watch: Watch) -> None:
        self._chronicle.conclude(watch.findings, watch.history)
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
            self._watch.release()

    # -- resume ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return recorder, journal, findings and treatment in plain types and tensors."""
        state: dict[str, Any] = {}
        self._put_state(state)
        return state

    @harmless
    def _put_state(self, state: dict[str, Any]) -> None:
        if self._watch is not None:
            state.update(self._watch.state_dict(), **self._chronicle.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state until training starts: optimizers and loops exist only then."""
        from lightning_plateau.recording.recorder import check_version

        self._restored, self._unread = None, ""
        try:
            check_version(state_dict["recorder"])
            self._chronicle.load_state_dict(state_dict)
        except Exception as error:  # noqa: BLE001 - it becomes LP903, and the run goes on
            kind = type(error).__name__
            self._unread = f"the checkpoint holds a state that cannot be read: {kind}: {error}"
        else:
            self._restored = state_dict


def _try_last(action: Callable[[], object]) -> None:
    """Do what may fail for the same reason for which watching has."""
    try:
        action()
    except Exception as error:  # noqa: BLE001 - nothing else is left to tell it by
        warnings.warn(f"lightning_plateau: {type(error).__name__}: {error}", stacklevel=3)
