"""What was watched in a run and what was not: signals, rules, and what stood in the way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lightning_plateau.core.history import History
from lightning_plateau.core.journal import Journal
from lightning_plateau.core.rule import Rule
from lightning_plateau.report.phrases import counted, number

UNSUPPORTED = "LP903"


@dataclass(frozen=True, slots=True)
class Unasked:
    """A rule that had nothing to look at, and the signals that it lacked."""

    code: str
    name: str
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Coverage:
    """What was watched in a run.

    Attributes:
        signals: Tag, meaning and number of rows of every signal that was recorded.
        asked: How many rules had what they read.
        unasked: Rules that had not.
        tapes: Steps whose forward pass was taped and kept.
        obstacles: What could not be watched, and why.
    """

    signals: tuple[tuple[str, str, int], ...]
    asked: int
    unasked: tuple[Unasked, ...]
    tapes: tuple[int, ...]
    obstacles: tuple[str, ...]


def coverage(history: History, journal: Journal, rules: Iterable[type[Rule]]) -> Coverage:
    """Return what was watched.

    Example:
        >>> from lightning_plateau.rules.flat_loss import FlatLoss
        >>> coverage(History(), Journal(), [FlatLoss]).unasked[0].missing
        ('loss/train', 'optimizer/learning_rate')
    """
    rules = tuple(rules)
    lacking = ((rule, tuple(s.tag for s in rule.requires if s not in history)) for rule in rules)
    unasked = tuple(Unasked(rule.code, rule.name, lacks) for rule, lacks in lacking if lacks)
    return Coverage(
        signals=tuple((s.tag, s.help, len(history[s])) for s in history if s in history),
        asked=len(rules) - len(unasked),
        unasked=unasked,
        tapes=tuple(tape.step for tape in history.tapes),
        obstacles=tuple(
            dict.fromkeys(f.message for f in journal.findings if f.code == UNSUPPORTED)
        ),
    )


def facts(history: History) -> tuple[tuple[str, str], ...]:
    """Return what is known of the run itself, as names and values.

    Example:
        >>> facts(History())[0]
        ('steps', '0 steps')
    """
    profile = history.profile
    planned = "" if profile.planned_steps is None else f" of {profile.planned_steps} planned"
    frozen = sum(p.size for p in profile.parameters if not p.trainable)
    known = (
        ("steps", counted(history.step, "step") + planned),
        ("epochs ended", number(len(history.epoch_ends)) if history.epoch_ends else ""),
        ("optimizers", ", ".join(_optimizer(o.kind, o.groups) for o in profile.optimizers)),
        ("schedulers", ", ".join(f"{s.kind} each {s.interval}" for s in profile.schedulers)),
        ("weights", f"{profile.trainable_size:,} trained, {frozen:,} frozen"),
        ("precision", profile.precision),
        ("strategy", f"{profile.strategy}, {counted(profile.world_size, 'process')}"),
        ("accumulated batches", _unless(profile.accumulate_grad_batches, 1)),
        ("gradient clipping", _unless(profile.gradient_clip_val, None)),
        ("training samples", _unless(profile.dataset_size, None)),
    )
    shown = known if profile.parameters else known[:2]
    return tuple((name, value) for name, value in shown if value)


def _optimizer(kind: str, groups: Iterable[object]) -> str:
    count = len(tuple(groups))
    return kind if count <= 1 else f"{kind} ({counted(count, 'group')})"


def _unless(value: float | None, usual: float | None) -> str:
    return "" if value == usual else number(value)
