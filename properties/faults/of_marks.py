"""Engines with one planted fault each that concerns methods marked with `on` or `answers`."""

# pyright: reportPrivateUsage=false
from typing import Any, ClassVar

from flexiflow import Component, DuplicateAnswer, Engine
from properties.faults._component_registry import breaks


class Altering(Engine):  # type: ignore[misc]
    """Registers components with other options than their marks have."""

    instead: ClassVar[dict[str, Any]] = {}
    of_answerers: ClassVar[dict[str, Any]] = {}

    async def register(self, component: Component) -> None:
        kind = type(component)
        marks: Any = kind._flexiflow_handlers
        altered: Any = tuple(
            (name, {**mark, **(self.instead if "event" in mark else self.of_answerers)})
            for name, mark in marks
        )
        kind._flexiflow_handlers = altered
        try:
            await super().register(component)
        finally:
            kind._flexiflow_handlers = marks


@breaks("B4")
class ForgetsPriorities(Altering):  # type: ignore[misc]
    """Calls all marked methods in the order in which they stand."""

    instead: ClassVar[dict[str, Any]] = {"priority": 3}


@breaks("B8")
class ForgetsFilters(Altering):  # type: ignore[misc]
    """Asks no filter of a marked method."""

    instead: ClassVar[dict[str, Any]] = {"filter": None}


@breaks("B9")
class CallsAgain(Altering):  # type: ignore[misc]
    """Takes no notice of `once` in a mark."""

    instead: ClassVar[dict[str, Any]] = {"once": False}


@breaks("V1")
class ForgetsTimeLimits(Altering):  # type: ignore[misc]
    """Lets a marked method take as much time as it wants."""

    instead: ClassVar[dict[str, Any]] = {"time_limit": None}


@breaks("V2")
class ForgetsLimits(Altering):  # type: ignore[misc]
    """Calls a marked method any number of times at once."""

    instead: ClassVar[dict[str, Any]] = {"limit": None}


@breaks("A3")
class CallsBare(Altering):  # type: ignore[misc]
    """Puts nothing around a marked method."""

    instead: ClassVar[dict[str, Any]] = {"around": ()}


@breaks("A1")
class HurriesNoAnswerer(Altering):  # type: ignore[misc]
    """Lets a marked answerer take as much time as it wants."""

    of_answerers: ClassVar[dict[str, Any]] = {"time_limit": None}


@breaks("A2")
class PublishesToAnswerers(Engine):  # type: ignore[misc]
    """Subscribes an answerer to events of its query's name, too."""

    async def register(self, component: Component) -> None:
        await super().register(component)
        for name, mark in type(component)._flexiflow_handlers:
            if "query" in mark:
                answerer = getattr(component, name)
                await self.bus.subscribe(str(mark["query"]), component.name, answerer)


@breaks("B13")
class TakesLateMarks(Engine):  # type: ignore[misc]
    """Registers a component of a class that got a mark too late."""

    async def register(self, component: Component) -> None:
        kind = type(component)
        kind._flexiflow_own.checked = tuple(vars(kind).values())
        await super().register(component)


@breaks("C1", "A1", "A2")
class RegistersHalf(Engine):  # type: ignore[misc]
    """Leaves the first handler of a component that it refuses."""

    async def register(self, component: Component) -> None:
        try:
            await super().register(component)
        except DuplicateAnswer:
            [(name, _), *_] = type(component)._flexiflow_handlers
            await self.bus.subscribe("tick", component.name, getattr(component, name))
            raise
