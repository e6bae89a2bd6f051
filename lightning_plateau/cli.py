"""The command ``lightning-plateau``: check, demo, explain, rules, diagnose, report."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning_plateau import __version__
from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.journal import Journal
from lightning_plateau.core.plain import to_plain
from lightning_plateau.diagnosis import diagnose
from lightning_plateau.report.console import show, width
from lightning_plateau.report.explanation import explain_rule, facts, find_rule, rule_table
from lightning_plateau.report.html import REPORT_FILE, save_report
from lightning_plateau.report.plots import save_overview
from lightning_plateau.report.saved_run import SavedRun, read_run
from lightning_plateau.report.terminal import full_report, summary
from lightning_plateau.rules import catalogue

HEALTHY, FAULT_FOUND, USAGE = 0, 1, 2

DESCRIPTION = "Find out why a training loss does not go down: diagnose a run, look up a fault."
EXAMPLES = """\
examples:
  lightning-plateau demo                                  break a real training and watch it mended
  lightning-plateau demo --fault softmax-before-cross-entropy
  lightning-plateau check my_project.model:LitModel --data my_project.data:Data
  lightning-plateau check config.yaml                     what LightningCLI would train
  lightning-plateau diagnose lightning_logs/version_0/plateau
  lightning-plateau report lightning_logs/version_0/plateau --html
  lightning-plateau explain LP301

