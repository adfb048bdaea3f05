"""Types of pydantic and msgspec, written and read by those libraries (Y1).

Where there is a class of such a library, the library is installed: no message has to say that it is
missing.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def pydantic_ends(kind: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return the functions that write and read payloads of a class of pydantic.

    Raises:
        TypeError: pydantic is older than 2.11, and can't read a field by its name and its alias.
    """
    pydantic: Any = import_module("pydantic")
    to_json: Any = import_module("pydantic_core").to_json
    adapter = pydantic.TypeAdapter(kind)
    # A field may have an alias to be written by, and another one to be read by.
    validate = partial(adapter.validate_json, by_alias=True, by_name=True)
    try:
        # Now, or else each event would be a dead letter.
        pydantic.TypeAdapter(bool).validate_json("true", by_alias=True, by_name=True)
    except TypeError as exc:
        raise TypeError(
            f"pydantic {pydantic.VERSION} is too old for Schema.of, which needs 2.11: install "
            "flexiflow[pydantic]"
        ) from exc

    def decode(data: Any) -> Any:
        # As JSON, in which the types of pydantic may have another form than in Python.
        return validate(to_json(data))

    return partial(adapter.dump_python, mode="json", round_trip=True, warnings="error"), decode


def msgspec_ends(kind: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return the functions that write and read payloads of a class of msgspec."""
    msgspec: Any = import_module("msgspec")
    write = partial(msgspec.to_builtins, str_keys=True)
    return write, partial(msgspec.convert, type=kind, str_keys=True)
