"""What is drawn: drafts of programs (P6).

A `Draft` has for each component a *pool* of messages, and steps that choose from it. Most steps
choose a message that the component's state has a transition for: of messages at random, most would
come at the wrong time, and few programs would get far. What was chosen is a `Script`, which is
shown, and from which parts are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final, final

from hypothesis import strategies as st

from flexiflow._actor import copy_message
from flexiflow.testing._examiner.clause import number, several
from flexiflow.testing._examiner.program import Written
from flexiflow.testing._examiner.subject import out_of_factory
from flexiflow.testing._machine.script import Pause, Script, Send, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from flexiflow._machine import StateMachine
    from flexiflow.testing._examiner.steps import Lines
    from flexiflow.testing._machine.desk import Desk, Sender
    from flexiflow.testing._machine.script import Message, Pool

_MOST_SENDERS: Final = 3
_MOST_STEPS: Final = 15
"""So many steps a sender takes at most."""

_MOST_DECISIONS: Final = 80

_CANCELLED: Final = 12
"""A send is cancelled after less turns than this."""

_LEAST_IN_POOL: Final = 8
"""So many messages are to choose from at least, and three times as many at most."""


@final
@dataclass(frozen=True)
class Choice:
    """Send one of the messages in a component's pool.

    Attributes:
        name: the component's name.
        number: which one, modulo the number of messages to choose from.
        is_fitting: whether only those are chosen from that the component's state has a transition
            for, if there are any.
        liked: the types that are chosen before others then.
        cancelled_after: as for `Send`.
    """

    name: str
    number: int
    is_fitting: bool
    liked: frozenset[str] = frozenset()
    cancelled_after: int | None = None

    def choose(self, pool: Pool, machine: StateMachine, state: str) -> Send:
        """Return what is sent to a component in this state."""
        if self.is_fitting:
            fitting = [each for each in pool if machine.candidates(state, each["type"])]
            liked = [each for each in fitting if each["type"] in self.liked]
            pool = liked or fitting or pool
        return Send(self.name, pool[self.number % len(pool)], self.cancelled_after)


@final
@dataclass(frozen=True)
class Draft(Written):
    """What was drawn.

    Attributes:
        pools: the messages of each component, by its name.
        senders: what each sender does; all begin at the same time.
        decisions: the schedule, as `run_scheduled` takes it.
        done: what each sender did when this ran last.
    """

    pools: Mapping[str, Pool]
    senders: tuple[tuple[Choice | Pause, ...], ...]
    decisions: tuple[int, ...] = ()
    done: list[list[Step]] = field(default_factory=list[list[Step]], compare=False)

    @property
    def script(self) -> Script:
        """What was done when this ran last."""
        return Script(tuple(map(tuple, self.done)), self.decisions, self.pools)

    def smaller(self) -> Iterator[Script]:
        """Yield what was done, from which more can be left out."""
        yield self.script

    def at(self, desk: Desk) -> list[Sender]:
        """Return the senders, which choose and do all this at a desk."""
        self.done[:] = [[] for _ in self.senders]
        pairs = zip(self.senders, self.done, strict=True)
        return [partial(self._do, steps, done, desk) for steps, done in pairs]

    def main(self) -> Lines:
        """Return what was done, as lines of Python."""
        return self.script.main()

    async def _do(self, steps: Iterable[Choice | Pause], done: list[Step], desk: Desk) -> None:
        for step in steps:
            chosen: Step
            if isinstance(step, Choice):
                chosen = step.choose(self.pools[step.name], *desk.place_of(step.name))
            else:
                chosen = step
            done.append(chosen)
            await chosen.do(desk)


def drafts(
    messages: Mapping[str, st.SearchStrategy[Any]], times: Iterable[float]
) -> st.SearchStrategy[Draft]:
    """Draw drafts.

    Args:
        messages: what draws the messages of each component; those that share a strategy share a
            pool.
        times: the seconds that timers take.
    """
    # By the strategy: the first name that it is for.
    firsts: dict[st.SearchStrategy[Any], str] = {}
    for name, each in messages.items():
        firsts.setdefault(each, name)
    pools = st.tuples(
        *(
            several(_checked(name, each), least=_LEAST_IN_POOL, most=3 * _LEAST_IN_POOL)
            for each, name in firsts.items()
        )
    )
    pauses = sorted({0.01, 1.0, *(share * each for each in times for share in (0.5, 1.0, 2.0))})

    def make(drawn: tuple[Pool, ...], digits: tuple[int, ...]) -> Draft:
        pools = dict(zip(firsts, drawn, strict=True))
        own = {name: pools[each] for name, each in messages.items()}
        # Hypothesis often draws the same digits again, with other messages.
        types = [each["type"] for pool in drawn for each in pool]
        random = Random(f"{digits} {types}")  # noqa: S311  not secret, but the same again
        writer = Writer(random, own, pauses)
        return Draft(own, writer.senders(), writer.decisions())

    return st.builds(make, pools, st.tuples(*[number(0, 63)] * 5))


@final
class Writer:
    """Writes what senders do, at random.

    Hypothesis draws only the seed, and the messages. If it drew each step, most programs would be
    short or repeat themselves. For the same reason it does not shrink them: `Script.smaller` does.

    Each program has habits of its own, since what is always mixed hides faults: whether many sends
    are cancelled, or none; which types of messages are liked; whether all senders do the same with
    different components, each keeps to one of them, or takes any.

    Args:
        random: where it is drawn from.
        pools: the messages of each component, by its name.
        pauses: the seconds that a sender may wait.
    """

    def __init__(self, random: Random, pools: Mapping[str, Pool], pauses: Sequence[float]) -> None:
        self._random = random
        self._names = [*pools]
        self._pauses = pauses
        self._pausing = random.choice((0.0, 0.1, 0.3))
        self._fitting = random.choice((0.6, 0.9, 1.0))
        self._cancelling = random.choice((0.0, 0.2, 0.5))
        types = sorted({each["type"] for pool in pools.values() for each in pool})
        self._liked = frozenset(random.sample(types, random.randint(0, len(types))))

    def senders(self) -> tuple[tuple[Choice | Pause, ...], ...]:
        """Return what each sender does."""
        random = self._random
        senders = random.choice((1, 2, 2, _MOST_SENDERS))
        first = random.randrange(len(self._names))
        habit = random.choice(("alike", "alike", "one each", "any"))
        if habit == "any":
            return tuple(self._steps(self._names) for _ in range(senders))
        own = [self._names[(first + number) % len(self._names)] for number in range(senders)]
        if habit == "one each":
            return tuple(self._steps([name]) for name in own)
        steps = self._steps(own[:1])
        return tuple(
            tuple(replace(each, name=name) if isinstance(each, Choice) else each for each in steps)
            for name in own
        )

    def decisions(self) -> tuple[int, ...]:
        """Return a schedule: first come first served, that with a few exceptions, or any."""
        random = self._random
        exceptions = random.choice((0.0, 0.1, 1.0))
        if not exceptions:
            return ()
        return tuple(
            random.randint(0, _MOST_SENDERS) if random.random() < exceptions else 0
            for _ in range(random.randint(1, _MOST_DECISIONS))
        )

    def _steps(self, names: Sequence[str]) -> tuple[Choice | Pause, ...]:
        steps = self._random.randint(1, _MOST_STEPS)
        return tuple(self._step(names) for _ in range(steps))

    def _step(self, names: Sequence[str]) -> Choice | Pause:
        random = self._random
        if random.random() < self._pausing:
            return Pause(random.choice(self._pauses))
        is_cancelled = random.random() < self._cancelling
        return Choice(
            random.choice(names),
            random.randrange(3 * _LEAST_IN_POOL),
            random.random() < self._fitting,
            self._liked,
            # Most messages are over after a few turns.
            int(_CANCELLED * random.random() ** 2) if is_cancelled else None,
        )


def _checked(name: str, messages: st.SearchStrategy[Any]) -> st.SearchStrategy[Message]:
    """Draw messages; a value that is no message ends the whole check."""

    def check(message: Any) -> Message:
        with out_of_factory():
            try:
                return copy_message(message)
            except (TypeError, ValueError) as exc:
                exc.add_note(f"it was drawn from the strategy of messages[{name!r}]")
                raise

    return messages.map(check)
