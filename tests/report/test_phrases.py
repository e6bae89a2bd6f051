from __future__ import annotations

import pytest

from lightning_plateau.core.journal import Note
from lightning_plateau.report.phrases import number, one_line, wrapped
from tests.report.runs import CLIP, DECAY, FLAT, KEPT, NOT_KEPT


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (FLAT, "step 200: LP401 flat-loss (likely): the loss stays at 2.303"),
        (
            DECAY,
            "step 50: applied decay-learning-rate for LP406 (learning_rate 5 → 0.5)",
        ),
        (
            KEPT,
            "step 120: kept decay-learning-rate for LP406: the loss fell (loss 7.1 → 0.9)",
        ),
        (CLIP, "step 160: applied clip-gradients for LP301 (clip none → 1)"),
        (NOT_KEPT, "step 210: reverted clip-gradients for LP301: no gain (loss 0.91 → 0.95)"),
        (Note(3, "training\nended"), "step 3: training ended"),
    ],
)
def test_one_line(record, line):
    assert one_line(record) == line


def test_one_line_refuses_what_is_no_record():
    with pytest.raises(TypeError, match="expected a finding"):
        one_line("a text")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (float("inf"), "infinity"),
        (float("-inf"), "−infinity"),
        (3, "3"),
        (False, "false"),
        ("a", "a"),
    ],
)
def test_number(value, text):
    assert number(value) == text


def test_wrapped_says_that_something_was_cut():
    assert wrapped("one two three four", 9, most=2) == ["one two", "three …"]


def test_wrapped_keeps_lines_of_code_apart():
    assert wrapped("a = 1\nb = 2", 40, label="fix ") == ["fix a = 1", "    b = 2"]
