"""The picture of the house: what it shows, and what the tool finds wrong."""

from pathlib import Path

import pytest

from tools.house import BEGIN, END, TABLE, draw, find_missing, main, place, read_house

pytestmark = [pytest.mark.unmeasured, pytest.mark.same_everywhere]

ROOMS = {
    "public names": ["__init__"],
    "bus": ["_bus", "_registry"],
    "names": ["_names*"],
    "durable": ["extras.durable"],
    "transports": ["extras.durable._redis*"],
}
MODULES = {
    "__init__.py": "from flexiflow._bus import EventBus",
    "_bus.py": "from flexiflow import _registry\nimport flexiflow._names",
    "_registry.py": "import re\nfrom typing import Any\nfrom flexiflow._names import check",
    "_names.py": "",
    "_names_shown.py": "",
    "_cli/__init__.py": "",
    "_cli/run.py": "from flexiflow import EventBus",
    "extras/durable/__init__.py": "from ._redis_client import connect",
    "extras/durable/_redis_client.py": (
        "if TYPE_CHECKING:\n    from ..._names import Name\n"
        "def connect():\n    from flexiflow._bus import EventBus\n"
    ),
}
PICTURE = """\
```mermaid
flowchart TD
    public_names["<b>public names</b><br>__init__"]
    bus["<b>bus</b><br>_bus _registry"]
    names["<b>names</b><br>_names*"]
    durable["<b>durable</b><br>extras.durable"]
    transports["<b>transports</b><br>_redis*"]
    _cli["<b>_cli</b>"]
    public_names --> bus
    bus --> names
    durable --> transports
    transports --> bus
    _cli --> public_names
```"""
CHANGES = f"""
{TABLE}

| change | rooms and modules | tests | pages |
|---|---|---|---|
| a name | **names**: `_names.py`; **bus**: `_bus.py` (`Bus.any`) | `test_bus.py` | `docs/bus.md` |
| a figure | **benchmarks**: a `*.py` | a test | `pyproject.toml` |

## Next

| a table | `of_others.py` | |
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make a project whose picture is what the imports say."""
    modules = {f"src/flexiflow/{name}": text for name, text in MODULES.items()}
    others = ("tests/bus/test_bus.py", "docs/bus.md", "benchmarks/bus.py", "pyproject.toml")
    page = f"# Contributing\n\n{BEGIN}\n\n{PICTURE}\n\n{END}\n{CHANGES}"
    for name, text in {**modules, **dict.fromkeys(others, ""), "CONTRIBUTING.md": page}.items():
        add(tmp_path, name, text)
    return tmp_path


def add(project: Path, name: str, text: str = "") -> None:
    """Write a file of the project."""
    (project / name).parent.mkdir(parents=True, exist_ok=True)
    (project / name).write_text(text, encoding="utf-8")


def complaint(project: Path) -> str:
    """Return what the command finds wrong."""
    with pytest.raises(SystemExit) as exited:
        main(project, [], ROOMS)
    return str(exited.value.code)


def test_the_picture_in_the_repository_is_what_the_imports_say() -> None:
    """Documentation: the rooms have all modules, and the table of changes names what exists."""
    main(Path(), [])


def test_a_picture_has_each_room_and_no_implied_arrow(project: Path) -> None:
    """Documentation: imports count wherever they are; a package is a room of its own."""
    house = read_house(project / "src", ROOMS)
    assert house.complaints == []
    assert draw(house) == PICTURE


def test_an_import_is_kept_as_an_example(project: Path) -> None:
    """Documentation: one import of each pair of rooms can be shown."""
    imports = read_house(project / "src", ROOMS).imports["transports"]
    assert imports == {
        "bus": "extras.durable._redis_client imports _bus",
        "names": "extras.durable._redis_client imports _names",
    }


@pytest.mark.parametrize(
    ("module", "room"),
    [
        ("_names", "names"),
        ("_names.shown", "names"),
        ("extras.durable", "durable"),
        ("extras.durable._worker", "durable"),
        ("extras.durable._redis.client", "transports"),
        ("extras.retry", None),
        ("_buses", None),
    ],
)
def test_the_longest_name_decides(module: str, room: str | None) -> None:
    """Documentation: a module that becomes a package stays in its room."""
    assert place(module, ROOMS) == room


