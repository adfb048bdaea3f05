"""Sphinx's configuration."""

from __future__ import annotations

import gc
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_extensions")]

from tools.clauses import make_list  # noqa: E402  it is found from here on

if TYPE_CHECKING:
    from sphinx.application import Sphinx

# Sphinx keeps nearly all that it makes, and each collection of garbage looks through all of it.
gc.disable()

project = "FlexiFlow"
author = "FlexiFlow contributors"
copyright = "FlexiFlow contributors"  # noqa: A001  Sphinx's name for it
try:
    release = metadata.version("flexiflow")
except metadata.PackageNotFoundError:  # built from the source tree, without installing it
    release = ""

extensions = [
    "clause_links",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]
# In docstrings single backticks are enough, as in the code's own messages.
default_role = "py:obj"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
# Else each attribute is described twice: by the class's docstring and as a member.
napoleon_use_ivar = True

doctest_path = [str(ROOT / "examples")]
# What a logger without handlers prints to standard error would only clutter the build. Examples
# may need the garbage collector, which need not look through all pages.
doctest_global_setup = """
import gc
import logging
gc.freeze()
gc.enable()
logging.getLogger("flexiflow").addHandler(logging.NullHandler())
"""

html_theme = "furo"
html_title = "FlexiFlow"
html_static_path = ["_static"]
html_show_sphinx = False


def setup(app: Sphinx) -> None:
    """Add the tests of each clause to their page, in every build."""
    app.connect("env-get-outdated", lambda *_: ["clauses"])
    app.connect("source-read", add_tests_of_clauses)


def add_tests_of_clauses(_app: Sphinx, page: str, source: list[str]) -> None:
    """Append the list to its page, or end the build if a clause has no test."""
    if page == "clauses":
        source[0] += f"\n{make_list(ROOT)}"
