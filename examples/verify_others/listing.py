"""What the adapters share: components, and what they have subscribed."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

Handler: TypeAlias = Callable[[Any], Any]


@dataclass
class Listening:
    """What a component has subscribed.

    The libraries return no subscription, so this is none either. It can't be hashed; so the checker
    takes it that subscriptions are not offered.
    """

    event: str
    component: str
    handler: Handler


def check_component(component: object) -> None:
    """Refuse what names no component; whatever else is refused, the library refuses."""
    if not isinstance(component, str):
        raise TypeError(f"component must be a str, not {component!r}")
    if not component:
        raise ValueError("component must not be empty")


class Listing(ABC):
    """The part of a bus that knows which component has subscribed what; no library does."""

    def __init__(self) -> None:
        self._listed: list[Listening] = []

    @abstractmethod
    def connect(self, event: str, handler: Handler) -> Handler:
        """Hand a handler to the library; return what is to be disconnected later."""

    @abstractmethod
    def disconnect(self, event: str, handler: Handler) -> bool:
        """Take it from the library again; return whether it was there."""

    async def subscribe(self, event: str, component: str, handler: Handler) -> Listening:
        """Subscribe a handler."""
        check_component(component)
        return self.remember(event, component, self.connect(event, handler))

    def remember(self, event: str, component: str, handler: Handler) -> Listening:
        """Note what a component has subscribed."""
        listening = Listening(event, component, handler)
        self._listed.append(listening)
        return listening

    def forget(self, listening: Listening) -> bool:
        """Forget it again, and return whether it was known."""
        rest = [each for each in self._listed if each is not listening]
        was_known = len(rest) < len(self._listed)
        self._listed = rest
        return was_known

    def unsubscribe(self, listening: Listening) -> bool:
        """Unsubscribe, and return whether it was subscribed."""
        return self.forget(listening) and self.disconnect(listening.event, listening.handler)

    def unsubscribe_all(self, component: str) -> int:
        """Unsubscribe all of a component, and return how many it were."""
        return sum(self.unsubscribe(each) for each in self._listed if each.component == component)
