"""Lead from each number of a clause, as B4, to the clause, and from there to its tests.

Numbers are found in the text of pages and docstrings; in code, headings and other links they stay
as they are. A number that is no clause is a warning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

from tools.clauses import find_clauses, find_mentions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from sphinx.application import Sphinx

SEMANTICS_PAGE, TESTS_PAGE = "semantics", "clauses"
_KEPT_AS_IT_IS = (
    nodes.FixedTextElement,
    nodes.literal,
    nodes.raw,
    nodes.reference,
    nodes.Titular,
)
_logger = logging.getLogger(__name__)


class ClauseLinks(SphinxPostTransform):
    """Replaces the numbers of clauses on a page by links, just before it is written."""

    default_priority = 900

    def run(self, **_options: Any) -> None:
        """Replace them; in the semantics also give each clause an anchor that is its number."""
        self.titles: dict[str, str] = self.config.clause_titles
        if self.env.docname == SEMANTICS_PAGE:
            self._add_anchors()
        for text in [*self.document.findall(nodes.Text)]:
            if not _is_within(text, _KEPT_AS_IT_IS):
                pieces = [*self._pieces(text)]
                if len(pieces) > 1:
                    text.parent.replace(text, pieces)

    def _pieces(self, text: nodes.Text) -> Iterator[nodes.Node]:
        end = 0
        for identifier, start, stop in find_mentions(text, self.titles):
            if identifier not in self.titles:
                _logger.warning("no clause is called %s", identifier, location=text.parent)
                continue
            yield nodes.Text(text[end:start])
            title = f"{identifier}: {self.titles[identifier]}"
            yield self._link(SEMANTICS_PAGE, identifier, identifier, title)
            end = stop
        yield nodes.Text(text[end:])

    def _link(self, page: str, identifier: str, text: str, title: str) -> nodes.reference:
        uri = self.app.builder.get_relative_uri(self.env.docname, page)
        target = {"refuri": f"{uri}#{identifier.lower()}", "reftitle": title}
        return nodes.reference("", text, internal=True, **target)

    def _add_anchors(self) -> None:
        for section in self.document.findall(nodes.section):
            identifier = section[0].astext().partition(":")[0]
            if identifier in self.titles:
                section["ids"].append(identifier.lower())
                link = self._link(TESTS_PAGE, identifier, f"Tests of {identifier}", "")
                section.append(nodes.paragraph("", "", link))


def _is_within(node: nodes.Node, kinds: tuple[type[nodes.Node], ...]) -> bool:
    parent = node.parent
    while parent is not None:
        if isinstance(parent, kinds):
            return True
        parent = parent.parent
    return False


def _read_titles(app: Sphinx, config: Any) -> None:
    text = app.srcdir.joinpath(f"{SEMANTICS_PAGE}.md").read_text(encoding="utf-8")
    config.clause_titles = {each.identifier: each.title for each in find_clauses(text)}


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the links to each build that writes pages."""
    app.add_config_value("clause_titles", {}, "")
    app.connect("config-inited", _read_titles)
    app.add_post_transform(ClauseLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
