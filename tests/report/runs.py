"""Runs to report on: a sick one and a treated one, in plain numbers."""

from __future__ import annotations

import numpy as np

from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.journal import Journal, Note
from lightning_plateau.core.remedy import Intervention, Outcome, Verdict
from lightning_plateau.core.signal import GRADIENT_NORM, LEARNING_RATES, LOSS, VALIDATION_LOSS
from lightning_plateau.testing import history

SOFTMAX = Finding(
    "LP701",
    "softmax-before-cross-entropy",
    0,
    Severity.ERROR,
    1.0,
    "cross_entropy received rows that already sum to 1 (max |Σ−1| = 1e-7): the output went through "
    "softmax (net.head.softmax) and cross_entropy applies it again",
    evidence=(Evidence("max |Σ−1|", 1e-7, 1e-3, "net.head.softmax"),),
    why="gradients shrink up to K-fold",
    fix="return the logits:   return self.fc(x)            (softmax only in predict_step)",
    where="net.head.softmax",
    explains=("LP401",),
)
FLAT = Finding(
    "LP401",
    "flat-loss",
    200,
    Severity.ERROR,
    0.9,
    "the loss stays at 2.303",
    explained_by="LP701",
)
TOO_HIGH = Finding(
    "LP406",
    "learning-rate-too-high",
    50,
    Severity.ERROR,
    0.8,
    "each step moves the weights by 31 % of their norm",
    fix="lower the learning rate tenfold",
    remedies=("decay-learning-rate", "roll-back"),
)
DECAY = Intervention(
    1, 50, "decay-learning-rate", "LP406", {"learning_rate": 5.0}, {"learning_rate": 0.5}
)
KEPT = Outcome(
    1,
    120,
    "decay-learning-rate",
    "LP406",
    Verdict.KEPT,
    "the loss fell",
    {"loss": 7.1},
    {"loss": 0.9},
)
CLIP = Intervention(2, 160, "clip-gradients", "LP301", {"clip": None}, {"clip": 1.0})
NOT_KEPT = Outcome(
    2, 210, "clip-gradients", "LP301", Verdict.REVERTED, "no gain", {"loss": 0.91}, {"loss": 0.95}
)


def cause(code: str, step: int = 10, severity: Severity = Severity.ERROR) -> Finding:
    return Finding(code, "some-fault", step, severity, 0.7, "a number of " + "many words " * 40)


def journal(*records: object) -> Journal:
    made = Journal()
    for record in records:
        made.append(record)  # type: ignore[arg-type]
    return made


def treated_journal() -> Journal:
    return journal(Note(0, "training started"), TOO_HIGH, DECAY, KEPT, CLIP, NOT_KEPT)


def recorded(steps: int = 400) -> History:
    """A run whose loss and gradients explode, are broken for some steps, and recover."""
    t = np.arange(steps)
    noise = np.random.default_rng(0).normal(0, 0.12, steps)
    level = np.where(t < 60, 2.3 * np.exp(t / 12), 2.5 * np.exp(-(t - 60) / 90) + 0.02)
    loss = level * np.exp(noise)
    loss[52:60] = np.nan
    return history(
        {
            LOSS: loss,
            GRADIENT_NORM: 3 * loss * np.exp(noise),
            LEARNING_RATES: {
                "Adam": np.where(t < 50, 5.0, 0.5)[
                    :: 1 if LEARNING_RATES.cadence == "step" else steps // 4
                ]
            },
            VALIDATION_LOSS: [2.4, 1.8, 0.9, 0.4],
        },
        every=steps // 4,
        step=steps,
        epoch_ends=range(0, steps, steps // 8),
    )
