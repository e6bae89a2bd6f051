"""`lightning-plateau report`: what was found and done in a saved run, or how several differ."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lightning_plateau.commands.command import (
    FILES,
    HEALTHY,
    Usage,
    add_command,
    checked,
    print_json,
)
from lightning_plateau.commands.saved import add_output, read, tell
from lightning_plateau.report.comparison import compare, comparison
from lightning_plateau.report.comparison_page import save_comparison
from lightning_plateau.report.console import show, width
from lightning_plateau.report.document import document
from lightning_plateau.report.html import REPORT_FILE, run_name, save_report
from lightning_plateau.report.plots import save_overview
from lightning_plateau.report.saved_run import SavedRun

EXAMPLES = """\
examples:
  lightning-plateau report lightning_logs/version_0
  lightning-plateau report lightning_logs/version_0 --html        one page, report.html in the run
  lightning-plateau report lightning_logs/version_0 --plot run.svg
  lightning-plateau report lightning_logs/version_0 lightning_logs/version_1      what differs
  lightning-plateau report runs/a runs/b runs/c --html compared.html
"""


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "report",
        run,
        "report what was found and done in a saved run, or how several differ",
        EXAMPLES,
    )
    command.add_argument(
        "--plot",
        nargs="?",
        type=Path,
        const=Path("overview.png"),
        metavar="FILE",
        help="write a plot as well; a bare name lands in the run's folder",
    )
    command.add_argument(
        "--html",
        nargs="?",
        type=Path,
        const=Path(REPORT_FILE),
        metavar="FILE",
        help="write one HTML page; a bare name lands in the run's folder; of several runs, here",
    )
    command.add_argument(
        "runs", metavar="RUN", nargs="+", help="log folder of a run, as for diagnose; or of several"
    ).complete = FILES
    add_output(command)


def run(arguments: argparse.Namespace) -> int:
    """Report of a saved run, or compare several."""
    if len(arguments.runs) > 1:
        return _compare(arguments)
    saved = read(arguments.runs[0])
    if arguments.json:
        print_json(document(saved))
    else:
        tell(saved, saved.findings, saved.journal, every=arguments.all)
    written = []
    if arguments.plot is not None:
        with checked(ImportError, OSError, ValueError):
            path = _placed(saved, arguments.plot)
            written.append(("plot", save_overview(path, saved.history, saved.journal)))
    if arguments.html is not None:
        with checked(ImportError, OSError):
            path = _placed(saved, arguments.html)
            written.append(
                ("page", save_report(path, saved.findings, saved.journal, saved.history))
            )
    for label, path in () if arguments.json else written:
        show(f"{label:<10}{path}")
    return HEALTHY


def _compare(arguments: argparse.Namespace) -> int:
    if arguments.plot is not None or arguments.all:
        raise Usage("--plot and --all show one run; name one, or leave them out")
    runs = [read(path) for path in arguments.runs]
    names = [run_name(run.folder) for run in runs]
    if arguments.html is not None:
        with checked(ImportError, OSError):
            page = save_comparison(arguments.html, names, runs)
    if arguments.json:
        rows = [{"name": r.name, "values": r.values, "differs": r.differs} for r in compare(runs)]
        print_json({"runs": arguments.runs, "rows": rows})
    else:
        show(comparison(names, runs, width=width()))
        if arguments.html is not None:
            show(f"{'page':<10}{page}")
    return HEALTHY


def _placed(run: SavedRun, path: Path) -> Path:
    return run.folder / path if path.parent == Path() else path
