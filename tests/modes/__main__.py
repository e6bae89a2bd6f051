"""Print what each mode can do, or write it to the documentation.

python -m tests.modes --only LBFGS
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lightning_plateau.framework import quietly
from tests.modes.capabilities import ask
from tests.modes.mode import CAPABILITIES, MODES
from tests.modes.page import PAGE, page


def main(argv: Sequence[str] | None = None) -> int:
    """Try what was asked for; return 1 where a cell is not what its row says."""
    parser = argparse.ArgumentParser(prog="python -m tests.modes", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], help="modes whose name holds one of these")
    parser.add_argument("--write-docs", action="store_true", help=f"write {PAGE.name}")
    asked = parser.parse_args(argv)
    if asked.write_docs:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    wrong = 0
    for mode in MODES:
        if asked.only and not any(part in mode.name for part in asked.only):
            continue
        for capability in CAPABILITIES:
            expected = mode.limits.get(capability, "")
            with tempfile.TemporaryDirectory() as folder, quietly():
                try:
                    said = ask(mode, capability, Path(folder))
                except Exception as error:  # noqa: BLE001 - the next cell is tried all the same
                    said = f"{type(error).__name__}: {error}".partition("\n")[0]
            wrong += said != expected
            mark = "ok   " if said == expected else "WRONG"
            print(f"{mark} {mode.name} / {capability}: {said or 'works'}", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
