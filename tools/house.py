"""The house: the rooms of `src/flexiflow`, and which room imports which.

CONTRIBUTING.md shows them as a picture, made from the imports alone, and a table of where a change
belongs. `python -m tools.house --write` renews the picture; without the option the command fails if
the picture is out of date. Both fail if a rule is broken:

- Each module belongs to one of the `ROOMS`. A package that no room names is a room of its own.
- Each name in `ROOMS` is the name of something in `src/flexiflow`.
- Rooms don't import each other in a circle.
- The rooms and files that the table names exist, and each file is in the room that it follows.

Imports for types, and those within functions, count as any other.
"""

import argparse
import ast
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from itertools import pairwise
from pathlib import Path

PACKAGE = "flexiflow"
PAGE = "CONTRIBUTING.md"
BEGIN = "<!-- The picture is made by `python -m tools.house --write`. -->"
END = "<!-- The picture ends here. -->"
TABLE = "## Where a change belongs"

_FILE = re.compile(r"`([\w/*-]+\.(?:ini|lua|md|py|toml))`")
_ROOM = re.compile(r"\*\*(.+?)\*\*")

ROOMS = {
    "public names": ["__init__"],
    "command line": ["__main__", "_cli"],
    "testing": ["testing"],
    "bus examination": ["testing._bus"],
    "component examination": ["testing._component"],
    "transport examination": ["testing._transport"],
    "store examination": ["testing._store"],
    "machine examination": ["testing._machine"],
    "crashes": ["testing._crashing"],
    "examiner": ["testing._examiner"],
    "scheduling engine": ["testing._scheduling"],
    "extras": ["extras"],
    "durable delivery": ["extras.durable"],
    "outbox": ["extras.durable._outbox"],
    "bridge": ["extras.durable._bridge"],
    "transports": [
        "extras.durable._memory",
        "extras.durable._redis",
        "extras.durable._sqlite",
    ],
    "transport basics": [
        "extras.durable._bell",
        "extras.durable._errors",
        "extras.durable._filling",
        "extras.durable._lease",
        "extras.durable._logs",
        "extras.durable._membership",
        "extras.durable._outcomes",
        "extras.durable._patterns",
        "extras.durable._records",
        "extras.durable._starts",
        "extras.durable._surveys",
        "extras.durable._tickets",
        "extras.durable._transport",
    ],
    "stores": ["extras.stores"],
    "files and servers": [
        "extras._process",
        "extras._redis",
        "extras._sqlite",
        "extras._urls",
        "extras._woken",
    ],
    "components": [
        "_engine",
        "_admission",
        "_residents",
        "_running",
        "_component",
        "_actor",
        "_lifecycle",
        "_machine",
        "_mermaid",
        "_states",
    ],
    "bus": [
        "_bus",
        "_background",
        "_contexts",
        "_dispatcher",
        "_hosting",
        "_registry",
        "_stores",
        "_tasks",
    ],
    "streams and waiting": ["_stream", "_expectation", "_receiver"],
    "delivery": ["_delivery"],
    "reports and instruments": ["_reporting", "_instruments"],
    "subscriptions and names": [
        "_arguments",
        "_names",
        "_subscription",
    ],
    "limits and turns": ["_limits", "_mailbox", "_turns", "_work"],
    "errors and events": ["_cancellation", "_errors", "events"],
    "texts and helpers": [
        "_callables",
        "_clock",
        "_marks",
        "_objects",
        "_text",
        "_timers",
    ],
}
"""The modules and packages of each room, from the top of the house to its bottom.

The names are relative to `PACKAGE`; `__init__` is the package itself, `*` stands for any letters.
What is in a package belongs to the package's room, unless a longer name puts it into another.
"""


@dataclass(frozen=True)
class House:
    """The rooms, and the imports between them.

    Attributes:
        rooms: the names of the modules and packages of each room, as `ROOMS` has them, with the
            packages that are rooms of their own.
        imports: for each room, the rooms that it imports, each with one of those imports.
        complaints: what breaks the rules, a line for each.
    """

    rooms: Mapping[str, Sequence[str]]
    imports: Mapping[str, Mapping[str, str]]
    complaints: Sequence[str]


