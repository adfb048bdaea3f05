"""Look through the built documentation: what leads nowhere, and what a page loads.

    python -m tools.links docs/_build/html

Sphinx checks the links that it makes itself; numbers of clauses, raw pictures and the theme make
others. No page may load anything from another host, and the front page has a limit. The program
ends with 1 if there is any fault.
"""

import re
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import unquote

LIMIT = 300_000
"""As many bytes the front page may have, with all that it loads."""

_ANCHOR = re.compile(r'<[^>]* id="([^"]+)"')
_LINK = re.compile(r'<a [^>]*?href="([^"]+)"')
_LOADED = re.compile(
    r'<(?:img|script|iframe)[^>]*? src="([^"]+)"|<link [^>]*?rel="stylesheet"[^>]*? href="([^"]+)"'
)
_OTHER_HOST = re.compile(r"[a-z]+:|//")


def find_faults(folder: Path) -> Iterator[str]:
    """Yield each fault of the pages in a folder, after the page that has it."""
    folder = folder.resolve()
    pages = {page: page.read_text(encoding="utf-8") for page in sorted(folder.rglob("*.html"))}
    anchors = {page: {*map(unescape, _ANCHOR.findall(text))} for page, text in pages.items()}
    for page, text in pages.items():
        name = page.relative_to(folder)
        loaded = {first or second for first, second in _LOADED.findall(text)}
        yield from (f"{name}: loads {each}" for each in sorted(loaded) if _OTHER_HOST.match(each))
        inside = {each for each in {*_LINK.findall(text)} | loaded if not _OTHER_HOST.match(each)}
        for address in sorted(inside):
            target, anchor = _follow(page, address)
            if not target.is_file():
                yield f"{name}: no file for {address}"
            elif anchor and anchor not in anchors.get(target, ()):
                yield f"{name}: no anchor for {address}"
        if page == folder / "index.html":
            files = {_follow(page, each)[0] for each in inside & loaded} | {page}
            size = sum(each.stat().st_size for each in files if each.is_file())
            if size > LIMIT:
                yield f"{name}: {size:,} bytes, more than {LIMIT:,}"


def _follow(page: Path, address: str) -> tuple[Path, str]:
    """Return the file that an address on a page leads to, and the anchor in it."""
    path, _, anchor = unquote(unescape(address)).partition("#")
    path = path.partition("?")[0]
    return (page.parent / path).resolve() if path else page, anchor


if __name__ == "__main__":
    faults = [*find_faults(Path(sys.argv[1]))]
    sys.stdout.writelines(f"{fault}\n" for fault in faults)
    sys.exit(1 if faults else 0)
