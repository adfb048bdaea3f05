"""The clauses of asking, with their programs (A1, A2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from flexiflow import DuplicateAnswer, HandlerCancelled, HandlerTimeout, LimitDeadlock, NoAnswer
from flexiflow.events import HANDLER_FAILED
from flexiflow.testing._examiner.clause import Clause, programs
from flexiflow.testing._examiner.kit import (
    Boom,
    Watch,
    claim,
    fail,
    kept_cancellation,
    log_kept,
    mark,
    noting,
    refused,
)

if TYPE_CHECKING:
    from flexiflow import EventBus

    Heard: TypeAlias = list[Any]


# A1


async def double(item: int) -> int:
    """Answer after a turn of the scheduler."""
    await checkpoint()
    return 2 * item


def double_at_once(item: int) -> int:
    """Answer at once."""
    return 2 * item


async def returns_the_answer(bus: EventBus, *, is_async: bool, limit: int | None) -> None:
    """What the one answerer returns is what `ask` returns."""
    await bus.answer("q", "c", double if is_async else double_at_once, limit=limit)
    answer = await bus.ask("q", 4)
    claim(answer == 8, f"the answerer returned 8, and ask {answer!r}")


async def answers_in_place(bus: EventBus, *, heard: Heard, limit: int | None) -> None:
    """The answerer runs in the asker's task and context."""

    def handler(_: object) -> None:
        heard.extend([anyio.get_current_task().id, mark.get()])
        mark.set("the answerer's")

    await bus.answer("q", "c", handler, limit=limit)
    mark.set("the asker's")
    await bus.ask("q")
    expected = [anyio.get_current_task().id, "the asker's"]
    claim(heard == expected, f"the answerer ran in {heard}, and not in {expected}")
    claim(mark.get() == "the answerer's", "the answerer ran in a context of its own")


async def raises_what_it_raises(bus: EventBus, *, heard: Heard, limit: int | None) -> None:
    """What the answerer raises leaves `ask` bare, and is reported nowhere else."""
    await bus.subscribe(HANDLER_FAILED, "c", heard.append)
    await bus.answer("q", "c", fail, limit=limit)
    with log_kept() as records, refused(Boom, "the answerer raised Boom, and ask nothing"):
        await bus.ask("q")
    logged = [record.getMessage() for record in records if record.levelname == "ERROR"]
    claim(not (heard or logged), f"what ask raises was reported, too: {heard or logged}")


async def judges_a_stray(bus: EventBus) -> None:
    """A cancellation that is not the asker's is the answerer's failure."""
    stray = await kept_cancellation()

    async def handler(_: object) -> None:
        raise stray

    await bus.answer("q", "c", handler)
    with refused(HandlerCancelled, "a stray cancellation left the answerer, and ask as it was"):
        await bus.ask("q")


async def passes_its_cancellation_on(bus: EventBus) -> None:
    """The asker's own cancellation goes through."""

    async def handler(_: object) -> None:
        await anyio.sleep(9)

    await bus.answer("q", "c", handler)
    with anyio.move_on_after(1) as scope:
        await bus.ask("q")
    claim(scope.cancelled_caught, "ask swallowed the deadline around it")


async def has_one_answerer(bus: EventBus) -> None:
    """A second answerer is refused, and changes nothing."""
    await bus.answer("q", "first", double)
    with refused(DuplicateAnswer, "a second answerer was taken"):
        await bus.answer("q", "second", fail)
    answer = await bus.ask("q", 4)
    claim(answer == 8, f"after a second answerer was refused, the first one gave {answer!r}")
    claim(bus.unsubscribe_all("second") == 0, "an answerer that was refused is there all the same")


async def knows_nobody(bus: EventBus, *, name: str) -> None:
    """Without an answerer there is no answer; a pattern is no question."""
    kind = ValueError if "*" in name else NoAnswer
    await bus.answer("q.r", "c", double)
    with refused(kind, f"asking {name}, which nobody answers, raised no {kind.__name__}"):
        await bus.ask(name, 4)


async def answers_no_pattern(bus: EventBus) -> None:
    """A pattern can't be answered."""
    with refused(ValueError, "an answerer of the pattern q.* was taken"):
        await bus.answer("q.*", "c", double)


async def ends_like_any_subscription(bus: EventBus, *, end: str) -> None:
    """An answerer that is unsubscribed in its answer goes on, and answers no further question."""

    async def handler(_: object) -> int:
        if end == "unsubscribe":
            bus.unsubscribe(answerer)
        elif end == "unsubscribe_all":
            bus.unsubscribe_all("c")
        else:
            answerer.__exit__(None, None, None)
        await checkpoint()
        return 1

    answerer = await bus.answer("q", "c", handler)
    answer = await bus.ask("q")
    claim(answer == 1, f"unsubscribed in its answer, which is 1, it gave {answer!r}")
    with refused(NoAnswer, "an answerer that was unsubscribed answers all the same"):
        await bus.ask("q")