def read_house(source: Path, rooms: Mapping[str, Sequence[str]] = ROOMS) -> House:
    """Read the imports of all modules of the package that is in `source`."""
    modules = dict(find_modules(source))
    rooms = {**rooms, **{name: [name] for name in _find_unnamed_packages(modules, rooms)}}
    placed = {name: place(name, rooms) for name in modules}
    complaints = [
        f"{name} belongs to no room: add it to ROOMS in tools/house.py"
        for name, room in placed.items()
        if room is None
    ]
    complaints += [
        f"ROOMS in tools/house.py: {pattern!r} of the room {room!r} matches no module"
        for room, patterns in rooms.items()
        for pattern in patterns
        if not any(belongs(name, pattern) for name in modules)
    ]
    imports: dict[str, dict[str, str]] = {room: {} for room in rooms}
    for name, path in modules.items():
        for imported in sorted(find_imports(path, name, modules)):
            importer, other = placed[name], placed[imported]
            if importer is not None and other is not None and importer != other:
                imports[importer].setdefault(other, f"{name} imports {imported}")
    return House(rooms, imports, [*complaints, *find_circle(imports)])


def find_modules(source: Path) -> Iterator[tuple[str, Path]]:
    """Yield the file of each module by the module's name, which is relative to `PACKAGE`."""
    root = source / PACKAGE
    for path in sorted(root.rglob("*.py")):
        yield _dotted(path.relative_to(root)), path


def _dotted(path: Path) -> str:
    *packages, name = path.with_suffix("").parts
    return ".".join(packages if packages and name == "__init__" else [*packages, name])


def _find_unnamed_packages(
    modules: Mapping[str, Path], rooms: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    for name, path in modules.items():
        if path.parent.name == name and path.name == "__init__.py" and place(name, rooms) is None:
            yield name


def place(module: str, rooms: Mapping[str, Sequence[str]]) -> str | None:
    """Return the room of a module, or None; if several names match, the longest decides."""
    found = [
        (len(pattern), room)
        for room, patterns in rooms.items()
        for pattern in patterns
        if belongs(module, pattern)
    ]
    return max(found)[1] if found else None


@cache
def belongs(module: str, pattern: str) -> bool:
    """Return whether a name in `ROOMS` is that of the module, or of a package that holds it."""
    return fnmatchcase(module, pattern) or fnmatchcase(module, f"{pattern}.*")


def find_imports(path: Path, name: str, modules: Mapping[str, Path]) -> set[str]:
    """Return the modules of the package that a module imports, wherever it does so."""
    package = [PACKAGE, *name.split(".")]
    if path.name != "__init__.py" or name == "__init__":
        package.pop()
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {_module(alias.name, modules) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), ".".join(package))
            found |= {_module(f"{base}.{alias.name}", modules) for alias in node.names}
    return found - {""}


def _module(imported: str, modules: Mapping[str, Path]) -> str:
    """Return the name of the module that has what is imported; "" if the package has none."""
    if imported != PACKAGE and not imported.startswith(f"{PACKAGE}."):
        return ""
    name = imported.removeprefix(PACKAGE).removeprefix(".")
    # `from package import name` names a module, or what is in the module before the last dot.
    return next((each for each in (name, name.rpartition(".")[0]) if each in modules), "__init__")


