"""What a check is pointed at: a module and its data, by name or by a LightningCLI configuration."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentError
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from lightning_plateau.framework import PACKAGE, quietly

CONFIGURATIONS = (".yaml", ".yml", ".json")
_SETTINGS_LEFT_OUT = frozenset({"callbacks", "logger", "profiler", "plugins", "strategy"})


@dataclass(frozen=True)
class Target:
    """What is to be checked.

    Attributes:
        make: Makes the LightningModule.
        data: A LightningDataModule, a loader, or None where the module brings its data.
        trainer: Settings for the Trainer.
    """

    make: Callable[[], Any]
    data: Any = None
    trainer: Mapping[str, Any] = field(default_factory=dict)


def find_target(module: str, data: str | None = None) -> Target:
    """Return what ``module`` and ``data`` name.

    Args:
        module: ``pkg.module:LitModel``, a class, function or instance; or the path of a
            configuration as ``LightningCLI`` reads it.
        data: ``pkg.module:Data``, a class, function or instance of a datamodule or loader.

    Raises:
        ValueError: If a name has no colon, or a configuration names no classes.
        ImportError: If a module cannot be imported.
        AttributeError: If it does not hold what is named.
        FileNotFoundError: If there is no such configuration.
    """
    if module.endswith(CONFIGURATIONS):
        return _configured(Path(module), data)
    named = load(module)
    make = named if callable(named) and not _is_instance(named) else lambda: named
    return Target(make, None if data is None else _made(load(data)))


def load(name: str) -> Any:
    """Return what ``pkg.module:attribute`` names, looking in the working directory first.

    Raises:
        ValueError: If there is no colon.

    Example:
        >>> load("math:pi") > 3
        True
    """
    package, colon, attribute = name.partition(":")
    if not colon or not attribute:
        raise ValueError(f"expected pkg.module:name, but received {name!r}")
    _look_here()
    found = import_module(package)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def _look_here() -> None:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def _is_instance(named: Any) -> bool:
    """Whether ``named`` is a module already, which can be called too."""
    return isinstance(named, import_module("torch").nn.Module)


def _made(named: Any) -> Any:
    return named() if isinstance(named, type) or type(named).__name__ == "function" else named


def read_configuration(path: Path) -> dict[str, Any]:
    """Return a configuration of ``LightningCLI``, that of the command ``fit`` where it has several.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or names no class for the model or its data.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no configuration {os.fspath(path)}")
    yaml = import_module("yaml")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"expected a configuration of LightningCLI in {path}, but it has no keys")
    content = content.get("fit", content)
    for part in ("model", "data"):
        if part in content and "class_path" not in (content[part] or {}):
            raise ValueError(
                f"{path} gives no class_path for {part!r}: name the class, "
                f"lightning-plateau check pkg.module:LitModel --data pkg.module:Data"
            )
    return dict(content)


def plain_settings(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the Trainer in a configuration that are no objects."""
    return {
        name: value
        for name, value in (content.get("trainer") or {}).items()
        if name not in _SETTINGS_LEFT_OUT and value is not None
    }


def _configured(path: Path, data: str | None) -> Target:
    """Let ``LightningCLI`` make module and data from its configuration."""
    content = read_configuration(path)
    settings = plain_settings(content)
    kept = ("seed_everything", "model", "data", "optimizer", "lr_scheduler")
    arguments = {name: content[name] for name in kept if name in content}
    _look_here()
    try:
        with quietly():
            cli = import_module(f"{PACKAGE}.cli").LightningCLI(
                run=False,
                args={**arguments, "trainer": {"logger": False, "enable_checkpointing": False}},
                save_config_callback=None,
                subclass_mode_model=True,
                subclass_mode_data=True,
                parser_kwargs={"exit_on_error": False},
            )
    except ArgumentError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    given = cli.datamodule if data is None else _made(load(data))
    return Target(lambda: cli.model, given, settings)
