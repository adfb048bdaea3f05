"""Loading a target: from its name to an engine (L1)."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import get_cancelled_exc_class

from flexiflow import Engine, _callables
from flexiflow._cli.problems import CannotRun
from flexiflow._cli.text import one_line, show_exception, show_origin, show_value
from flexiflow._delivery import verdict
from flexiflow._delivery.verdict import attempt
from flexiflow._text import closest

if TYPE_CHECKING:
    from types import ModuleType

# An exception raised in these files does not show where a target failed.
_OURS = (
    str(Path(__file__).parent),
    importlib.__file__,
    verdict.__file__,
    _callables.__file__,
    str(Path(__file__).parent.parent / "testing"),
)


def load(target: str) -> object:
    """Import what a target names, the current directory first on the import path (L1).

    The folder of a file comes second, as if Python itself ran that file.

    Args:
        target: "package.module:name" or "path/to/file.py:name". The name comes after the last
            colon, so that a path may have a drive letter.

    Raises:
        CannotRun: the target does not exist, or importing it raised an exception; `SystemExit`
            counts as one.
    """
    place, _, name = target.rpartition(":")
    if not (place and name):
        raise CannotRun(
            f"the target must be 'package.module:name' or 'path/to/file.py:name', not {target!r}"
        )
    try:
        sys.path.insert(0, str(Path.cwd()))
        module = _import_file(place) if _is_path(place) else importlib.import_module(place)
        return _attribute(module, name, target)
    except (CannotRun, KeyboardInterrupt):
        raise
    except BaseException as exc:
        raise unusable(target, "importing it raised", exc) from exc


async def build(target: str, found: object) -> Engine:
    """Return a target's engine; if the target is a function, call it to get the engine (L1).

    Args:
        target: the target's name, for messages.
        found: what `load` returned. A function is called inside the event loop, sync or async.

    Raises:
        CannotRun: `found` is neither an engine nor a function that returns one, or the function
            raised an exception; `SystemExit` counts as one.
    """
    if isinstance(found, Engine):
        return found
    if not callable(found):
        raise CannotRun(_no_engine(target, "is", found))
    try:
        made = await attempt(found)
    except (KeyboardInterrupt, get_cancelled_exc_class()):
        raise
    except BaseException as exc:
        raise unusable(target, "calling it raised", exc) from exc
    if not isinstance(made, Engine):
        raise CannotRun(_no_engine(target, "returned", made))
    return made


def unusable(target: str, what: str, exception: BaseException, traceback: str = "") -> CannotRun:
    """Return an exception that says that a target can't be used, what happened, and where."""
    return CannotRun(
        f"target {target!r} can't be used: {what} {show_exception(exception)}"
        f"{show_origin(exception, _OURS)}",
        traceback,
    )


def folder_of(target: str) -> Path:
    """Return the folder from which a target is imported."""
    place = target.rpartition(":")[0]
    return Path(place).resolve().parent if _is_path(place) else Path.cwd()


def loaded_by_path(target: str) -> tuple[str, Path] | None:
    """Return the name of a loaded target's module, and its file, if `import` can't find that file.

    It looks for a file of the module's name in the target's folder, and for a package if that name
    has dots.
    """
    place = target.rpartition(":")[0]
    module = _imported_from(Path(place)) if _is_path(place) else None
    if module is None:
        return None
    name, file = module.__name__, Path(place).resolve()
    is_found = "." not in name and file == folder_of(target) / f"{name}.py"
    return None if is_found else (name, file)


def _is_path(place: str) -> bool:
    return place.endswith(".py") or "/" in place or os.sep in place


def _names_for(path: Path) -> tuple[str, str]:
    """Return the name of a file's module, and one for it if another module has the first one.

    A module that is in use must not be replaced. `import_module` takes no name that begins with a
    dot.
    """
    name = path.stem.lstrip(".")
    return name, f"{name}_target"


def _imported_from(path: Path) -> ModuleType | None:
    """Return the module that was imported from a file, or None."""
    known = (sys.modules.get(name) for name in _names_for(path))
    file = str(path.absolute())
    return next((each for each in known if getattr(each, "__file__", None) == file), None)


def _import_file(place: str) -> ModuleType:
    path = Path(place)
    if not path.is_file():
        raise CannotRun(f"there is no file {place!r} to take the target from")
    known = _imported_from(path)
    if known is not None:
        return known
    own, other = _names_for(path)
    name = own if own not in sys.modules else other
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise CannotRun(f"a target's file must be Python, its name ending in .py, not {place!r}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(1, str(path.resolve().parent))
    spec.loader.exec_module(module)
    return module


def _attribute(module: ModuleType, name: str, target: str) -> object:
    try:
        return getattr(module, name)
    except AttributeError:
        near = closest(name, vars(module))
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise CannotRun(
            f"target {target!r} can't be loaded: {module.__name__!r} has no {name!r}{hint}"
        ) from None


def _no_engine(target: str, verb: str, given: object) -> str:
    return (
        f"target {target!r} must be an Engine, or a function that returns one; "
        f"it {verb} {one_line(show_value(given))}"
    )
