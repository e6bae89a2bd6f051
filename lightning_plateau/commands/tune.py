"""`lightning-plateau tune`: its arguments, and from them a search."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_plateau.commands.command import (
    FAULT_FOUND,
    FILES,
    HEALTHY,
    add_command,
    at_least_one,
    checked,
    print_json,
)
from lightning_plateau.report.console import show, width

if TYPE_CHECKING:
    from lightning_plateau.tuning import Tuning

SUMMARY = "search for good settings, and end trials that are sick; exit code 1 if none is found"
EXAMPLES = """\
examples:
  lightning-plateau tune my_project.model:LitModel --data my_project.data:Data
  lightning-plateau tune my_project.model:LitModel --data my_project.data:Data \\
      --from lightning_logs/version_0                            what was wrong narrows the search
  lightning-plateau tune my_project.model:LitModel --data my_project.data:Data \\
      --over learning_rate=1e-4:1:log --over width=32,64,128 --sampler quasi-random --trials 40
  lightning-plateau tune my_project.model:LitModel --data my_project.data:Data \\
      --storage /shared/study.journal                            the same command on each machine
  lightning-plateau tune config.yaml --space regularization      what LightningCLI would train

The best settings are written as a configuration of LightningCLI, best.yaml.
"""
SPACES = ("learning_rate", "optimizer", "regularization", "standard")
SAMPLERS = ("grid", "random", "bayesian", "quasi-random")
PRUNERS = ("plateau", "plateau+median", "plateau+hyperband", "median", "hyperband", "none")


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(commands, "tune", run, SUMMARY, EXAMPLES)
    command.add_argument(
        "module",
        metavar="MODULE",
        help="pkg.module:LitModel, a class or function; or a LightningCLI configuration",
    )
    command.add_argument(
        "--data", metavar="DATA", help="pkg.module:Data, the class of a datamodule"
    )
    _add_search(command)
    _add_study(command)
    command.add_argument("--out", type=Path, default=Path("plateau-tune"), help="folder of results")
    command.add_argument("--plots", action="store_true", help="draw what Optuna draws of a study")
    command.add_argument("--json", action="store_true", help="the result as JSON")


def _add_search(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--space", choices=SPACES, help="what is searched; by default what RUN calls for, or all"
    )
    command.add_argument(
        "--over",
        action="append",
        default=[],
        metavar="NAME=VALUES",
        type=setting,
        help="a setting of your own: LOW:HIGH, LOW:HIGH:log or A,B,C; may be repeated",
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        type=one_value,
        help="a setting that every trial has: model.width=64, trainer.precision=bf16-mixed",
    )
    source: Any = command.add_argument(
        "--from", dest="run", metavar="RUN", help="log folder of a run whose diagnosis narrows it"
    )
    source.complete = FILES
    command.add_argument("--sampler", choices=SAMPLERS, default="bayesian")
    command.add_argument("--pruner", choices=PRUNERS, default="plateau")
    command.add_argument(
        "--monitor", metavar="METRIC", help="score; by default the validation loss"
    )
    command.add_argument("--mode", choices=("min", "max"), default="min")
    command.add_argument("--epochs", type=at_least_one, help="epochs of a trial; 10, or as RUN had")


def _add_study(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--trials", type=at_least_one, default=20, help="trials of all workers together"
    )
    command.add_argument("--timeout", type=float, metavar="S", help="seconds; then no trial begins")
    command.add_argument(
        "--storage",
        metavar="URL|FILE",
        help="a database, or a journal file that machines share; by default SQLite in the folder",
    )
    command.add_argument("--name", default="tune", help="name of the study in its storage")
    command.add_argument("--seed", type=int, default=0)


def setting(text: str) -> tuple[str, Any]:
    """Return name and values of ``NAME=VALUES``.

    Raises:
        argparse.ArgumentTypeError: If ``text`` is not of that form.

    Example:
        >>> setting("width=32,64")
        ('width', [32, 64])
        >>> setting("lr=1e-4:1:log")
        ('lr', (0.0001, 1, 'log'))
    """
    name, equals, values = text.partition("=")
    parts = values.split(":")
    try:
        if not equals or not name or not values:
            raise ValueError("expected NAME=VALUES")
        if len(parts) == 1:
            return name, [value_of(one) for one in values.split(",")]
        if len(parts) == 3 and parts[2] != "log":
            raise ValueError("a range is LOW:HIGH or LOW:HIGH:log")
        low, high = (_number(one) for one in parts[:2])
        if len(parts) > 3 or not low < high or (len(parts) == 3 and not low > 0):
            raise ValueError("a range begins below its end, one on a logarithmic scale above 0")
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error
    return name, (low, high, "log" if len(parts) == 3 else "linear")


def one_value(text: str) -> tuple[str, Any]:
    """Return name and value of ``NAME=VALUE``.

    Example:
        >>> one_value("model.width=64")
        ('model.width', 64)
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, but received {text!r}")
    return name, value_of(value)


