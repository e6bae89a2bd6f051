"""PlateauCallback: the hooks of Lightning, and the wiring between them and the pipeline."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, ParamSpec, cast

import torch
from torch import Tensor

from lightning_plateau.core import signal
from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.journal import Journal, Note
from lightning_plateau.core.rule import Rule
from lightning_plateau.diagnosis import diagnose, select_rules
from lightning_plateau.framework import Callback, LightningModule, Trainer
from lightning_plateau.ledger import Ledger
from lightning_plateau.optimizers import adapt
from lightning_plateau.policy import Policy
from lightning_plateau.recording.batch import batch_size
from lightning_plateau.recording.profile import Hints, take_profile
from lightning_plateau.recording.recorder import Recorder
from lightning_plateau.recording.tape import Draft
from lightning_plateau.recording.validation import ValidationLoss, loss_name
from lightning_plateau.report.terminal import Announcer, summary
from lightning_plateau.run import Run
from lightning_plateau.treatment import Treatment

P = ParamSpec("P")
PolicyName = Literal["observe", "safe", "auto"]


def harmless(hook: Callable[P, None]) -> Callable[P, None]:
    """Let a failure of ours never reach the training: it becomes one finding, and we step aside."""

    @functools.wraps(hook)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        callback = cast(PlateauCallback, args[0])
        if callback.disabled:
            return
        try:
            hook(*args, **kwargs)
        except Exception as error:
            callback.give_up(hook.__name__, error)

    return guarded


class PlateauCallback(Callback):
    """Tells why the loss does not go down, and treats what can be treated.

    Pass it to the Trainer; without arguments it watches the training, skips steps that are not
    finite exactly, and prints what it finds. After ``fit`` read ``findings``, ``journal``, ``history``.

    Args:
        policy: What may be done to the run. ``"observe"``: nothing. ``"safe"``: only what cannot hurt a
            healthy run. ``"auto"``: all remedies, each on trial. Or a ``Policy``.
        rules: Rule objects to use in place of all.
        select: Codes, beginnings of codes or names of the rules to use.
        ignore: The same, of the rules to leave out.
        every_n_steps: Optimizer steps between diagnoses.
        dirpath: Folder for ``journal.jsonl`` and ``history.npz``; by default ``plateau`` in the logger's folder.
        dry_run: Say what would be done, and do nothing.

    Raises:
        ValueError: If an argument is out of its range; the message says what was expected.

    Example:
        >>> PlateauCallback(policy="careful")
        Traceback (most recent call last):
            ...
        ValueError: policy must be 'observe', 'safe', 'auto' or a Policy, but is 'careful'
    """

    def __init__(
        self,
        *,
        policy: PolicyName | Policy = "safe",
        rules: list[Rule] | None = None,
        select: list[str] | None = None,
        ignore: list[str] | None = None,
        every_n_steps: int = 50,
        dirpath: str | None = None,
        dry_run: bool = False,
    ) -> None:
        super().__init__()
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, but is {every_n_steps}")
        self.disabled = False
        self.journal = Journal()
        self._policy = Policy.of(policy, dry_run=dry_run)
        self._rules = select_rules(rules, select, ignore)
        self._every_n_steps = every_n_steps
        self._dirpath = dirpath
        self._announcer = Announcer()
        self._ledger = Ledger(frozenset(rule.code for rule in self._rules if rule.symptom))
        self._recorder: Recorder | None = None
        self._treatment: Treatment | None = None
        self._validation = ValidationLoss()
        self._restored: Mapping[str, Any] | None = None
        self._window_open = False
        self._folder: Path | None = None
        self._history = History()

    # -- what users read ------------------------------------------------------------------------

    @property
    def state_key(self) -> str:
        """Key of the state in checkpoints; the same for every setting."""
        return "PlateauCallback"

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings so far, the most probable cause first."""
        return self._ledger.findings

    @property
    def history(self) -> History:
        """What was recorded so far."""
        return self._history

    def record(self, name: str, value: Tensor | float) -> None:
        """Record a value as the signal ``user/<name>`` at the current step."""
        if self._recorder is None:
            return
        if isinstance(value, Tensor):
            self._recorder.record_tensor(signal.user(name), value)
        else:
            self._recorder.record_value(signal.user(name), float(value))

    # -- the start ------------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set up: the optimizers, their restored learning rates and the loaders are known only now."""
        self.disabled = False
        self._prepare(trainer, pl_module)

    @harmless
    def _prepare(self, trainer: Trainer, module: LightningModule) -> None:
        self._recorder = None
        adapters = adapt(trainer)
        tape = not _compiled(module)
        self._announcer.enabled = trainer.is_global_zero
        recorder = Recorder(
            module,
            [adapter.parameters() for adapter in adapters],
            every_n_steps=self._every_n_steps,
            tags=_needed(self._rules),
            tape=tape,
        )
        hints = getattr(module, "plateau_hints", Hints())
        recorder.profile = take_profile(trainer, module, [adapter.capabilities for adapter in adapters], hints)
        if self._restored is None:
            self.journal = Journal()
            self._ledger.clear()
        self._open_journal(trainer, fresh=self._restored is None)
        run = Run.of(trainer, module, adapters)
        self._treatment = Treatment(run, self._policy, self.journal, self._announcer)
        if self._restored is not None:
            recorder.load_state_dict(self._restored["recorder"])
            self._treatment.load_state_dict(self._restored["treatment"])
            self._restored = None
        self._recorder = recorder
        self._treatment.start(recorder.clock)
        self._history = recorder.history()
        self._window_open = False
        if not tape:
            self._unsupported("compiled modules are not taped: activations and the loss call are not watched")

    def _open_journal(self, trainer: Trainer, *, fresh: bool) -> None:
        folder = Path(self._dirpath) if self._dirpath is not None else _log_folder(trainer)
        if not trainer.is_global_zero or getattr(trainer, "fast_dev_run", False):
            return
        if fresh and self._dirpath is None:
            folder = _unused(folder)
        self._folder = folder
        self.journal.open(folder / "journal.jsonl")
        if self.journal.failure is not None:
            self._folder = None
            self._unsupported(
                f"the journal cannot be written to {folder} ({self.journal.failure}); "
                "it is kept in memory: pass a writable dirpath"
            )

    # -- one batch ------------------------------------------------------------------------------

    @harmless
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note the batch."""
        if self._recorder is None or self._treatment is None:
            return
        first = not self._window_open
        self._window_open = True
        self._treatment.before_batch(first)
        look = self._first_look if self._recorder.clock == 0 and first else None
        self._recorder.begin_batch(batch, first_of_window=first, before_first_loss=look)

    @harmless
    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Note the loss."""
        if self._recorder is not None:
            self._recorder.observe_loss(loss)

    @harmless
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Note the gradients before clipping, and guard the step."""
        if self._recorder is None or self._treatment is None:
            return
        index, adapter = self._treatment.adapter_of(optimizer)
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        loss_scale = scaler._get_scale_async() if scaler is not None and scaler.is_enabled() else None
        norms = self._recorder.observe_gradients(
            index,
            accumulated=trainer.accumulate_grad_batches if pl_module.automatic_optimization else None,
            loss_scale=loss_scale,
            scale=adapter.gradient_scale(),
        )
        if norms is not None:
            self._treatment.before_step(adapter, norms)

    @harmless
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Close the step; every so often, diagnose and treat."""
        if self._recorder is None or self._treatment is None:
            return
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        closed = self._recorder.end_batch(
            loss=loss if isinstance(loss, Tensor) else None,
            learning_rates=self._treatment.learning_rates(),
            skipped=self._treatment.after_step(),
        )
        if self._recorder.failure is not None:
            failure, self._recorder.failure = self._recorder.failure, None
            self._unsupported(f"the forward pass could not be taped: {type(failure).__name__}: {failure}")
        if not closed:
            return
        self._window_open = False
        self._treatment.step = self._recorder.clock
        if self._recorder.due:
            self._consider(trainer)

    # -- validation and epochs ------------------------------------------------------------------

    @harmless
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a validation."""
        self._validation.reset()

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
        if not trainer.sanity_checking and self._recorder is not None:
            self._validation.update(outputs, batch_size(batch))

    @harmless
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the validation loss and the logged metrics."""
        recorder = self._recorder
        if trainer.sanity_checking or recorder is None:
            return
        name = loss_name(trainer.callback_metrics, recorder.profile.monitor)
        loss = float(trainer.callback_metrics[name]) if name is not None else self._validation.compute()
        if loss is not None:
            recorder.record_value(signal.VALIDATION_LOSS, loss)
        self._record_metrics(trainer)

    @harmless
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the end of the epoch."""
        if self._recorder is not None:
            self._recorder.end_epoch()
            if not self._recorder.profile.has_validation:
                self._record_metrics(trainer)

    def _record_metrics(self, trainer: Trainer) -> None:
        for name, value in trainer.callback_metrics.items():
            if value.numel() == 1 and self._recorder is not None:
                self._recorder.record_value(signal.metric(name), float(value))

    # -- diagnosis ------------------------------------------------------------------------------

    def _first_look(self, draft: Draft) -> None:
        """Report what is certain before the first loss is computed: bad labels may crash the device."""
        if self._recorder is not None:
            history = self._recorder.first_look(draft)
            certain = tuple(finding for finding in diagnose(history, self._rules) if finding.certain)
            self._tell(self._ledger.add(certain))

    def _consider(self, trainer: Trainer, *, finished: bool = False, ended: bool = False) -> None:
        assert self._recorder is not None and self._treatment is not None
        several = trainer.world_size > 1
        reduce = functools.partial(trainer.strategy.reduce, reduce_op="mean") if several and not ended else None
        self._recorder.drain(reduce=cast(Any, reduce), wait=finished or ended)
        self._history = self._recorder.history(finished=finished)
        findings = diagnose(self._history, self._rules)
        if several and not ended:
            findings = trainer.strategy.broadcast(findings)
        self._tell(self._ledger.update(findings, self._treatment.treated_codes))
        if not ended:
            self._treatment.consider(self._history, findings)

    def _tell(self, new: Sequence[Finding]) -> None:
        for finding in new:
            self.journal.append(finding)
            self._announcer.finding(finding)

    def _unsupported(self, message: str) -> None:
        """Say once what could not be watched."""
        step = self._recorder.clock if self._recorder is not None else 0
        finding = Finding(
            "LP903",
            "unsupported-here",
            step,
            Severity.INFO,
            1.0,
            message,
            why="the training goes on; findings that rest on it are not made",
        )
        self._tell(self._ledger.add((finding,)))

    def give_up(self, where: str, error: Exception) -> None:
        """Step aside after a failure of our own: say so once, release everything, let the run go on."""
        self.disabled = True
        self._unsupported(f"watching failed in {where} and stopped: {type(error).__name__}: {error}")
        if self._recorder is not None:
            self._recorder.release()
        if self._treatment is not None:
            self._treatment.release()

    # -- the end --------------------------------------------------------------------------------

    @harmless
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Diagnose the whole run and report."""
        if self._recorder is not None and self._treatment is not None:
            self._consider(trainer, finished=True, ended=True)
            self._treatment.end(self._history, self.findings)
            self._conclude()

    @harmless
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Report what is known of a training that died."""
        if self._recorder is None or self._treatment is None:
            return
        self._recorder.abandon_batch()
        self.journal.append(Note(self._recorder.clock, f"training ended with {type(exception).__name__}: {exception}"))
        self._consider(trainer, ended=True)
        self._treatment.release()
        self._conclude()

    def _conclude(self) -> None:
        artefacts = []
        if self._folder is not None:
            try:
                self._history.save(self._folder / "history.npz")
            except OSError as error:
                self._unsupported(f"the history cannot be written to {self._folder}: {error}")
            else:
                artefacts.append(str(self._folder))
        self._announcer.lines(summary(self.findings, self.journal, self._history, tuple(artefacts)))
        self.journal.close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let go of the run."""
        if self._recorder is not None:
            self._recorder.release()
        if self._treatment is not None:
            self._treatment.release()
        self.journal.close()

    # -- resume ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return recorder, journal, findings and treatment in plain types and tensors."""
        if self._recorder is None or self._treatment is None or self.disabled:
            return {}
        return {
            "recorder": self._recorder.state_dict(),
            "journal": self.journal.state_dict(),
            "ledger": self._ledger.state_dict(),
            "treatment": self._treatment.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state until training starts: optimizers and loops exist only then."""
        self._restored = state_dict
        self.journal.load_state_dict(state_dict["journal"])
        self._ledger.load_state_dict(state_dict["ledger"])


def _needed(rules: Sequence[Rule]) -> frozenset[str]:
    always = (signal.LOSS, signal.GRADIENT_NORM, signal.VALIDATION_LOSS, signal.GRADIENT_NORMS)
    return frozenset(s.tag for s in always) | {s.tag for rule in rules for s in rule.requires}


def _compiled(module: torch.nn.Module) -> bool:
    """Whether some part of the module is compiled: a tape must not be active in a compiled region."""
    return getattr(module, "_compiler_ctx", None) is not None or any(
        child._compiled_call_impl is not None or type(child).__name__ == "OptimizedModule" for child in module.modules()
    )


def _log_folder(trainer: Trainer) -> Path:
    # On every rank: log_dir is a collective.
    return Path(trainer.log_dir or trainer.default_root_dir) / "plateau"


def _unused(folder: Path) -> Path:
    """Return ``folder``, or ``folder-1``, ``folder-2`` … where a journal of another run lies in it."""
    candidate, number = folder, 0
    while (candidate / "journal.jsonl").exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate
