"""Run the example of each docstring by itself, so that it needs nothing but what it shows.

All examples of a page share their names, unless they are in groups. So each docstring gets a group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def _add_groups(_app: Sphinx, _kind: str, name: str, *rest: object) -> None:
    *_, lines = rest
    assert isinstance(lines, list)  # noqa: S101  autodoc passes it
    grouped: list[str] = []
    indent: str | None = None
    for line in lines:
        text = line.lstrip()
        if indent is None and text.startswith(">>> "):
            indent = line.removesuffix(text)
            grouped += [f"{indent}.. doctest:: {name}", ""]
        elif not text:
            indent = None
        grouped.append(line if indent is None else f"   {line}")
    lines[:] = grouped


def setup(app: Sphinx) -> dict[str, bool]:
    """Change docstrings after all others have."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", _add_groups, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
