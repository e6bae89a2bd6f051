"""Let Sphinx read our docstrings as their authors meant them.

Docstrings are written for people who read the code: ``|x|`` is an absolute value, a colon in a
sentence is a colon, ``History`` is the class that everybody knows. This extension tells Sphinx so;
whatever it still does not understand remains an error of the strict build.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from docutils.nodes import Element, TextElement
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

PACKAGE = "lightning_plateau"
BEFORE_NAPOLEON = 400  # listeners run in order of their priority; 500 is the default

_LITERAL = re.compile(r"(``.+?``|`.+?`)")


def escape_bars(lines: list[str]) -> list[str]:
    """Escape the vertical bars of prose, which would name a substitution.

    Example:
        >>> escape_bars(["|x| of ``a | b``", ">>> print('|')", "|"])
        ['\\\\|x\\\\| of ``a | b``', ">>> print('|')", '|']
    """
    escaped = []
    in_doctest = False
    for line in lines:
        in_doctest = bool(line.strip()) and (in_doctest or line.lstrip().startswith(">>>"))
        parts = [line] if in_doctest else _LITERAL.split(line)
        if not in_doctest:  # the literals, which the pattern matched, are at the odd places
            parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
        escaped.append("".join(parts))
    return escaped


def read_as_prose(
    _app: Sphinx, what: str, _name: str, _obj: Any, _options: Any, lines: list[str]
) -> None:
    """Prepare a docstring, in place, for Napoleon."""
    lines[:] = escape_bars(lines)
    if what in {"attribute", "data", "property"}:
        # Napoleon takes what stands before a colon in the first line for a type: give it a comment.
        lines[:0] = ["..", ""]


def without_factories(
    _app: Sphinx,
    _what: str,
    _name: str,
    _obj: Any,
    _options: Any,
    arguments: str | None,
    result: str | None,
) -> tuple[str | None, str | None]:
    """Write the defaults that a dataclass makes as ``...``: Sphinx cannot parse ``<factory>``."""
    return (arguments or "").replace("<factory>", "...") or arguments, result


@cache
def names_in(module: str) -> frozenset[str]:
    """Return the names that a module imports or assigns, for type checkers alone included.

    Example:
        >>> "cache" in names_in(__name__), "History" in names_in(__name__)
        (True, False)
    """
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:
        return frozenset()
    if spec is None or spec.origin is None:
        return frozenset()
    names: set[str] = set()
    for node in ast.walk(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return frozenset(names)


def is_known(target: str, module: str) -> bool:
    """Return whether a name is undocumented but real: an alias of ours, or another library's."""
    first, _, rest = target.partition(".")
    if first == PACKAGE:
        owner, _, name = target.rpartition(".")
        return name in names_in(owner)
    return first in names_in(module) or bool(rest and find_spec(first))


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, text: TextElement
) -> Element | None:
    """Return what a reference that Sphinx could not resolve stands for; None to let it warn."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    domain = env.domains.python_domain
    found = [name for name in domain.objects if name.endswith(f".{target}")]
    if len(found) == 1:
        return domain.resolve_xref(
            env, node["refdoc"], app.builder, node["reftype"], found[0], node, text
        )
    return text if is_known(target, node.get("py:module") or PACKAGE) else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", read_as_prose, priority=BEFORE_NAPOLEON)
    app.connect("autodoc-process-signature", without_factories)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
