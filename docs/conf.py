"""Sphinx's configuration."""

from importlib import metadata
from pathlib import Path

project = "FlexiFlow"
author = "FlexiFlow contributors"
copyright = "FlexiFlow contributors"  # noqa: A001  Sphinx's name for it
try:
    release = metadata.version("flexiflow")
except metadata.PackageNotFoundError:  # built from the source tree, without installing it
    release = ""

extensions = [
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

doctest_path = [str(Path(__file__).parent.parent / "examples")]
# What a logger without handlers prints to standard error would only clutter the build.
doctest_global_setup = """
import logging
logging.getLogger("flexiflow").addHandler(logging.NullHandler())
"""

html_theme = "furo"
html_title = "FlexiFlow"
html_static_path = ["_static"]
html_show_sphinx = False
