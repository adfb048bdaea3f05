"""Lead from names in code style to what they name, here and in the documentation of others.

In docstrings any name in backticks is a reference. Two kinds of name are found more often because
of what is here: what a signature calls by its last part only, as `Path`, and what a page writes in
code style, as `anyio.fail_after` or `EventBus`. On a page the first one in each section is a link.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.ext.intersphinx import InventoryAdapter
from sphinx.transforms import SphinxTransform

if TYPE_CHECKING:
    from typing import Any

    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

_MODULES = ("flexiflow.extras.stores", "flexiflow.extras.durable", "flexiflow.testing", "flexiflow")
"""Where public names are looked for; the last one wins, as its `Outcome` does."""


class NameLinks(SphinxTransform):
    """Makes a reference of what a page writes in code style, if it may be a known name."""

    default_priority = 400

    def apply(self, **_options: Any) -> None:
        """Look through the page; what turns out to be unknown stays as it is."""
        if self.env.docname.startswith("api"):
            return
        public: dict[str, str] = self.config.public_names
        linked: set[tuple[int, str]] = set()
        for literal in [*self.document.findall(nodes.literal)]:
            name = literal.astext()
            target = public.get(name, name if "." in name else "")
            section = id(_nearest_section(literal))
            is_code = name.replace(".", "").replace("_", "").isalnum()
            if is_code and target and section and (section, name) not in linked:
                linked.add((section, name))
                reference = pending_xref(
                    "", refdomain="py", reftype="obj", reftarget=target, refdoc=self.env.docname
                )
                literal.replace_self(reference)
                reference += literal


def _nearest_section(literal: nodes.literal) -> nodes.section | None:
    """Return the section of a literal; None if it is in a heading, or a link already."""
    parent = literal.parent
    while parent is not None and not isinstance(parent, nodes.section):
        if isinstance(parent, nodes.Titular | nodes.reference | pending_xref):
            return None
        parent = parent.parent
    return parent


def _complete(
    _app: Sphinx, env: BuildEnvironment, node: pending_xref, _content: nodes.Element
) -> None:
    """Give a name that is unknown its module, if Python has one of that name."""
    full = _full_names(env).get(node["reftarget"])
    if full:
        node["reftarget"] = full


def _full_names(env: BuildEnvironment) -> dict[str, str]:
    known = getattr(env, "full_names_of_others", None)
    if known is None:
        inventory = InventoryAdapter(env).named_inventory["python"]
        names = (name for kind in ("py:class", "py:data") for name in inventory.get(kind, ()))
        known = {name.rpartition(".")[2]: name for name in names}
        env.full_names_of_others = known
    return known


def _read_names(_app: Sphinx, config: Any) -> None:
    config.public_names = {
        name: f"{module}.{name}"
        for module in _MODULES
        for name in import_module(module).__all__
        if name[0].isupper()
    }


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the references, and see to it that intersphinx is asked for the whole name."""
    app.setup_extension("sphinx.ext.intersphinx")
    app.add_config_value("public_names", {}, "")
    app.connect("config-inited", _read_names)
    app.add_transform(NameLinks)
    app.connect("missing-reference", _complete, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
