"""Turn a case into a program that anyone can run.

The parts of a program come from its case. What they use, as definitions and imports, is found by
the words in their text, and put before them.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

from flexiflow.testing._examiner.code import block, without_one

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from flexiflow.testing._examiner.code import Lines

# What programs use, by the word that shows it. What an entry uses itself comes before it.
_PRELUDE = {
    "heard": "heard = []",
    "async_filter": "async def async_filter(event, data):\n    return True",
    "early": "early = checkpoint()\nearly.close()",
    "generator": "def generator(data):\n    yield",
    "async_generator": "async def async_generator(data):\n    yield",
    "noted": "def noted(message, component):\n    heard.append(message)",
    "Boom": "class Boom(Exception):\n    pass",
    "Exit": "class Exit(BaseException):\n    pass",
    "Quit": "class Quit(SystemExit):\n    pass",
    "Later": """\
class Later:
    def __await__(self):
        yield from checkpoint().__await__()""",
    "Mark": """\
class Mark:
    def __eq__(self, other):
        return isinstance(other, Mark)

    def __hash__(self):
        return 0""",
    "refused": """\
@contextmanager
def refused(error_type, otherwise):
    errors = []
    try:
        yield errors
    except error_type as error:
        errors.append(error)
        return
    raise AssertionError(otherwise)""",
    "log_kept": """\
@contextmanager
def log_kept():
    records, handler = [], logging.Handler()
    handler.emit = records.append
    logging.getLogger("flexiflow").addHandler(handler)
    try:
        yield records
    finally:
        logging.getLogger("flexiflow").removeHandler(handler)""",
    "Noted": """\
class Noted:
    def __init__(self, watch, what):
        self.watch, self.what = watch, what

    def __enter__(self):
        self.watch.note(f"enters {self.what}")

    def __exit__(self, kind, exception, traceback):
        return self.watch.note(f"leaves {self.what}", exception)""",
    "Watch": """\
class Watch:
    def __init__(self, name):
        self.name = name

    def publishing(self, event):
        return Noted(self, event.name)

    def handling(self, event, subscription):
        return Noted(self, subscription.component_name)

    def note(self, what, exception=None):
        heard.append(f"{self.name} {what}")""",
    "native_task": """\
def native_task():
    if anyio.get_cancelled_exc_class() is CancelledError:
        return current_task()""",
    "settle": """\
async def settle():
    for _ in range(20):
        await checkpoint()""",
    "mark": 'mark = ContextVar("mark", default=None)',
    "cancel_after": """\
async def cancel_after(scope, turns):
    for _ in range(turns):
        await checkpoint()
    scope.cancel()""",
    "kept_cancellation": """\
