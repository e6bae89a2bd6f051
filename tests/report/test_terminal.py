from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lightning_plateau.core.finding import Severity
from lightning_plateau.core.journal import Journal
from lightning_plateau.report.terminal import explain_finding, full_report, summary
from lightning_plateau.testing import history
from tests.report.runs import FLAT, SOFTMAX, cause, journal, recorded, treated_journal

ALARMING = ("fault found", "sick", "error", "warning", "LP", "do  ")


def test_a_healthy_run_is_said_to_be_healthy_and_nothing_alarming():
    falling = history(loss=np.linspace(2.0, 0.1, 80))
    text = summary((), Journal(), falling, ["runs/plateau"])
    assert text.startswith("lightning-plateau: healthy. No fault in 80 steps; loss 1.9")
    assert len(text.splitlines()) <= 3
    assert not [word for word in ALARMING if word in text]


def test_a_remark_does_not_make_a_run_sick():
    remark = replace(cause("LP607", severity=Severity.INFO), name="redundant-bias")
    text = summary((remark,), Journal(), history(loss=[2.0, 1.0]))
    assert "healthy" in text
    assert "LP607 redundant-bias" in text


def test_the_verdict_comes_first_then_the_cause_with_its_symptom():
    lines = summary((SOFTMAX, FLAT), Journal(), recorded(), ["runs/plateau"]).splitlines()
    assert lines[0].startswith("lightning-plateau: sick. 1 fault in 400 steps")
    assert lines[1].startswith("1. LP701 softmax-before-cross-entropy ")
    assert lines[1].endswith("certain · step 0")
    assert any(line.split() == ["explains", "LP401", "flat-loss"] for line in lines)
    assert any("return the logits" in line for line in lines)
    assert lines[-1].split() == ["files", "runs/plateau"]


def test_what_was_tried_is_told_with_numbers_and_what_to_change_next_time():
    text = summary((), treated_journal(), recorded())
    assert text.startswith("lightning-plateau: treated. 1 fault found, 1 remedy kept")
    assert "learning_rate 5 → 0.5; kept: loss 7.1 → 0.9" in text
    assert "clip none → 1; reverted: loss 0.91 → 0.95" in text
    assert text.splitlines()[-1] == "do        for LP406: lower the learning rate tenfold"


@pytest.mark.parametrize("width", [60, 80, 110])
@pytest.mark.parametrize("faults", [1, 3, 4, 9])
def test_at_most_twenty_lines_and_never_wider_than_asked(width, faults):
    causes = [cause(f"LP3{n:02}") for n in range(faults)]
    symptoms = [replace(FLAT, explained_by="LP300")]
    text = summary(causes + symptoms, treated_journal(), recorded(), ["plateau"], width=width)
    lines = text.splitlines()
    assert len(lines) <= 20
    assert max(map(len, lines)) <= width
    assert sum(" · step " in line for line in lines) == min(3, faults)
    assert ("more: lightning-plateau report plateau --all" in text) == (faults > 3)


def test_losses_that_are_not_finite_are_named():
    assert "loss 2 → 2." in summary((), Journal(), history(loss=[2.0, 2.0, 2.0, np.nan]))
    text = summary((), Journal(), history(loss=[2.0] + [np.nan] * 40))
    assert text == "lightning-plateau: sick. The loss is not finite after 41 steps; loss 2 → NaN."
    assert summary((), Journal(), history(loss=[np.nan])).endswith("loss NaN → NaN.")


def test_a_run_without_a_step_can_be_summarized():
    assert summary((), Journal(), history()) == "lightning-plateau: healthy. No fault in 0 steps."


def test_files_are_named_with_their_folder():
    text = summary((), Journal(), history(), ["runs/journal.jsonl", "runs/history.npz"])
    assert text.splitlines()[-1] == "files     journal.jsonl, history.npz in runs"


def test_a_finding_is_explained_like_a_compiler_does():
    assert explain_finding(SOFTMAX, (FLAT,), width=88).splitlines() == [
        "LP701 softmax-before-cross-entropy                                      certain · step 0",
        "  cross_entropy received rows that already sum to 1 (max |Σ−1| = 1e-7): the output went",
        "  through softmax (net.head.softmax) and cross_entropy applies it again",
        "  where    net.head.softmax",
        "  seen     max |Σ−1| 1e-07 (limit 0.001) at net.head.softmax",
        "  why      gradients shrink up to K-fold",
        "  fix      return the logits:   return self.fc(x)            (softmax only in",
        "           predict_step)",
        "  explains LP401 flat-loss",
        "  check    lightning-plateau explain LP701",
    ]


def test_the_full_report_has_every_finding_and_the_journal():
    causes = [cause(f"LP30{n}") for n in range(6)]
    text = full_report(
        (*causes, SOFTMAX, FLAT), journal(SOFTMAX, *treated_journal().outcomes), recorded()
    )
    for code in ("LP300", "LP305", "LP701", "LP401"):
        assert f"\n\n{code} " in text
    assert "  step 120: kept decay-learning-rate" in text