exit codes:
  0  healthy, or the command did what was asked
  1  check or diagnose found a fault of severity warning or error
  2  the command was used wrongly, or a file is missing or unreadable
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 healthy, 1 a fault was found, 2 wrong usage.

    Args:
        argv: Arguments; those of the process by default.
    """
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.command(arguments))
    except _Usage as error:
        print(f"lightning-plateau: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:
        # The reader of our output, such as `head`, has seen enough.
        sys.stderr.close()
        return HEALTHY


class _Usage(Exception):  # noqa: N818  (the user's error, not ours)
    """The command was used wrongly; the message says what was expected."""


@contextmanager
def _checked(*kinds: type[Exception]) -> Iterator[None]:
    """Report errors of ``kinds`` without a traceback; any other error is ours and keeps its own."""
    try:
        yield
    except kinds as error:
        raise _Usage(error) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "lightning-plateau",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo", help="train on real images with a planted fault, and mend it"
    )
    demo.set_defaults(command=_demo)
    demo.add_argument(
        "--fault", default="learning-rate-too-high", help="the fault; `list` lists them"
    )
    demo.add_argument("--policy", choices=("observe", "safe", "auto"), default="auto")
    demo.add_argument("--seed", type=int, default=1)
    demo.add_argument(
        "--epochs", type=_at_least_one, help="epochs of each training; the fault knows how many"
    )
    demo.add_argument("--out", type=Path, help="folder; default ./plateau-demo/FAULT")

    _add_check(commands)

    explain = commands.add_parser("explain", help="explain a rule")
    explain.set_defaults(command=_explain)
    explain.add_argument("rule", metavar="CODE|NAME", help="LP301, or exploding-gradients")

    rules = commands.add_parser("rules", help="list all rules")
    rules.set_defaults(command=_rules)
    rules.add_argument("--json", action="store_true", help="as JSON")

    diagnosis = commands.add_parser(
        "diagnose", help="diagnose a saved run; exit code 1 if it is sick"
    )
    diagnosis.set_defaults(command=_diagnose)
    diagnosis.add_argument("--json", action="store_true", help="as JSON")

    report = commands.add_parser("report", help="report what was found and done in a saved run")
    report.set_defaults(command=_report)
    report.add_argument(
        "--plot",
        nargs="?",
        type=Path,
        const=Path("overview.png"),
        metavar="FILE",
        help="write a plot as well; a bare name lands in the run's folder",
    )
    report.add_argument(
        "--html",
        nargs="?",
        type=Path,
        const=Path(REPORT_FILE),
        metavar="FILE",
        help="write the report as one HTML page; a bare name lands in the run's folder",
    )
    for command in (diagnosis, report):
        command.add_argument("run", metavar="RUN", help="plateau folder or history.npz of the run")
        command.add_argument("--all", action="store_true", help="every finding, in full")
    return parser


def _add_check(commands: Any) -> None:
    checked = commands.add_parser(
        "check", help="check a training before it is begun; exit code 1 if something is wrong"
    )
    checked.set_defaults(command=_check)
    checked.add_argument(
        "module",
        metavar="MODULE",
        help="pkg.module:LitModel, a class, function or instance; or a LightningCLI configuration",
    )
    checked.add_argument("--data", metavar="DATA", help="pkg.module:Data, a datamodule or a loader")
    checked.add_argument(
        "--steps", type=_at_least_one, default=200, help="optimizer steps of the short training"
    )
    checked.add_argument("--json", action="store_true", help="as JSON")


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"expected a whole number of at least 1, but received {text!r}"
        )
    return int(text)


def _demo(arguments: argparse.Namespace) -> int:
    # The only command that needs torch: the others answer at once, on any machine.
    from lightning_plateau.demo import check_extras, describe_faults, find_fault, run_demo

    if arguments.fault == "list":
        show(describe_faults())
        return HEALTHY
    with _checked(ImportError, ValueError):
        fault = find_fault(arguments.fault)
        check_extras()
    run_demo(
        fault.name,
        policy=arguments.policy,
        seed=arguments.seed,
        epochs=arguments.epochs,
        out=arguments.out,
    )
    return HEALTHY


def _check(arguments: argparse.Namespace) -> int:
    from lightning_plateau.checkup import check
    from lightning_plateau.targets import find_target

    with _checked(ImportError, AttributeError, ValueError, OSError):
        target = find_target(arguments.module, arguments.data)
    with _checked(TypeError):
        found = check(
            target.make,
            **({} if target.data is None else _as_data(target.data)),
            steps=arguments.steps,
            trainer=target.trainer,
            progress_bar=not arguments.json and sys.stderr.isatty(),
        )
    if arguments.json:
        print(json.dumps(found.to_dict(), indent=2, allow_nan=False))
    else:
        show(found.text(width()))
    return HEALTHY if found.ok else FAULT_FOUND


def _as_data(data: Any) -> dict[str, Any]:
    from lightning_plateau.framework import LightningDataModule

    return {"datamodule" if isinstance(data, LightningDataModule) else "train_dataloaders": data}


def _explain(arguments: argparse.Namespace) -> int:
    with _checked(LookupError):
        rule = find_rule(arguments.rule, catalogue())
    show(explain_rule(rule, width=width()))
    return HEALTHY


def _rules(arguments: argparse.Namespace) -> int:
    if arguments.json:
        print(json.dumps([facts(rule) for rule in catalogue()], indent=2))
    else:
        show(rule_table(catalogue(), width=width()))
    return HEALTHY


def _diagnose(arguments: argparse.Namespace) -> int:
    with _checked(OSError, ValueError):
        run = read_run(arguments.run)
    findings = diagnose(run.history)
    sick = any(finding.severity is not Severity.INFO for finding in findings)
    if arguments.json:
        document = {"healthy": not sick, "steps": run.history.step, "findings": to_plain(findings)}
        print(json.dumps(document, indent=2, allow_nan=False))
    else:
        # A diagnosis judges the run alone; what was done about it is in the report.
        _tell(run, findings, Journal(), every=arguments.all)
    return FAULT_FOUND if sick else HEALTHY


def _report(arguments: argparse.Namespace) -> int:
    with _checked(OSError, ValueError):
        run = read_run(arguments.run)
    _tell(run, run.findings, run.journal, every=arguments.all)
    if arguments.plot is not None:
        with _checked(ImportError, OSError, ValueError):
            written = save_overview(_placed(run, arguments.plot), run.history, run.journal)
        show(f"{'plot':<10}{written}")
    if arguments.html is not None:
        with _checked(ImportError, OSError):
            page = save_report(_placed(run, arguments.html), run.findings, run.journal, run.history)
        show(f"{'page':<10}{page}")
    return HEALTHY


def _placed(run: SavedRun, path: Path) -> Path:
    return run.folder / path if path.parent == Path() else path


def _tell(run: SavedRun, findings: tuple[Finding, ...], journal: Journal, *, every: bool) -> None:
    if every:
        show(full_report(findings, journal, run.history, width=width()))
    else:
        show(summary(findings, journal, run.history, run.files, width=width()))
