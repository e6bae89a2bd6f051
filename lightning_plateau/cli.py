"""The command ``lightning-plateau``: arguments in, answers and exit codes out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from lightning_plateau import __version__, remedies, tune_command
from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.journal import Journal
from lightning_plateau.core.plain import to_plain
from lightning_plateau.core.quantities import quantity
from lightning_plateau.diagnosis import diagnose
from lightning_plateau.report.comparison import compare, comparison
from lightning_plateau.report.comparison_page import save_comparison
from lightning_plateau.report.console import show, width
from lightning_plateau.report.document import document
from lightning_plateau.report.explanation import (
    explain_remedy,
    explain_rule,
    facts,
    find_rule,
    remedy_facts,
    remedy_table,
    rule_table,
)
from lightning_plateau.report.html import REPORT_FILE, run_name, save_report
from lightning_plateau.report.json_schema import SCHEMAS, schema
from lightning_plateau.report.phrases import counted, wrapped
from lightning_plateau.report.plots import save_overview
from lightning_plateau.report.saved_run import SavedRun, read_run
from lightning_plateau.report.terminal import full_report, summary
from lightning_plateau.rules import catalogue

HEALTHY, FAULT_FOUND, USAGE = 0, 1, 2

DESCRIPTION = "Find out why a training loss does not go down: diagnose a run, look up a fault."
EXAMPLES = """\
examples:
  lightning-plateau demo                                  break a real training and watch it mended
  lightning-plateau check my_project.model:LitModel --data my_project.data:Data
  lightning-plateau diagnose lightning_logs/version_0
  lightning-plateau report lightning_logs/version_0 --html
  lightning-plateau tune my_project.model:LitModel --data my_project.data:Data
  lightning-plateau explain LP301

exit codes:
  0  healthy, or the command did what was asked
  1  check or diagnose found a fault of severity warning or error; tune found no good settings
  2  the command was used wrongly, or a file is missing or unreadable
"""
DEMO_EXAMPLES = """\
examples:
  lightning-plateau demo --fault list
  lightning-plateau demo --fault softmax-before-cross-entropy --out demo
  lightning-plateau demo --policy observe --seed 3
"""
CHECK_EXAMPLES = """\
examples:
  lightning-plateau check my_project.model:LitModel --data my_project.data:Data
  lightning-plateau check config.yaml                             what LightningCLI would train
"""
DIAGNOSE_EXAMPLES = """\
examples:
  lightning-plateau diagnose lightning_logs/version_0              PlateauCallback watched this one
  lightning-plateau diagnose lightning_logs/version_0/metrics.csv  only a logger watched this one
  lightning-plateau diagnose runs/tensorboard --json | jq .findings[].code
"""
REPORT_EXAMPLES = """\
examples:
  lightning-plateau report lightning_logs/version_0
  lightning-plateau report lightning_logs/version_0 --html        one page, report.html in the run
  lightning-plateau report lightning_logs/version_0 --plot run.svg
  lightning-plateau report lightning_logs/version_0 lightning_logs/version_1      what differs
  lightning-plateau report runs/a runs/b runs/c --html compared.html
"""
EXPLAIN_EXAMPLES = """\
examples:
  lightning-plateau explain LP301
  lightning-plateau explain flat-loss
  lightning-plateau explain clip-gradients
"""
UNWATCHED = (
    "curves show that something is wrong, seldom why: train again with PlateauCallback() among the "
    "callbacks, or ask before: lightning-plateau check MODULE --data DATA"
)
RULES_EXAMPLES = """\
examples:
  lightning-plateau rules
  lightning-plateau rules --json | jq -r '.[] | select(.kind == "cause") | .code'
"""
REMEDIES_EXAMPLES = """\
examples:
  lightning-plateau remedies
  lightning-plateau remedies --json | jq -r '.[] | select(.safety == "safe") | .name'
"""
SCHEMA_EXAMPLES = """\
examples:
  lightning-plateau schema report > report.schema.json
  lightning-plateau report lightning_logs/version_0 --json > report.json
