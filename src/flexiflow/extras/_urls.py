"""Objects from URLs, for command lines and configuration; no message shows a password."""

from __future__ import annotations

import math
import reprlib
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar, final
from urllib.parse import parse_qsl, unquote, urlsplit

from flexiflow._text import show

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from urllib.parse import SplitResult


class Kind(NamedTuple):
    """A kind of options.

    Attributes:
        read: returns the value of a text, or raises.
        what: what the text must be, for messages.
    """

    read: Callable[[str], object]
    what: str = ""


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):  # also of a number that no float holds, as 1e999
        raise OverflowError
    return number


def _octal(text: str) -> int:
    return int(text, 8)


COUNT: Final = Kind(int, "a whole number")
NUMBER: Final = Kind(_finite, "a number")
TRUTH: Final = Kind({"true": True, "false": False}.__getitem__, "true or false")
MODE: Final = Kind(_octal, "permissions in octal, as 600 is")
TEXT: Final = Kind(str)


_Made = TypeVar("_Made")


class Scheme(NamedTuple, Generic[_Made]):
    """What URLs of a scheme stand for.

    Attributes:
        begin: the scheme as such URLs begin with it, for messages.
        make: makes the object, of what `Reader` takes from the URL, and the options.
        options: the options that it takes, and their kinds.
    """

    begin: str
    make: Callable[..., _Made]
    options: Mapping[str, Kind]


@final
class Reader(Generic[_Made]):
    """Makes objects of a sort from URLs.

    A URL of the scheme `sqlite` names a file, of `memory` nothing more, and of any other a server.

    Args:
        what: what a URL names, for messages.
        example: the URL of a file, for messages.
        schemes: the schemes by their names.
    """

    def __init__(self, what: str, example: str, schemes: Mapping[str, Scheme[_Made]]) -> None:
        self._urls = f"a {what}'s URL"
        self._example = example
        self._schemes = schemes

    def read(self, url: object) -> _Made:
        """Return what a URL names.

        Raises:
            TypeError: it is no str.
            ValueError: it names nothing of this sort, or an option is unknown or out of its range.
        """
        if not isinstance(url, str):
            raise TypeError(f"{self._urls} must be a str, not {type(url).__qualname__}")
        place = _split(url)
        if place.scheme not in self._schemes:
            *others, last = (repr(each.begin) for each in self._schemes.values())
            raise ValueError(
                f"{self._urls} must begin with {', '.join(others)} or {last}, as "
                f"{self._example!r} does, and {_shown(url)!r} does not"
            )
        scheme = self._schemes[place.scheme]
        arguments = self._place(place, url)
        return scheme.make(*arguments, **self._options(place.query, scheme.options))

    def _place(self, place: SplitResult, url: str) -> tuple[str, ...]:
        if place.scheme == "sqlite":
            return (self._file(place, url),)
        if place.scheme != "memory":
            return (self._server(place),)
        if place.netloc or place.path or place.fragment:
            raise ValueError(
                f"{self._urls} must be 'memory:' alone, or with options after a question mark, "
                f"not {_shown(url)!r}"
            )
        return ()

    def _file(self, place: SplitResult, url: str) -> str:
        path = unquote(place.path)
        if place.netloc or place.fragment or not path:
            raise ValueError(
                f"{self._urls} must be {self._example!r} or 'sqlite:///absolute/path.db', "
                f"not {_shown(url)!r}"
            )
        if "\0" in path:
            raise ValueError(
                f"{self._urls} must name a file, and no file's name has a null character, as that "
                f"in {_shown(url)!r} has"
            )
        return path

    def _server(self, place: SplitResult) -> str:
        if "@" in f"{place.path}{place.query}":  # the rest of a password that ended early
            raise ValueError(
                f"in {self._urls}, / ? # and @ in a password are written as %2F, %3F, %23 and %40"
            )
        return place._replace(query="").geturl()

    def _options(self, query: str, known: Mapping[str, Kind]) -> dict[str, Any]:
        options: dict[str, Any] = {}
        for name, text in parse_qsl(query, keep_blank_values=True):
            if name not in known:
                raise ValueError(
                    f"{self._urls} has the option {reprlib.repr(name)}, which must be one of "
                    f"{', '.join(known)}"
                )
            if name in options:
                raise ValueError(f"{self._urls} has the option {show(name)} twice")
            options[name] = self._value(name, text, known[name])
        return options

    def _value(self, name: str, text: str, kind: Kind) -> object:
        try:
            return kind.read(text)
        except (KeyError, OverflowError, ValueError) as exc:
            what = "a finite number" if isinstance(exc, OverflowError) else kind.what
            raise ValueError(
                f"in {self._urls}, {name} must be {what}, not {reprlib.repr(text)}"
            ) from None


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # the error's own message may show a part of a password
        raise ValueError(f"{_shown(url)!r} is no URL: its brackets don't match") from None


def _shown(url: str) -> str:
    """Return a URL without the parts that may hold a password: before an @, and after a `?`."""
    secret, at, rest = url.rpartition("@")
    scheme, separator, _ = secret.partition("://")
    hidden = f"{scheme}{separator}***@" if separator else "***@"
    return f"{hidden if at else ''}{rest.partition('?')[0]}"
