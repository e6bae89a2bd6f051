"""Configuration of Sphinx. Build with ``sphinx-build -n -W -b html docs docs/_build/html``."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

from generate import SECTIONS, generate  # noqa: E402

project = "lightning-plateau"
author = "The lightning-plateau authors"
copyright = author
release = version = version_of("lightning-plateau")

extensions = [
    "docstrings",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"lightning-plateau {release}"

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80

napoleon_numpy_docstring = False
napoleon_attr_annotations = False  # the signature has the types
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_custom_sections = [("Class attributes", "Attributes"), *SECTIONS[:2], *SECTIONS[3:5]]


# Of optuna, whose pages are not at hand offline.
nitpick_ignore = [("py:exc", "TrialPruned")]


def _leave_out_unread(app: Sphinx) -> None:
    """Let the index of sources list no module without a source: its link would lead nowhere."""
    modules = getattr(app.env, "_viewcode_modules", {})
    for name in [name for name, source in modules.items() if not source]:
        del modules[name]


def _generate(app: Sphinx) -> None:
    generate(Path(app.srcdir))


def setup(app: Sphinx) -> None:
    """Write the generated pages before Sphinx looks for sources."""
    app.connect("builder-inited", _generate)
    # Before viewcode, at 500, makes its pages.
    app.connect("html-collect-pages", lambda app: _leave_out_unread(app) or (), priority=400)