"""
FILES = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
"""How each shell completes the name of a file, in the words of shtab."""
COMPLETION_EXAMPLES = """\
examples:
  lightning-plateau completion bash > ~/.local/share/bash-completion/completions/lightning-plateau
  lightning-plateau completion zsh  > ~/.zfunc/_lightning-plateau
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 healthy, 1 a fault was found, 2 wrong usage.

    Args:
        argv: Arguments; those of the process by default.
    """
    arguments = parser().parse_args(argv)
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


# -- arguments ------------------------------------------------------------------------------------


def parser(*, completing: bool = False) -> argparse.ArgumentParser:
    """Return the parser of the whole command line.

    Args:
        completing: Whether it is to offer the names of rules and remedies, not to judge them.
    """
    made = argparse.ArgumentParser(
        "lightning-plateau",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_check(commands)
    _add_diagnose(commands)
    _add_report(commands)
    _add_tune(commands)
    _add_catalogues(commands, completing=completing)
    return made


def _command(commands: Any, name: str, run: Any, help_: str, epilog: str = "") -> Any:
    command = commands.add_parser(
        name,
        help=help_,
        description=f"{help_[:1].upper()}{help_[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(command=run)
    return command


def _add_demo(commands: Any) -> None:
    demo = _command(
        commands,
        "demo",
        _demo,
        "train on real images with a planted fault, and mend it",
        DEMO_EXAMPLES,
    )
    demo.add_argument(
        "--fault", default="learning-rate-too-high", help="the fault; `list` lists them"
    )
    demo.add_argument("--policy", choices=("observe", "safe", "auto"), default="auto")
    demo.add_argument("--seed", type=int, default=1)
    demo.add_argument(
        "--epochs", type=_at_least_one, help="epochs of each training; the fault knows how many"
    )
    demo.add_argument("--out", type=Path, help="folder; default ./plateau-demo/FAULT")
    demo.add_argument("--json", action="store_true", help="the result as JSON")


def _add_check(commands: Any) -> None:
    checked = _command(
        commands,
        "check",
        _check,
        "check a training before it is begun; exit code 1 if something is wrong",
        CHECK_EXAMPLES,
    )
    checked.add_argument(
        "module",
        metavar="MODULE",
        help="pkg.module:LitModel, a class, function or instance; or a LightningCLI configuration",
    )
    checked.add_argument("--data", metavar="DATA", help="pkg.module:Data, a datamodule or a loader")
    checked.add_argument(
        "--steps", type=_at_least_one, default=200, help="optimizer steps of the short training"
    )
    checked.add_argument(
        "--thorough",
        action="store_true",
        help="also ask which learning rate is best and whether more data would help",
    )
    checked.add_argument("--json", action="store_true", help="as JSON")


def _add_diagnose(commands: Any) -> None:
    diagnosis = _command(
        commands,
        "diagnose",
        _diagnose,
        "diagnose a saved run; exit code 1 if it is sick",
        DIAGNOSE_EXAMPLES,
    )
    diagnosis.add_argument(
        "run",
        metavar="RUN",
        help="log folder of the run, or history.npz; or metrics.csv or event folder of a logger",
    ).complete = FILES
    _add_output(diagnosis)


def _add_report(commands: Any) -> None:
    report = _command(
        commands,
        "report",
        _report,
        "report what was found and done in a saved run, or how several differ",
        REPORT_EXAMPLES,
    )
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
        help="write one HTML page; a bare name lands in the run's folder; of several runs, here",
    )
    report.add_argument(
        "run", metavar="RUN", nargs="+", help="log folder of a run, as for diagnose; or of several"
    ).complete = FILES
    _add_output(report)


def _add_tune(commands: Any) -> None:
    tuning = _command(commands, "tune", _tune, tune_command.SUMMARY, tune_command.EXAMPLES)
    tune_command.add_arguments(tuning, FILES)


def _add_output(command: Any) -> None:
    form = command.add_mutually_exclusive_group()
    form.add_argument("--all", action="store_true", help="every finding, in full")
    form.add_argument("--json", action="store_true", help="as JSON")


def _add_catalogues(commands: Any, *, completing: bool) -> None:
    explain = _command(
        commands, "explain", _explain, "explain a rule or a remedy", EXPLAIN_EXAMPLES
    )
    subject = explain.add_argument(
        "subject", metavar="CODE|NAME", help="LP301, or exploding-gradients"
    )
    if completing:
        known = [name for rule in catalogue() for name in (rule.code, rule.name)]
        subject.choices = [*known, *remedies.by_name()]
    rules = _command(commands, "rules", _rules, "list all rules", RULES_EXAMPLES)
    cures = _command(
        commands, "remedies", _remedies, "list all remedies, the safest first", REMEDIES_EXAMPLES
    )
    for command in (explain, rules, cures):
        command.add_argument("--json", action="store_true", help="as JSON")
    described = _command(
        commands,
        "schema",
        _schema,
        "print the JSON Schema of what a command answers with --json",
        SCHEMA_EXAMPLES,
    )
    described.add_argument(
        "answers", metavar="COMMAND", choices=[*SCHEMAS], help=", ".join(SCHEMAS)
    )
    completion = _command(
        commands,
        "completion",
        _completion,
        "print what makes a shell complete this command",
        COMPLETION_EXAMPLES,
    )
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"expected a whole number of at least 1, but received {text!r}"
        )
    return int(text)


# -- commands -------------------------------------------------------------------------------------


def _demo(arguments: argparse.Namespace) -> int:
    # The only command that needs torch: the others answer at once, on any machine.
    from lightning_plateau.demo import FAULTS, check_extras, describe_faults, find_fault, run_demo

    if arguments.fault == "list":
        if arguments.json:
            _print_json({fault.name: fault.story for fault in FAULTS.values()})
        else:
            show(describe_faults())
        return HEALTHY
    with _checked(ImportError, ValueError):
        fault = find_fault(arguments.fault)
        check_extras()
    # With JSON on the standard output, what the trainings say goes elsewhere.
    with redirect_stdout(sys.stderr if arguments.json else sys.stdout):
        result = run_demo(
            fault.name,
            policy=arguments.policy,
            seed=arguments.seed,
            epochs=arguments.epochs,
            out=arguments.out,
            progress_bar=not arguments.json,
        )
    if arguments.json:
        accuracies = {"untreated": result.untreated, "treated": result.treated}
        _print_json({"accuracy": accuracies, "report": document(read_run(result.folder))})
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
            thorough=arguments.thorough,
            trainer=target.trainer,
            progress_bar=not arguments.json and sys.stderr.isatty(),
        )
    if arguments.json:
        _print_json(found.to_dict())
    else:
        show(found.text(width()))
    return HEALTHY if found.ok else FAULT_FOUND


def _tune(arguments: argparse.Namespace) -> int:
    shown = not arguments.json and sys.stderr.isatty()
    with (
        _checked(ImportError, AttributeError, ValueError, OSError, TypeError),
        redirect_stdout(sys.stderr if arguments.json else sys.stdout),
    ):
        found = tune_command.run(arguments, progress_bar=shown)
    if arguments.json:
        _print_json(found.to_dict())
    else:
        show(found.text(width()))
    return HEALTHY if found.ok else FAULT_FOUND


def _as_data(data: Any) -> dict[str, Any]:
    from lightning_plateau.framework import LightningDataModule

    return {"datamodule" if isinstance(data, LightningDataModule) else "train_dataloaders": data}


def _explain(arguments: argparse.Namespace) -> int:
    rules, wanted = catalogue(), arguments.subject.strip().lower()
    remedy = remedies.by_name().get(wanted)
    if remedy is not None:
        about: Any = remedy_facts(remedy, rules)
        text = explain_remedy(remedy, rules, width=width())
    else:
        with _checked(LookupError):
            rule = find_rule(wanted, rules, remedies.by_name())
        about, text = facts(rule), explain_rule(rule, width=width())
    if arguments.json:
        _print_json({**about, "text": text})
    else:
        show(text)
    return HEALTHY


def _rules(arguments: argparse.Namespace) -> int:
    if arguments.json:
        _print_json([facts(rule) for rule in catalogue()])
    else:
        show(rule_table(catalogue(), width=width()))
    return HEALTHY


def _remedies(arguments: argparse.Namespace) -> int:
    if arguments.json:
        _print_json([remedy_facts(remedy, catalogue()) for remedy in remedies.catalogue()])
    else:
        show(remedy_table(remedies.catalogue(), width=width()))
    return HEALTHY


def _schema(arguments: argparse.Namespace) -> int:
    _print_json(schema(arguments.answers))
    return HEALTHY


def _completion(arguments: argparse.Namespace) -> int:
    try:
        import shtab
    except ImportError as error:
        raise _Usage(
            "completion needs shtab, which is not installed: "
            "pip install 'lightning-plateau[completion]'"
        ) from error
    print(shtab.complete(parser(completing=True), shell=arguments.shell))
    return HEALTHY


def _diagnose(arguments: argparse.Namespace) -> int:
    run = _read(arguments.run)
    findings = diagnose(run.history)
    sick = any(finding.severity is not Severity.INFO for finding in findings)
    if arguments.json:
        _print_json(
            {
                "healthy": not sick,
                "steps": run.history.step,
                "findings": to_plain(findings),
                "read_from": dict(run.names),
            }
        )
    else:
        # A diagnosis judges the run alone; what was done about it is in the report.
        _tell(run, findings, Journal(), every=arguments.all)
    return FAULT_FOUND if sick else HEALTHY


def _report(arguments: argparse.Namespace) -> int:
    if len(arguments.run) > 1:
        return _compare(arguments)
    run = _read(arguments.run[0])
    if arguments.json:
        _print_json(document(run))
    else:
        _tell(run, run.findings, run.journal, every=arguments.all)
    written = []
    if arguments.plot is not None:
        with _checked(ImportError, OSError, ValueError):
            path = _placed(run, arguments.plot)
            written.append(("plot", save_overview(path, run.history, run.journal)))
    if arguments.html is not None:
        with _checked(ImportError, OSError):
            path = _placed(run, arguments.html)
            written.append(("page", save_report(path, run.findings, run.journal, run.history)))
    for label, path in () if arguments.json else written:
        show(f"{label:<10}{path}")
    return HEALTHY


def _compare(arguments: argparse.Namespace) -> int:
    if arguments.plot is not None or arguments.all:
        raise _Usage("--plot and --all show one run; name one, or leave them out")
    runs = [_read(path) for path in arguments.run]
    names = [run_name(run.folder) for run in runs]
    if arguments.html is not None:
        with _checked(ImportError, OSError):
            page = save_comparison(arguments.html, names, runs)
    if arguments.json:
        rows = [{"name": r.name, "values": r.values, "differs": r.differs} for r in compare(runs)]
        _print_json({"runs": arguments.run, "rows": rows})
    else:
        show(comparison(names, runs, width=width()))
        if arguments.html is not None:
            show(f"{'page':<10}{page}")
    return HEALTHY


def _read(path: str) -> SavedRun:
    with _checked(OSError, ValueError):
        return read_run(path)


def _placed(run: SavedRun, path: Path) -> Path:
    return run.folder / path if path.parent == Path() else path


def _tell(run: SavedRun, findings: tuple[Finding, ...], journal: Journal, *, every: bool) -> None:
    if every:
        show(full_report(findings, journal, run.history, width=width()))
    else:
        show(summary(findings, journal, run.history, run.files, width=width()))
    if run.names:
        rows = {tag: len(run.history.series[tag]) for tag in run.names}
        parts = [
            f"{quantity(tag)} from {name} ({counted(rows[tag], 'row')})"
            for tag, name in run.names.items()
        ]
        read = ", ".join(parts)
        show("\n".join(wrapped(f"{read}; no other signal was logged", width(), label="read      ")))
        if any(finding.severity is not Severity.INFO for finding in findings):
            show("\n".join(wrapped(UNWATCHED, width(), label="next      ")))


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=2, allow_nan=False))
