from __future__ import annotations

import io
import subprocess
import sys

import pytest
import rich
from rich.console import Console

from lightning_plateau.report import console
from lightning_plateau.report.console import show, styled, width
from lightning_plateau.report.terminal import full_report, summary
from tests.report.runs import FLAT, SOFTMAX, recorded, treated_journal


@pytest.fixture
def terminal(monkeypatch):
    """A terminal in colour."""
    made = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=80)
    monkeypatch.setattr(rich, "get_console", lambda: made)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return made.file


def test_colour_changes_no_word():
    for text in (
        summary((SOFTMAX, FLAT), treated_journal(), recorded()),
        full_report((SOFTMAX, FLAT), treated_journal(), recorded()),
    ):
        assert styled(text).plain == text


def test_colour_on_a_terminal(terminal):
    show("lightning-plateau: sick. [LP301] x")
    assert "\x1b[" in terminal.getvalue()
    assert "[" in terminal.getvalue().replace("\x1b[", "")


def test_no_color_is_honoured(terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    show("lightning-plateau: sick. [LP301] :smile:")
    assert terminal.getvalue() == "lightning-plateau: sick. [LP301] :smile:\n"


def test_without_rich_the_same_words(monkeypatch, capsys):
    show("lightning-plateau: sick. LP301")
    with_rich = capsys.readouterr().out
    monkeypatch.setattr(console, "find_spec", lambda _: None)
    show("lightning-plateau: sick. LP301")
    assert capsys.readouterr().out == with_rich == "lightning-plateau: sick. LP301\n"


def test_names_do_not_steer_the_terminal(capsys):
    show("layer \x1b[2J\x07\x9b31m \u202egpj.exe\nline")
    said = capsys.readouterr().out
    assert said == "layer \\x1b[2J\\x07\\x9b31m \\u202egpj.exe\nline\n"


def test_a_console_of_another_code_page_gets_what_it_can_show():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="cp1252", write_through=True)
    show("loss 7 → 1", stream)
    assert raw.getvalue().decode("cp1252").strip() == "loss 7 ? 1"


def test_a_bar_of_tqdm_is_taken_away_and_drawn_again():
    from tqdm import tqdm

    stream = io.StringIO()
    with tqdm(total=3, file=stream, mininterval=0) as bar:
        bar.update()
        show("a line", stream)
    lines = stream.getvalue().replace("\r", "\n").splitlines()
    assert "a line" in [line.strip() for line in lines]


def test_the_width_is_that_of_the_terminal_within_reason(monkeypatch):
    for columns, expected in (("20", 60), ("90", 90), ("400", 110)):
        monkeypatch.setenv("COLUMNS", columns)
        assert width() == expected


def test_reports_need_neither_torch_nor_lightning_nor_matplotlib():
    code = (
        "import sys; import lightning_plateau.cli; "
        "assert not {'torch', 'lightning', 'matplotlib', 'rich'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