async def is_gone_before_its_turn(bus: EventBus, *, heard: Heard) -> None:
    """An answerer that is unsubscribed while an asker waits in line does not answer it."""

    async def handler(data: object) -> None:
        heard.append(data)
        await anyio.sleep(1)

    async def ask(data: object) -> None:
        try:
            await bus.ask("q", data)
        except NoAnswer:
            heard.append("no answer")

    answerer = await bus.answer("q", "c", handler, limit=1)
    async with anyio.create_task_group() as group:
        for number in (0, 1):
            group.start_soon(ask, number)
            await anyio.sleep(0.1)
        bus.unsubscribe(answerer)
    claim(heard == [0, "no answer"], f"asked 0 and 1, and gone in between, it gave {heard}")


async def answers_within_its_terms(bus: EventBus, *, heard: Heard) -> None:
    """A time limit and a limit hold for an answerer as for any handler."""

    async def ask_itself(_: object) -> None:
        await bus.ask("r")

    async def sleep(_: object) -> None:
        await anyio.sleep(9)
        heard.append("not ended")

    await bus.answer("q", "c", sleep, time_limit=1)
    await bus.answer("r", "c", ask_itself, limit=1)
    with refused(HandlerTimeout, "an answerer whose time is over raises no HandlerTimeout"):
        await bus.ask("q")
    with anyio.move_on_after(9), refused(LimitDeadlock, "an answerer that asks itself waits"):
        await bus.ask("r")
    claim(not heard, "an answerer went on when its time was over")


# A2


async def keeps_them_apart(bus: EventBus, *, heard: Heard) -> None:
    """A publish reaches no answerer, and a question no subscription."""
    await bus.subscribe("q", "c", heard.append)
    await bus.subscribe("**", "c", heard.append, filter=noting(heard))
    await bus.answer("q", "c", double_at_once)
    await bus.ask("q", 4)
    claim(not heard, f"a question reached a subscription: {heard}")
    bus.unsubscribe_all("c")

    async def handler(data: object) -> None:
        heard.append(data)

    await bus.answer("q", "c", handler)
    await bus.publish("q", 4)
    claim(not heard, f"a publish reached an answerer: {heard}")


async def lets_others_run(bus: EventBus, *, heard: Heard) -> None:
    """Questions count as publishes do: at least one in `yield_every` yields."""

    async def others() -> None:
        while True:
            heard.append("others")
            await checkpoint()

    await bus.answer("q", "c", double_at_once)
    async with anyio.create_task_group() as group:
        group.start_soon(others)
        for _ in range(200):
            await bus.ask("q", 4)
        claim(heard, "among 200 questions no other task ever ran")
        group.cancel_scope.cancel()


async def shows_instruments_both(bus: EventBus, *, heard: Heard) -> None:
    """An instrument sees a question as a publish and its answer as a handler."""
    bus.add_instrument(Watch("w", heard))
    await bus.answer("q", "c", double)
    answer = await bus.ask("q", 4)
    expected = ["w enters q", "w enters c", "w leaves c", "w leaves q"]
    claim(heard == expected, f"of a question an instrument saw {heard}, and not {expected}")
    claim(answer == 8, f"with an instrument, ask returned {answer!r}, and not 8")


_ENDS: Final = ("unsubscribe", "unsubscribe_all", "with")

A1 = Clause(
    "A1",
    "one answerer",
    "`ask` calls the one answerer, in the asker's task and context, and returns what it returns or "
    "raises what it raises, bare and reported nowhere else; without one it raises `NoAnswer`; a "
    "second one is refused with `DuplicateAnswer`, a wildcard with `ValueError`; an answerer is "
    "unsubscribed like any subscription, and has a time limit and a limit as any handler.",
    programs(
        returns_the_answer,
        answers_in_place,
        raises_what_it_raises,
        judges_a_stray,
        passes_its_cancellation_on,
        has_one_answerer,
        knows_nobody,
        answers_no_pattern,
        ends_like_any_subscription,
        is_gone_before_its_turn,
        answers_within_its_terms,
        is_async=(True, False),
        limit=(None, 1),
        name=("r", "q", "q.*"),
        end=_ENDS,
    ),
    needs=("answer", "ask"),
)
A2 = Clause(
    "A2",
    "queries are no events",
    "A publish reaches no answerer, a question no subscription; a question counts as a publish for "
    "yielding, and instruments see it through both of their methods.",
    programs(keeps_them_apart, lets_others_run, shows_instruments_both),
    needs=("answer", "ask", "add_instrument"),
)
