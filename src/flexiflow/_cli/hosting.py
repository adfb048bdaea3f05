"""Running a target's engine, and keeping the states of its components in a store (L5, K2, M4)."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, cast

from flexiflow import FlexiFlowError, UnknownComponent
from flexiflow._cli.problems import CannotRun
from flexiflow._cli.text import one_line, show_exception, show_message, show_value
from flexiflow._component import actor_of
from flexiflow._engine import keep_in, store_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from flexiflow import Engine
    from flexiflow._running import Running
    from flexiflow._stores import StateStore

beside_lines: Final[ContextVar[bool]] = ContextVar("beside_lines", default=False)
"""Set in the tasks of timers and work, which no line of the input leads to."""


def find_store(url: str) -> StateStore:
    """Return the store that a URL names; nothing is opened yet.

    Raises:
        CannotRun: the URL names no store.
    """
    # Imported only here: most runs need no store.
    from flexiflow.extras.stores import store_from_url  # noqa: PLC0415

    try:
        return store_from_url(url)
    except ValueError as exc:
        raise CannotRun(show_message(exc)) from exc


@asynccontextmanager
async def running(engine: Engine, target: str, store: StateStore | None) -> AsyncGenerator[Running]:
    """Run an engine in the block.

    Args:
        engine: the target's engine.
        target: the target's name, for messages.
        store: where the states are kept; None for where the engine keeps them itself, if anywhere.

    Raises:
        CannotRun: the engine has a store already, or the store can't be used.
    """
    async with AsyncExitStack() as stack:
        try:
            if store is not None:
                await _keep(engine, target, store, stack)
            block = await _start(engine, stack)
        except (FlexiFlowError, ModuleNotFoundError) as exc:
            raise CannotRun(show_message(exc)) from exc
        except CannotRun:
            raise
        except Exception as exc:
            raise CannotRun(
                f"the engine of target {target!r} can't run: {show_exception(exc)}"
            ) from exc
        yield block


async def finish(engine: Engine, block: Running) -> None:
    """Wait until what was due when the block began has been handled, and what is in line now.

    Messages in line are those of timers and work; nobody else waits for them.
    """
    await block.wait_looked()
    for component in [*engine.components.values()]:
        mailbox = actor_of(component).mailbox
        if not mailbox.is_idle:
            turn = mailbox.join_alone()
            with suppress(UnknownComponent):  # it was unregistered meanwhile
                await turn.wait_granted()
                mailbox.pass_on()


async def _keep(engine: Engine, target: str, store: StateStore, stack: AsyncExitStack) -> None:
    """Give a store to an engine, and open it for as long as the stack is open."""
    own = store_of(engine)
    if own is not None:
        raise CannotRun(
            f"the engine of target {target!r} has a store already, "
            f"{one_line(show_value(own))}; leave out --store"
        )
    if isinstance(store, AbstractAsyncContextManager):
        await stack.enter_async_context(store)
    await keep_in(engine, store)


async def _start(engine: Engine, stack: AsyncExitStack) -> Running:
    """Let the engine's timers and work begin, in a context that tells them from the lines."""
    block = cast("Running", engine.running())
    marked = beside_lines.set(True)
    try:
        await stack.enter_async_context(block)
    finally:
        beside_lines.reset(marked)
    return block
