"""Whatever was recorded, a diagnosis comes of it, the same each time, and can be told."""

from __future__ import annotations

import json
import math
import warnings

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_plateau.core.history import History
from lightning_plateau.core.journal import Journal
from lightning_plateau.diagnosis import diagnose, diagnose_since
from lightning_plateau.report.terminal import full_report, summary
from lightning_plateau.testing import histories
from lightning_plateau.testing.contract import plain


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(histories(), st.integers(0, 300))
def test_any_history(history: History, step: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, again = diagnose(history), diagnose(history)
        since = diagnose_since(history, step)
        told = summary(found, Journal(), history) + full_report(found, Journal(), history)
    assert [plain(one) for one in found] == [plain(one) for one in again]
    codes = [one.code for one in found]
    assert len(set(codes)) == len(codes)
    assert not [one.message for one in (*found, *since) if "failed on this" in one.message]
    assert {one.code for one in since} <= set(codes)
    heads = {one.code for one in found if not one.explained_by}
    assert {one.explained_by for one in found if one.explained_by} <= heads
    assert all(0.0 < one.confidence <= 1.0 and math.isfinite(one.confidence) for one in found)
    json.dumps([plain(one) for one in found], allow_nan=False)
    assert all(code in told for code in heads)