def value_of(text: str) -> Any:
    """Return the number, truth value or word that ``text`` is.

    Example:
        >>> [value_of(text) for text in ("3", "1e-3", "true", "none", "relu")]
        [3, 0.001, True, None, 'relu']
    """
    named = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in named:
        return named[text.lower()]
    try:
        return _number(text)
    except ValueError:
        return text


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def run(arguments: argparse.Namespace) -> int:
    """Search, and tell what was found."""
    shown = not arguments.json and sys.stderr.isatty()
    with (
        checked(ImportError, AttributeError, ValueError, OSError, TypeError),
        redirect_stdout(sys.stderr if arguments.json else sys.stdout),
    ):
        found = _search(arguments, progress_bar=shown)
    if arguments.json:
        print_json(found.to_dict())
    else:
        show(found.text(width()))
    return HEALTHY if found.ok else FAULT_FOUND


def _search(arguments: argparse.Namespace, *, progress_bar: bool) -> Tuning:
    from lightning_plateau.tuning import tune

    module, data, trainer, fixed = _target(arguments)
    if arguments.epochs is not None:
        trainer["max_epochs"] = arguments.epochs
    return tune(
        module,
        datamodule=data,
        space=_space(arguments),
        sampler=arguments.sampler,
        pruner=arguments.pruner,
        n_trials=arguments.trials,
        timeout_s=arguments.timeout,
        monitor=arguments.monitor,
        mode=arguments.mode,
        trainer=trainer,
        fixed={**fixed, **dict(arguments.set)},
        from_run=arguments.run,
        storage=arguments.storage,
        name=arguments.name,
        folder=arguments.out,
        plots=arguments.plots,
        seed=arguments.seed,
        progress_bar=progress_bar,
    )


def _target(arguments: argparse.Namespace) -> tuple[Any, Any, dict[str, Any], dict[str, Any]]:
    """Return what makes module and data, settings of the Trainer, and what every trial has."""
    from lightning_plateau.targets import CONFIGURATIONS, load, plain_settings, read_configuration

    data = None if arguments.data is None else load(arguments.data)
    if not arguments.module.endswith(CONFIGURATIONS):
        return load(arguments.module), data, {}, {}
    path = Path(arguments.module)
    content = read_configuration(path)
    if "model" not in content:
        raise ValueError(f"expected a model in the configuration {path}, but found none")
    fixed: dict[str, Any] = {}
    for section in ("model", "data"):
        if section in content:
            given = content[section].get("init_args") or {}
            fixed |= {f"{section}.{name}": value for name, value in given.items()}
    fixed |= {name: content[name] for name in ("optimizer", "lr_scheduler") if content.get(name)}
    if data is None and "data" in content:
        data = _named(content["data"])
    return _named(content["model"]), data, plain_settings(content), fixed


def _named(settings: Mapping[str, Any]) -> Any:
    from lightning_plateau.targets import load

    return load(":".join(str(settings["class_path"]).rsplit(".", 1)))


def _space(arguments: argparse.Namespace) -> Any:
    """Return the space that was asked for: a ready one, settings of one's own, or both."""
    from optuna.distributions import FloatDistribution, IntDistribution

    from lightning_plateau.tuning.space import Space
    from lightning_plateau.tuning.spaces import find_space

    own: dict[str, Any] = {}
    for name, values in arguments.over:
        if isinstance(values, list):
            own[name] = values
            continue
        low, high, scale = values
        whole = isinstance(low, int) and isinstance(high, int)
        own[name] = (IntDistribution if whole else FloatDistribution)(low, high, log=scale == "log")
    if not own:
        return arguments.space
    return Space.of(own) if arguments.space is None else find_space(arguments.space) | Space.of(own)