async def kept_cancellation():
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class() as error:
            kept = error
            raise
    return kept""",
}
_IMPORTS = {
    "gc": "import gc",
    "logging": "import logging",
    "weakref": "import weakref",
    "get_ident": "from threading import get_ident",
    "contextmanager": "from contextlib import contextmanager",
    "suppress": "from contextlib import suppress",
    "CancelledError": "from asyncio import CancelledError, current_task",
    "ContextVar": "from contextvars import ContextVar",
    "partial": "from functools import partial",
    "MappingProxyType": "from types import MappingProxyType",
    "anyio": "import anyio",
    "checkpoint": "from anyio.lowlevel import checkpoint",
    "replay": "from flexiflow.testing import replay",
}
_OURS = (
    "BufferFull",
    "ComponentError",
    "DuplicateComponent",
    "HandlerCancelled",
    "HandlerTimeout",
    "LimitDeadlock",
    "Outcome",
    "PublishRefused",
    "StateMachine",
    "StreamDeadlock",
    "Topic",
    "Transition",
    "TransitionRefused",
    "UnknownComponent",
)


class Case(Protocol):
    """What a checker tries: a script, or a program that is written out."""

    @property
    def decisions(self) -> tuple[int, ...]:
        """The schedule of the tasks."""
        ...

    @property
    def again(self) -> str:
        """What is done with the same bus in a second run, or "" if there is none."""
        ...

    def smaller(self) -> Iterable[Case]:
        """Yield cases with something left out."""
        ...

    def main(self) -> Lines:
        """Return what is done with `bus`, as lines of Python."""
        ...


@dataclass(frozen=True)
class Program:
    """A program that itself asserts what a clause promises.

    Attributes:
        text: what is done with `bus`, at the indentation of a module.
        again: what is done with the same bus in a second run; the bus is then made before the
            first, outside of any loop if the factory is sync.
        decisions: the schedule, as `run_scheduled` takes it.
    """

    text: str
    again: str = ""
    decisions: tuple[int, ...] = ()

    def smaller(self) -> Iterator[Program]:
        """Yield programs with a shorter schedule; the text itself is not shrunk."""
        return (replace(self, decisions=less) for less in without_one(self.decisions))

    def main(self) -> Lines:
        """Return what is done, as lines of Python."""
        return self.text.strip("\n").split("\n")


def mains(case: Case) -> tuple[str, ...]:
    """Return the names of the async functions to run, one after another."""
    return ("main", "again") if case.again else ("main",)


def buses_yield(case: Case) -> bool:
    """Return whether buses yield at every publish: they do unless the case has no schedule."""
    return bool(case.decisions)


def define(case: Case, *, is_async: bool) -> str:
    """Return code that defines the async functions to run, given a `factory`."""
    return complete(_runs(case, is_async=is_async))


def complete(parts: list[str]) -> str:
    """Join the parts of a program, after what they use."""
    parts = _with_prelude(parts)
    return "\n\n\n".join([_imports(parts), *parts])


def show(case: Case, factory: Callable[[], object], *, backend: str, is_async: bool) -> str:
    """Return the whole program of a case, with an import of the factory."""
    return with_runs(case, _runs(case, is_async=is_async), [name_factory(factory)], backend)


def with_runs(case: Case, parts: list[str], factories: list[str], backend: str) -> str:
    """Join the parts of a program, after what they use and before the lines that run it."""
    options = f'backend="{backend}", decisions={case.decisions}'
    if not buses_yield(case):
        options += ", buses_yield=False"
    parts = _with_prelude(parts)
    runs = "\n".join(f"replay({name}, {options})" for name in mains(case))
    imports = "\n".join([_imports([*parts, runs]), "", *factories])
    return "\n\n\n".join([imports, *parts, f"{runs}\n"])


def _with_prelude(parts: list[str]) -> list[str]:
    """Put before the parts what they use of the prelude."""
    parts = [*parts]
    for word, definition in reversed(_PRELUDE.items()):
        if any(_uses(word, part) for part in parts):
            parts.insert(0, definition)
    return parts


def _imports(parts: list[str]) -> str:
    """Return the imports that the parts need."""
    text = "\n".join(parts)
    imports = [line for word, line in _IMPORTS.items() if _uses(word, text)]
    ours = [name for name in _OURS if _uses(name, text)]
    return "\n".join([*imports, f"from flexiflow import {', '.join(ours)}"] if ours else imports)


def _runs(case: Case, *, is_async: bool) -> list[str]:
    """Return the parts that make the bus and define the functions to run."""
    new_bus = "await factory()" if is_async else "factory()"
    made, does = f"bus = {new_bus}", [line.replace("NEW_BUS", new_bus) for line in case.main()]
    if not case.again:
        return ["\n".join(block("async def main():", [made, *does]))]
    # Only a sync factory can make a bus outside of any loop.
    first = ["global bus", made] if is_async else []
    main = "\n".join(block("async def main():", [*first, *does]))
    again = "\n".join(block("async def again():", case.again.strip("\n").split("\n")))
    return [main, again] if is_async else [made, main, again]


def name_factory(
    factory: Callable[..., object], alias: str = "factory", makes: str = "your bus"
) -> str:
    """Return the import of a factory, or a placeholder if it can't be imported."""
    name, module = getattr(factory, "__qualname__", ""), getattr(factory, "__module__", "")
    packages = accumulate(str(module).split("."), "{}.{}".format)
    for place in packages:
        if place != "__main__" and getattr(sys.modules.get(place), name, None) is factory:
            return f"from {place} import {name} as {alias}"
    return f"{alias} = ...  # what makes {makes}"


def operations(case: Case) -> int:
    """Count the places in a program that call one of the examined methods."""
    calls = r"\b(?:bus|engine|component|desk)\.\w+[(,]"
    return sum(len(re.findall(calls, line)) for line in case.main())


def _uses(word: str, text: str) -> bool:
    return re.search(rf"\b{word}\b", text) is not None
