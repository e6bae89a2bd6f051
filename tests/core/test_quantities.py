from __future__ import annotations

import re
from pathlib import Path

from lightning_plateau import rules
from lightning_plateau.core import signal
from lightning_plateau.core.finding import Evidence
from lightning_plateau.core.quantities import WORDS, quantity
from lightning_plateau.report.phrases import measured


def test_no_tag_that_a_rule_gives_as_evidence_reaches_its_reader():
    folder = Path(rules.__file__).parent
    named = re.compile(r"Evidence\(\s*([A-Z_]+)\.tag")
    used = {name for path in folder.glob("*.py") for name in named.findall(path.read_text("utf-8"))}
    assert used
    for name in used:
        tag = getattr(signal, name).tag
        assert tag in WORDS, f"say {tag} in words: lightning_plateau/core/quantities.py"


def test_words_hold_no_tag_and_stay_as_they_are():
    for tag, words in WORDS.items():
        assert "/" not in words
        assert "_" not in words
        assert quantity(words) == words
        assert measured(Evidence(tag, 1.0)).startswith(words)
    assert quantity("metric/val_acc") == "val_acc"
    assert quantity(signal.DATA_MEAN.tag) == signal.DATA_MEAN.help