def find_circle(imports: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return a complaint if rooms import each other, with the imports that make the circle."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as circle:
        # Each room of the list is imported by the next one.
        _, rooms = circle.args
        steps = [(after, before) for before, after in pairwise(rooms)][::-1]
        shown = "; ".join(imports[importer][other] for importer, other in steps)
        return [f"rooms import each other: {' -> '.join(rooms[::-1])} ({shown})"]
    return []


def leave_out_implied(imports: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    """Return the rooms that each room imports, without those that one of the others imports."""
    reached: dict[str, set[str]] = {}
    for room in TopologicalSorter(imports).static_order():
        reached[room] = {*imports[room]}.union(*(reached[other] for other in imports[room]))
    return {
        room: [
            other
            for other in imports
            if other in others and not any(other in reached[each] for each in others)
        ]
        for room, others in imports.items()
    }


def draw(house: House) -> str:
    """Return the picture in Mermaid, in a fence, as GitHub renders it."""
    identifiers = {room: room.replace(" ", "_") for room in house.rooms}
    lines = ["```mermaid", "flowchart TD"]
    for room, patterns in house.rooms.items():
        names = " ".join(_short(pattern) for pattern in patterns)
        label = f"<b>{room}</b>" + (f"<br>{names}" if names != room else "")
        lines.append(f'    {identifiers[room]}["{label}"]')
    for room, others in leave_out_implied(house.imports).items():
        lines += [f"    {identifiers[room]} --> {identifiers[other]}" for other in others]
    return "\n".join([*lines, "```"])


def _short(pattern: str) -> str:
    return pattern.removeprefix("extras.durable.")


def find_missing(page: str, root: Path, house: House) -> Iterator[str]:
    """Yield a complaint for each room and file of the table of changes that does not exist."""
    _, _, section = page.partition(f"{TABLE}\n")
    rows = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    if not rows:
        yield f"{PAGE}: there is no table below {TABLE!r}"
    for row in rows[1:]:
        change, places, others = row.strip("| ").split(" | ", 2)
        complaints = [*_missing_in_rooms(places, root, house), *_missing_elsewhere(others, root)]
        yield from (f"{PAGE}: {change}: {each}" for each in complaints)


def _missing_in_rooms(places: str, root: Path, house: House) -> Iterator[str]:
    """Check a cell that names files after the room, or the folder, that they are in."""
    _, *parts = _ROOM.split(places)
    if not parts:
        yield "there is no room in bold"
    for room, text in zip(parts[::2], parts[1::2], strict=True):
        inside = [*_files_of(room, root, house)]
        if not inside:
            yield f"{room!r} is neither a room nor a folder"
        for name in _FILE.findall(text):
            if not any(file.match(name) for file in inside):
                yield f"there is no {name!r} in {room!r}"


def _files_of(room: str, root: Path, house: House) -> Iterator[Path]:
    if room not in house.rooms:
        yield from (root / room).rglob("*.*")
        return
    package = root / "src" / PACKAGE
    for file in package.rglob("*.*"):
        if place(_dotted(file.relative_to(package)), house.rooms) == room:
            yield file


def _missing_elsewhere(cells: str, root: Path) -> Iterator[str]:
    """Check cells that name tests and pages by their names, and other files by their paths."""
    for name in _FILE.findall(cells):
        found = (each for folder in ("tests", "docs") for each in (root / folder).rglob(name))
        if not any((*root.glob(name), *found)):
            yield f"there is no {name!r}"


def replace_picture(page: str, picture: str) -> str:
    """Return the page with another picture between its two marks.

    Raises:
        SystemExit: A mark is missing.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        sys.exit(f"{PAGE} has no picture between {BEGIN!r} and {END!r}")
    return f"{before}{begin}\n\n{picture}\n\n{end}{after}"


def main(root: Path, arguments: Sequence[str], rooms: Mapping[str, Sequence[str]] = ROOMS) -> None:
    """Check the picture of the house, or renew it.

    Raises:
        SystemExit: A rule is broken, or the picture is out of date. The message says what to do.
    """
    parser = argparse.ArgumentParser("python -m tools.house", description=f"Check {PAGE}.")
    parser.add_argument("--write", action="store_true", help="renew its picture of the house")
    write = parser.parse_args(arguments).write
    house = read_house(root / "src", rooms)
    page = (root / PAGE).read_text(encoding="utf-8")
    if complaints := [*house.complaints, *find_missing(page, root, house)]:
        sys.exit("\n".join(complaints))
    renewed = replace_picture(page, draw(house))
    if write:
        (root / PAGE).write_text(renewed, encoding="utf-8")
    elif renewed != page:
        sys.exit(
            f"{PAGE}: the picture is not what the imports say; "
            "renew it by `python -m tools.house --write`"
        )


if __name__ == "__main__":
    main(Path(__file__).parents[1], sys.argv[1:])
