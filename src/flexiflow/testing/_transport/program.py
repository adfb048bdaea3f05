"""Write a script, or a scenario, as a program that anyone can run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from flexiflow.testing._examiner.code import block
from flexiflow.testing._examiner.program import name_factory
from flexiflow.testing._transport.desk_calls import HOOKS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flexiflow.testing._transport.desk_calls import Means
    from flexiflow.testing._transport.script import TransportScript
    from flexiflow.testing._transport.universal import Universal


@final
class Programs:
    """Writes programs for one transport on one backend.

    Args:
        factory: makes the transport.
        means: the lease, and the hooks.
        backend: the backend on which programs run.
        is_virtual: whether scripts run in virtual time.
    """

    def __init__(
        self, factory: Callable[..., Any], means: Means, backend: str, *, is_virtual: bool
    ) -> None:
        self._factory = factory
        self._means = means
        self._on = f'backend="{backend}"'
        self._is_virtual = is_virtual

    def of_script(self, script: TransportScript, options: Mapping[str, int]) -> str:
        """Return a script as a program."""
        opened = f"open_desk({self._means_text()}{_text(options)})"
        lines = block(f"async with {opened} as desk:", [*script.main(), "await desk.finish()"])
        imports = ["from flexiflow.testing._transport.desk import open_desk"]
        if self._is_virtual:
            imports.insert(0, "from flexiflow.testing import replay")
            return self._program(imports, lines, f"replay(main, {self._on}, decisions=())")
        return self._program(["import anyio", *imports], lines, f"anyio.run(main, {self._on})")

    def of_scenario(
        self, each: Universal, scale: float, times: int, options: Mapping[str, int]
    ) -> str:
        """Return a scenario as a program."""
        imports = [
            "import anyio",
            "from flexiflow.testing._transport.universal import play",
            f"from {each.module} import {each.name}",
        ]
        terms = f"{self._means_text()}, {scale}, {times}"
        line = f"await play({each.name}, {terms}{_text(options)})"
        return self._program(imports, [line], f"anyio.run(main, {self._on})")

    def _means_text(self) -> str:
        given = "".join(f", {name}={name}" for name, _ in self._hooks())
        return f"Means(factory, {self._means.lease}{given})"

    def _hooks(self) -> list[tuple[str, Callable[..., Any]]]:
        hooks = ((name, getattr(self._means, name)) for name in HOOKS)
        return [(name, hook) for name, hook in hooks if hook is not None]

    def _program(self, imports: list[str], lines: list[str], run: str) -> str:
        parts = [
            *imports,
            "from flexiflow.testing._transport.desk_calls import Means",
            name_factory(self._factory, makes="your transport"),
            *(name_factory(hook, name, f"your hook {name!r}") for name, hook in self._hooks()),
            *("", "", *block("async def main():", lines), "", ""),
            run,
        ]
        return "\n".join([*parts, ""])


def _text(options: Mapping[str, int]) -> str:
    return "".join(f", {name}={value}" for name, value in options.items())
