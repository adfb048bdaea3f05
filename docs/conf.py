"""Sphinx's configuration."""

from __future__ import annotations

import gc
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from docutils import nodes

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_extensions")]

from tools import clauses, command_line, drawings  # noqa: E402  they are found from here on

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
    "docstring_examples",
    "myst_parser",
    "name_links",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
# In docstrings single backticks are enough, as in the code's own messages.
default_role = "py:obj"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
# These are explained on a page of their own, under these names.
_EXPLAINED = (
    "Action ComponentFactory DeliveryMode During ErrorPolicy Guard Hook Overflow Style Subscribing "
    "Worker"
)
autodoc_type_aliases = {name: name for name in _EXPLAINED.split()}
# As they are written: else one that has no repr of its own makes the signature unreadable.
autodoc_preserve_defaults = True
maximum_signature_line_length = 80
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
# Else each attribute is described twice: by the class's docstring and as a member.
napoleon_use_ivar = True

# The names of others that are used here, as a list that is read without a network: a build depends
# on no other host, and links don't change from one build to the next.
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", "_inventories/python.inv"),
    "anyio": ("https://anyio.readthedocs.io/en/stable", "_inventories/anyio.inv"),
    "trio": ("https://trio.readthedocs.io/en/stable", "_inventories/trio.inv"),
}

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

# What is copied runs: of lines with a prompt these alone, without the prompt. What is only printed
# has no button.
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"
copybutton_copy_empty_lines = False
copybutton_selector = (
    "div.highlight-python pre, div.highlight-console pre, div.highlight-toml pre, "
    "div.highlight-sh pre, div.doctest pre"
)

html_theme = "furo"
# The theme's own style for dark pages underlines names in code, as if they were links.
pygments_dark_style = "github-dark"
html_title = "FlexiFlow"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False


MADE: Final = {
    "clauses": lambda: clauses.make_list(ROOT),
    "command_line": command_line.make_list,
}
"""What is added to a page in every build, so that it is never out of date."""


def setup(app: Sphinx) -> None:
    """Make some pages anew in every build; they have no example that could be tried."""
    app.connect("env-get-outdated", lambda *_: [] if app.builder.name == "doctest" else [*MADE])
    app.connect("source-read", add_what_is_made)
    app.connect("doctree-read", draw_diagrams)


def add_what_is_made(_app: Sphinx, page: str, source: list[str]) -> None:
    """Append to a page what is made for it; the build ends if a clause has no test."""
    if page in MADE:
        source[0] += f"\n{MADE[page]()}"


def draw_diagrams(_app: Sphinx, page: nodes.document) -> None:
    """Put a picture below each diagram that a program prints, and in place of any other diagram."""
    for block in [*page.findall(nodes.literal_block)]:
        text = block.astext()
        if not drawings.is_diagram(text):
            continue
        picture = drawings.draw(text, f"Diagram: {block.parent.next_node(nodes.title).astext()}")
        figure = nodes.raw("", f'<div class="drawing">{picture}</div>', format="html")
        if "testnodetype" in block:
            block.parent.insert(block.parent.index(block) + 1, figure)
        else:
            block.replace_self(figure)