def test_a_picture_that_is_right_is_accepted(project: Path) -> None:
    """Documentation: nothing is written where nothing is to be done."""
    before = (project / "CONTRIBUTING.md").read_text(encoding="utf-8")
    main(project, [], ROOMS)
    main(project, ["--write"], ROOMS)
    assert (project / "CONTRIBUTING.md").read_text(encoding="utf-8") == before


@pytest.mark.parametrize("wrong", ["bus --> transports", "names --> bus"])
def test_a_wrong_picture_is_found_and_renewed(project: Path, wrong: str) -> None:
    """Documentation: the message says how to renew it."""
    page = project / "CONTRIBUTING.md"
    right = page.read_text(encoding="utf-8")
    page.write_text(right.replace("bus --> names", wrong), encoding="utf-8")
    assert complaint(project) == (
        "CONTRIBUTING.md: the picture is not what the imports say; "
        "renew it by `python -m tools.house --write`"
    )
    main(project, ["--write"], ROOMS)
    assert page.read_text(encoding="utf-8") == right


def test_a_new_import_makes_the_picture_wrong(project: Path) -> None:
    """Documentation: an arrow that no other arrows imply has to be drawn."""
    add(project, "src/flexiflow/_cli/more.py", "import flexiflow.extras.durable")
    assert "the picture is not what the imports say" in complaint(project)


def test_a_forgotten_module_is_found(project: Path) -> None:
    """Documentation: a module that no room has is named."""
    add(project, "src/flexiflow/_stream.py")
    assert complaint(project) == "_stream belongs to no room: add it to ROOMS in tools/house.py"


def test_a_name_of_a_module_that_is_gone_is_found(project: Path) -> None:
    """Documentation: a room has no names of modules that are gone."""
    house = read_house(project / "src", {**ROOMS, "limits": ["_limits"]})
    assert house.complaints == [
        "ROOMS in tools/house.py: '_limits' of the room 'limits' matches no module"
    ]


def test_a_circle_of_rooms_is_found(project: Path) -> None:
    """Documentation: the message has the rooms, and the imports that make the circle."""
    add(project, "src/flexiflow/_names_shown.py", "import flexiflow._bus")
    assert complaint(project) in (
        f"rooms import each other: {circle}"
        for circle in (
            "bus -> names -> bus (_bus imports _names; _names_shown imports _bus)",
            "names -> bus -> names (_names_shown imports _bus; _bus imports _names)",
        )
    )


@pytest.mark.parametrize("mark", [BEGIN, END])
def test_a_missing_mark_is_found(project: Path, mark: str) -> None:
    """Documentation: the picture is never written where it has no place."""
    page = (project / "CONTRIBUTING.md").read_text(encoding="utf-8")
    add(project, "CONTRIBUTING.md", page.replace(mark, ""))
    assert complaint(project).startswith("CONTRIBUTING.md has no picture between ")


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("`_names.py`", "`_name.py`", "a name: there is no '_name.py' in 'names'"),
        ("`_bus.py`", "`_names.py`", "a name: there is no '_names.py' in 'bus'"),
        ("**bus**", "**buses**", "a name: 'buses' is neither a room nor a folder"),
        ("`test_bus.py`", "`test_of.py`", "a name: there is no 'test_of.py'"),
        ("`docs/bus.md`", "`bus.md`, `docs/of.md`", "a name: there is no 'docs/of.md'"),
        ("`*.py`", "`*.md`", "a figure: there is no '*.md' in 'benchmarks'"),
        ("**benchmarks**", "benchmarks", "a figure: there is no room in bold"),
        (TABLE, "## Other", f"there is no table below {TABLE!r}"),
    ],
)
def test_what_the_table_names_must_exist(
    project: Path, right: str, wrong: str, message: str
) -> None:
    """Documentation: the message has the change, and the file that is not where the table says."""
    house = read_house(project / "src", ROOMS)
    first, *_ = find_missing(CHANGES.replace(right, wrong), project, house)
    assert first == f"CONTRIBUTING.md: {message}"
