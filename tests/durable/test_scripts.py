"""Scripts of calls that once broke a transport, on each that comes with us: X11, X12, X14, X15."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from functools import partial
from itertools import product
from typing import Any

import anyio
import pytest

from flexiflow.extras.durable import (
    Acknowledged,
    Batch,
    Buried,
    Failure,
    Postponed,
    Record,
    Room,
)
from flexiflow.testing import replay
from flexiflow.testing._transport.desk import open_desk
from flexiflow.testing._transport.desk_calls import HOOKS, Inconclusive, Means
from flexiflow.testing._transport.desk_log import SIZE
from tests.durable.redis.desk import lease_of
from tests.durable.transports import Tried, each_transport
from tests.helpers import by_turns

Script = tuple[tuple[Any, ...], ...]

OF_K = 1
"""Of two partitions the one of the key `k`."""

LINE: Script = (
    ("store", "p", "k", "k", "k"),
    ("receive", "a", 3),
    ("settle", "a", "postpone", 0),
    ("settle", "a", "queue", 0, 1),
    ("receive", "a", 1),
)
"""The first of a key is tried again, two are behind it."""

SCRIPTS: dict[str, tuple[dict[str, Any], Script]] = {
    "X11: what ended in time counts though the partition is another's": (
        {"partitions": 2},
        (
            ("store", "p", None),
            ("receive", "a", 1),
            ("oversleep", "a"),
            ("receive", "b", 1),
            ("settle", "a", "acknowledge", 0),
        ),
    ),
    "X11: a lease that has run out and holds nothing works on": (
        {},
        (("receive", "a", 1), ("oversleep", "a"), ("receive", "b", 1), ("renew", "a")),
    ),
    "X11: what others were given of a lease can still be told to have ended": (
        {},
        (
            ("store", "p", None),
            ("receive", "a", 1),
            ("oversleep", "a"),
            ("receive", "b", 1),
            ("settle", "b", "begin", 0),
            ("settle", "a", "let go", 0),
            ("die", "b"),
        ),
    ),
    "X11: a record that nobody holds is told to have ended, too": (
        {},
        (
            ("store", "p", None),
            ("receive", "a", 1),
            ("oversleep", "a"),
            ("receive", "b", 1),
            ("settle", "b", "return", 0),
            ("settle", "a", "let go", 0),
            ("receive", "b", 1),
        ),
    ),
    "X11: of what others were given it is no news that it is still being handled": (
        {},
        (
            ("store", "p", None),
            ("receive", "a", 1),
            ("oversleep", "a"),
            ("receive", "b", 1),
            ("settle", "a", "note", 0),
        ),
    ),
    "X11: what waits is settled where one that had lost it has handled it": (
        {},
        (
            ("store", "p", None),
            ("receive", "a", 1),
            ("oversleep", "a"),
            ("receive", "b", 1),
            ("settle", "b", "postpone", 0),
            ("settle", "a", "acknowledge", 0),
            ("receive", "b", 1),
        ),
    ),
    "X11: a renewal by one that has lost what is done already": (
        {},
        (
            ("store", "p", None),
            ("receive", "a", 1),
            ("oversleep", "a"),
            ("receive", "b", 1),
            ("settle", "a", "acknowledge", 0),
            ("oversleep", "b"),
            ("receive", "a", 1),
            ("renew", "b"),
        ),
    ),
    "X11: what is settled as done is nobody's any more, so nobody has lost it": (
        {},
        (
            ("store", "p", None),
            ("receive", "b", 1),
            ("oversleep", "b"),
            ("receive", "a", 1),
            ("die", "a"),
            ("receive", "b", 1),
            ("receive", "a", 1),
            ("settle", "b", "acknowledge", 0),
            ("store", "p", None),
            ("oversleep", "a"),
            ("receive", "b", 1),
            ("settle", "b", "begin", 0),
        ),
    ),
    "X12: what has no key is behind no other": (
        {},
        (("store", "p", None, None), ("receive", "a", 2), ("settle", "a", "queue", 0, 1)),
    ),
    "X12: nothing waits for longer than it may": (
        {},
        (("store", "p", None), ("receive", "a", 1), ("settle", "a", "defer", 0)),
    ),
    "X12: a line goes on once, however often it is told": (
        {},
        (*LINE, ("settle", "a", "acknowledge", 0), ("repeat", "a"), ("receive", "a", 3)),
    ),
    "X12: a line goes on behind one that is done and that nobody holds": (
        {},
        (
            *LINE,
            ("oversleep", "a"),
            ("receive", "b", 1),
            ("settle", "a", "acknowledge", 0),
            ("die", "b"),
        ),
    ),
    "X12: a line is behind what the last worker of the partition held of its key": (
        {"partitions": 2},
        (
            ("store", "p", "k", "k", "k"),
            ("receive", "a", 3, OF_K),
            ("settle", "a", "postpone", 2),
            ("receive", "a", 1, OF_K),
            ("oversleep", "a"),
            ("receive", "b", 1, OF_K),
            ("settle", "b", "queue", 0),
            ("receive", "b", 1, OF_K),
        ),
    ),
    "X12: a line goes on behind one that is done in a partition that is another's": (
        {"partitions": 2},
        (
            ("store", "p", "k", "k", "k"),
            ("receive", "a", 3, OF_K),
            ("settle", "a", "postpone", 0),
            ("settle", "a", "queue", 0, 1),
            ("receive", "a", 1, OF_K),
            ("oversleep", "a"),
            ("receive", "b", 1, OF_K),
            ("settle", "a", "acknowledge", 0),
            ("die", "b"),
        ),
    ),
    "X12: what waits may have been given where a receive was cancelled": (
        {},
        (
            ("store", "p", None),
            ("receive", "a", 1),
            ("settle", "a", "postpone", 0),
            ("cancel", "a", 1, 1),
        ),
    ),
    "X12: while too many wait nothing new is given, though some of them are": (
        {},
        (
            ("store", "p", None, None, None),
            ("receive", "a", 2),
            ("settle", "a", "postpone", 0, 1),
            ("receive", "a", 3, 0, 1_000, 1),
        ),
    ),
    "X14: what an outsider has stored is given without its body, and buried with it": (
        {"max_event_bytes": SIZE},
        (("insert", 0, 4 * SIZE), ("receive", "a", 1), ("settle", "a", "bury", 0), ("look", "g")),
    ),
    "X15: those who take less go on when those who took more are gone": (
        {},
        (
            ("store", "p", None, None),
            ("receive", "a", 1),
            ("join", "w"),
            ("receive", "a", 1),
            ("settle", "a", "acknowledge", 0),
            ("leave", "w"),
            ("receive", "a", 1),
        ),
    ),
}


# As there are three transports, each script runs on both backends, and each transport, too.
@pytest.mark.parametrize(
    ("what", "opened", "backend"),
    by_turns(
        pytest.param(what, *opened.values, marks=opened.marks)
        for what, opened in product(SCRIPTS, each_transport())
    ),
)
def test_a_transport_passes(
    what: str, opened: Callable[[], AbstractContextManager[Tried]], backend: str
) -> None:
    """X11, X12, X14, X15: what was found by chance once is looked for each time."""
    options, script = SCRIPTS[what]

    async def play(means: Means) -> None:
        async with open_desk(means, **options) as desk:
            for method, *given in script:
                await getattr(desk, method)(*given)
            await desk.finish()

    with opened() as tried:
        lease, hooks = tried.terms["lease"], {name: tried.terms.get(name) for name in HOOKS}
        main = partial(play, Means(tried.factory, lease or 10.0, **hooks))
        if lease is None:
            replay(main, backend=backend, decisions=())
            return
        try:
            anyio.run(main, backend=backend)
        except* Inconclusive:
            pytest.skip("this machine is too busy for a lease to last")


async def line_without_a_word(transport: Any) -> None:
    """Settle those of a key one after another, without `Followed`."""
    async with transport.connect() as connection:
        lease = await lease_of(connection)
        await connection.store(
            Batch("p", 1, tuple(Record(each, "k") for each in (b"1", b"2", b"3")))
        )
        first, *rest = await lease.receive(Room(9))
        waits = [Postponed(first.position, 1, 0, 0.0, "k")]
        waits += [Postponed(each.position, 0, 0, None, "k") for each in rest]
        await lease.settle(waits)
        [given] = await lease.receive(Room(9))
        assert given.body == b"1"
        await lease.settle([Acknowledged(given.position)])
        [given] = await lease.receive(Room(9))
        assert given.body == b"2"
        await lease.settle([Buried(given.position, 1, 1, Failure("E", "", ""))])
        [given] = await lease.receive(Room(9))
        assert given.body == b"3"


async def large_ones_that_were_left(transport: Any) -> None:
    """Have a lease leave more bytes than the next one takes at once."""
    async with transport.connect() as connection:
        lease = await lease_of(connection)
        large = Record(b"x" * 700, "k")
        await connection.store(Batch("p", 1, (large, large)))
        assert len(await lease.receive(Room(9))) == 2
        await lease.release()
        await connection.store(Batch("p", 2, (Record(b"small", "k"),)))
        lease = await lease_of(connection)
        sizes = [[len(each.body) for each in await lease.receive(Room(9, 1000))] for _ in range(2)]
        assert sizes == [[700], [700, 5]]


@pytest.mark.unmeasured
@pytest.mark.parametrize("partitions", [None, 1])
@pytest.mark.parametrize("scenario", [line_without_a_word, large_ones_that_were_left])
@pytest.mark.parametrize("opened", each_transport())
async def test_events_of_a_key_are_given_in_order(
    opened: Callable[[], AbstractContextManager[Tried]],
    scenario: Callable[[Any], Awaitable[None]],
    partitions: int | None,
) -> None:
    """X4, X12, X14: though nobody says that the next may follow, or not all of it fits."""
    with opened() as tried:
        await scenario(tried.factory(partitions=partitions))
