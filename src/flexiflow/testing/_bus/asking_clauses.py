"""The clauses of asking, with their programs (A1, A2)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from flexiflow import (
    DuplicateAnswer,
    HandlerCancelled,
    HandlerTimeout,
    LimitDeadlock,
    NoAnswer,
    PublishRefused,
    Query,
    Topic,
)
from flexiflow.events import HANDLER_FAILED
from flexiflow.testing._examiner.clause import Clause, programs
from flexiflow.testing._examiner.kit import (
    Boom,
    Watch,
    claim,
    fail,
    ignore,
    kept_cancellation,
    log_kept,
    mark,
    noting,
    refused,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from flexiflow import Event, EventBus

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
    boom = Boom()

    def handler(_: object) -> None:
        raise boom

    await bus.subscribe(HANDLER_FAILED, "c", heard.append)
    await bus.answer("q", "c", handler, limit=limit)
    with log_kept() as records, refused(Boom, "the answerer raised Boom, and ask did not") as left:
        await bus.ask("q")
    claim(left[0] is boom and boom.__cause__ is None, f"ask did not raise {boom!r} as it was")
    logged = [record.getMessage() for record in records if record.levelname == "ERROR"]
    claim(not (heard or logged), f"what ask raises was reported, too: {heard or logged}")


async def judges_a_stray(bus: EventBus) -> None:
    """A cancellation that is not the asker's is the answerer's failure."""
    stray = await kept_cancellation()

    async def handler(_: object) -> None:
        raise stray

    await bus.answer("q", "c", handler)
    kinds = (HandlerCancelled, anyio.get_cancelled_exc_class())
    with refused(kinds, "a stray cancellation left the answerer, and ask raised nothing") as left:
        await bus.ask("q")
    claim(isinstance(left[0], HandlerCancelled), f"a stray cancellation left ask as {left[0]!r}")
    claim(left[0].__cause__ is stray, f"the cause of {left[0]!r} is not the stray cancellation")


async def keeps_a_group_whole(bus: EventBus) -> None:
    """A group leaves `ask` as the answerer raised it."""
    group = ExceptionGroup("a group", [Boom()])

    async def handler(_: object) -> None:
        raise group

    await bus.answer("q", "c", handler)
    with refused(ExceptionGroup, "the answerer raised a group, and ask did not") as left:
        await bus.ask("q")
    claim(left[0] is group, f"the answerer raised {group!r}, and ask {left[0]!r}")


async def splits_a_group(bus: EventBus, *, in_time: bool) -> None:
    """Of a failure and a cancellation in a group the failure leaves, in any question."""
    boom, stray = Boom(), await kept_cancellation()
    left: list[BaseException] = []

    async def handler(_: object) -> None:
        try:
            await anyio.sleep(0 if in_time else 9)
        except anyio.get_cancelled_exc_class() as own:
            raise BaseExceptionGroup("a group", [own, boom]) from None
        raise BaseExceptionGroup("a group", [stray, boom])

    await bus.answer("q", "c", handler)
    with anyio.move_on_after(1):
        try:
            await bus.ask("q")
        except BaseExceptionGroup as group:
            left.extend(group.exceptions)
    claim(left == [boom], f"of {boom!r} and a cancellation in a group, ask raised {left}")


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


async def names_the_nearest(bus: EventBus) -> None:
    """Without an answerer, the message names queries with similar names."""
    await bus.answer("price.asked", "c", double)
    with refused(NoAnswer, "nobody answers, and ask raised no NoAnswer") as left:
        await bus.ask("price.aksed", 4)
    shown = str(left[0])
    claim("price.asked" in shown, f"price.asked is answered, and for price.aksed it says: {shown}")


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


async def has_one_after_another(bus: EventBus) -> None:
    """When an answerer has been unsubscribed, another one may answer."""
    former = await bus.answer("q", "c", fail)
    bus.unsubscribe(former)
    await bus.answer("q", "d", double)
    answer = await bus.ask("q", 4)
    claim(answer == 8, f"the next answerer returned 8, and ask {answer!r}")


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


async def reaches_no_subscription(bus: EventBus, *, heard: Heard) -> None:
    """A question reaches no subscription, not even one to a pattern, and asks no filter."""
    await bus.subscribe("q", "c", heard.append)
    await bus.subscribe("**", "c", heard.append, filter=noting(heard))
    await bus.answer("q", "c", double_at_once)
    await bus.ask("q", 4)
    claim(not heard, f"a question reached a subscription: {heard}")


async def reaches_no_answerer(bus: EventBus, *, heard: Heard) -> None:
    """A publish reaches no answerer."""
    await bus.answer("q", "c", heard.append)
    await bus.publish("q", 4)
    claim(not heard, f"a publish reached an answerer: {heard}")


async def refuses_the_other_kind(bus: EventBus) -> None:
    """A `Topic` is neither asked nor answered, a `Query` neither subscribed to nor published."""
    topic: Any = Topic[int]("q")
    query: Any = Query[int, int]("r")
    with refused(TypeError, "an answerer of a topic was taken"):
        await bus.answer(topic, "c", double)
    with refused(TypeError, "a subscription to a query was taken"):
        await bus.subscribe(query, "c", ignore)
    with refused(TypeError, "a query was published"):
        await bus.publish(query, 4)
    await bus.answer("q", "c", double)
    with refused(TypeError, "a topic was asked"):
        await bus.ask(topic, 4)


async def lets_others_run(bus: EventBus, *, heard: Heard, is_answered: bool) -> None:
    """Questions count as publishes do, answered or not: one in `yield_every` yields."""

    async def others() -> None:
        while True:
            heard.append("others")
            await checkpoint()

    if is_answered:
        await bus.answer("q", "c", double_at_once)
    async with anyio.create_task_group() as group:
        group.start_soon(others)
        for _ in range(200):
            with suppress(NoAnswer):
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


class Witness(Watch):
    """An instrument that notes with what each block was left."""

    def note(self, what: str, exception: BaseException | None = None) -> None:
        """Note it."""
        if what.startswith("leaves"):
            self.heard.append(exception)


async def shows_instruments_what_leaves(bus: EventBus, *, heard: Heard) -> None:
    """Both methods of an instrument see what the answerer raises."""
    bus.add_instrument(Witness("w", heard))
    await bus.answer("q", "c", fail)
    with refused(Boom, "the answerer raised Boom, and ask did not") as left:
        await bus.ask("q")
    claim(heard == left * 2, f"ask raised {left[0]!r}, and an instrument saw {heard}")


class Refusing(Watch):
    """An instrument that refuses every publish."""

    def publishing(self, event: Event[Any], /) -> AbstractContextManager[object]:
        """Refuse."""
        raise PublishRefused(event.name)


async def may_be_refused(bus: EventBus, *, heard: Heard) -> None:
    """An instrument may refuse a question, whose answerer does not start then."""
    bus.add_instrument(Refusing("w", heard))
    await bus.answer("q", "c", heard.append)
    with refused(PublishRefused, "an instrument refused a question, and it was asked"):
        await bus.ask("q", 4)
    claim(not heard, f"an instrument refused a question, and its answerer heard {heard}")


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
        keeps_a_group_whole,
        splits_a_group,
        passes_its_cancellation_on,
        has_one_answerer,
        names_the_nearest,
        knows_nobody,
        answers_no_pattern,
        ends_like_any_subscription,
        has_one_after_another,
        is_gone_before_its_turn,
        answers_within_its_terms,
        is_async=(True, False),
        in_time=(True, False),
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
    programs(
        reaches_no_subscription,
        reaches_no_answerer,
        refuses_the_other_kind,
        lets_others_run,
        shows_instruments_both,
        shows_instruments_what_leaves,
        may_be_refused,
        is_answered=(True, False),
    ),
    needs=("answer", "ask", "add_instrument"),
)
