"""States with entry, exit, after, during and final: what is kept, refused and drawn."""

from __future__ import annotations

import copy
import gc
import math
import pickle
from enum import Enum
from fractions import Fraction
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest

from flexiflow import State, StateMachine, Transition

if TYPE_CHECKING:
    from collections.abc import Iterator

make_state: Any = State
make_machine: Any = StateMachine


def open_ticket(message: dict[str, Any], component: object) -> None:
    """Do nothing."""


async def close_ticket(message: dict[str, Any], component: object) -> None:
    """Do nothing, asynchronously."""


async def fetch(component: object) -> str:
    """Fetch nothing."""
    return "nothing"


def fetch_now(component: object) -> None:
    """Fetch nothing, and not asynchronously."""


async def fetch_some(number: int, component: object) -> int:
    """Fetch so many."""
    return number


def never(message: object, component: object) -> bool:
    """Let no message pass."""
    return False


def generator(message: dict[str, Any], component: object) -> Iterator[int]:
    """Run nothing when called."""
    yield 1


async def generator_of_one(component: object) -> Any:
    """Run nothing when called."""
    yield 1


class Fetcher:
    """An object whose call, and whose method, are async."""

    async def __call__(self, component: object) -> None:
        """Fetch nothing."""

    async def work(self, component: object) -> None:
        """Fetch nothing, either."""


def pickled(given: object) -> Any:
    """Send an object through a pickle."""
    return pickle.loads(pickle.dumps(given))  # noqa: S301  made in this line


WAITING = State("waiting", entry=open_ticket, exit=close_ticket, after=(900.0, "expired"))
FETCHING = State("fetching", during=fetch, done="fetched", failed="broke")
CLOSED = State("closed", entry=open_ticket, final=True)
ROWS = (
    Transition("waiting", "pay", "fetching"),
    Transition("waiting", "expired", "closed"),
    Transition("fetching", "fetched", "closed"),
    Transition("fetching", "broke", "waiting"),
    Transition("*", "cancel", "closed"),
    Transition("*", "note", None),
)
ORDER = StateMachine("waiting", ROWS, states=[WAITING, FETCHING, CLOSED])


def drawn(*states: State, initial: str = "a") -> list[str]:
    """Draw a machine with these states, without its first line and its arrows."""
    rows = [Transition("*", "go", initial), Transition("*", "end", "z")]
    lines = StateMachine(initial, rows, states=states).mermaid().splitlines()[1:]
    return [line.strip() for line in lines if "-->" not in line]


class TestState:
    """One state."""

    def test_has_nothing_but_its_name_unless_given(self) -> None:
        """M1: Each part of a state may be left out."""
        state = State("waiting")
        parts = (state.entry, state.exit, state.after, state.during, state.done, state.failed)
        assert (state.name, parts, state.final) == ("waiting", (None,) * 6, False)

    def test_shows_what_it_was_made_of(self) -> None:
        """M1 to M3: Each part can be read."""
        assert (WAITING.entry, WAITING.exit, WAITING.after) == (
            *(open_ticket, close_ticket),
            (900.0, "expired"),
        )
        assert (FETCHING.during, FETCHING.done, FETCHING.failed) == (fetch, "fetched", "broke")
        assert CLOSED.final

    def test_takes_all_but_its_name_by_keyword(self) -> None:
        """M1: The parts are keyword-only; the name may be given either way."""
        with pytest.raises(TypeError, match="positional"):
            make_state("waiting", open_ticket)
        assert State(name="waiting") == State("waiting")

    @pytest.mark.parametrize("field", ["name", "entry", "after", "during", "final"])
    def test_cannot_be_changed(self, field: str) -> None:
        """M1: A state is immutable, so that machines may share it."""
        with pytest.raises(AttributeError, match="cannot assign to field"):
            setattr(WAITING, field, None)
        with pytest.raises(AttributeError, match="cannot delete field"):
            delattr(WAITING, field)

    def test_is_what_it_is_made_of(self) -> None:
        """M1: Two states are equal if all their parts are."""
        twin = State("waiting", entry=open_ticket, exit=close_ticket, after=(900, "expired"))
        assert twin == WAITING
        assert hash(twin) == hash(WAITING)
        assert twin != State("waiting", entry=open_ticket, exit=close_ticket)
        assert twin != "waiting"

    @pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, pickled])
    @pytest.mark.parametrize("state", [WAITING, FETCHING, CLOSED])
    def test_survives_copying(self, state: State, clone: Any) -> None:
        """M1: A state is plain data: its copies are equal to it."""
        assert clone(state) == state

    def test_its_repr_shows_each_part(self) -> None:
        """M1: In a log, a state can be told from others of its name."""
        assert repr(State("waiting", after=(900, "expired"))) == (
            "State(name='waiting', entry=None, exit=None, after=(900.0, 'expired'), during=None, "
            "done=None, failed=None, final=False)"
        )

    def test_seconds_may_be_an_int(self) -> None:
        """M2: Whole seconds are kept as a float."""
        after = State("waiting", after=(900, "expired")).after
        assert after is not None
        assert repr(after[0]) == "900.0"

    @pytest.mark.parametrize(
        "during",
        [
            fetch,
            partial(fetch),
            partial(partial(fetch_some), 7),
            Fetcher(),
            Fetcher().work,
            partial(Fetcher()),
        ],
    )
    def test_work_may_be_anything_async(self, during: Any) -> None:
        """M3: Coroutine functions, partials, bound methods and async objects are work."""
        assert State("fetching", during=during).during is during

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"name": 3}, "name must be a str, not 3"),
            ({"entry": "x"}, "entry must be callable with 2 positional arguments, not 'x'"),
            (
                {"exit": fetch},
                "exit is called with 2 positional arguments, which fetch(component) does not take",
            ),
            (
                {"entry": generator},
                "entry must be a plain or async function, but generator is a generator function",
            ),
            (
                {"after": 900.0},
                (
                    "after must be a tuple of seconds and a trigger, like (900.0, 'expired'), "
                    "not 900.0"
                ),
            ),
            (
                {"after": (900.0, "expired", 3)},
                (
                    "after must be a tuple of seconds and a trigger, like (900.0, 'expired'), "
                    "not (900.0, 'expired', 3)"
                ),
            ),
            ({"after": ("9", "go")}, "after must begin with a number of seconds, not '9'"),
            ({"after": (True, "go")}, "after must begin with a number of seconds, not True"),
            ({"after": (None, "go")}, "after must begin with a number of seconds, not None"),
            (
                {"after": (Fraction(1, 2), "go")},
                "after must begin with a number of seconds, not Fraction(1, 2)",
            ),
            ({"after": (9, 3)}, "the trigger in after must be a str, not 3"),
            ({"after": (9, None)}, "the trigger in after must be a str, not None"),
            ({"during": "x"}, "during must be callable with 1 positional argument, not 'x'"),
            (
                {"during": close_ticket},
                (
                    "during is called with 1 positional argument, which "
                    "close_ticket(message, component) does not take"
                ),
            ),
            (
                {"during": fetch_now},
                "during must be async, but fetch_now is not; write it as `async def`",
            ),
            (
                {"during": partial(fetch_now)},
                "during must be async, but fetch_now is not; write it as `async def`",
            ),
            (
                {"during": generator_of_one},
                (
                    "during must be a plain or async function, but generator_of_one is a generator "
                    "function"
                ),
            ),
            ({"during": fetch, "done": 3}, "done must be a str, not 3"),
            ({"during": fetch, "failed": b"x"}, "failed must be a str, not b'x'"),
            ({"done": 3}, "done must be a str, not 3"),
            ({"final": 1}, "final must be True or False, not 1"),
            ({"final": None}, "final must be True or False, not None"),
        ],
    )
    def test_refuses_a_part_of_another_type(self, fields: dict[str, Any], message: str) -> None:
        """M1 to M3: A part that could never work is refused where the state is written."""
        with pytest.raises(TypeError) as caught:
            make_state(**{"name": "a", **fields})
        assert str(caught.value) == message

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"name": ""}, "name must not be empty"),
            (
                {"name": "*"},
                "name must be one state, not '*', which is a source only, on its own",
            ),
            *(
                (
                    {"after": (seconds, "go")},
                    (
                        "after must begin with a finite number of seconds, more than 0, "
                        f"not {seconds!r}"
                    ),
                )
                for seconds in (0, 0.0, -0.0, -1.5, math.nan, math.inf, -math.inf)
            ),
            ({"after": (9, "")}, "the trigger in after must not be empty"),
            ({"done": "go"}, "done needs during, whose end it tells; give both or neither"),
            ({"failed": "go"}, "failed needs during, whose end it tells; give both or neither"),
            ({"during": fetch, "done": ""}, "done must not be empty"),
            ({"during": fetch, "failed": ""}, "failed must not be empty"),
            *(
                (
                    {"final": True} | fields,
                    f"a final state is never left, so it can't have {role}; drop it, or final=True",
                )
                for role, fields in [
                    ("exit", dict[str, Any](exit=open_ticket)),
                    ("after", {"after": (9, "go")}),
                    ("during", {"during": fetch}),
                    ("during", {"during": fetch, "done": "go"}),
                ]
            ),
        ],
    )
    def test_refuses_a_part_that_makes_no_sense(self, fields: dict[str, Any], message: str) -> None:
        """M1 to M3: Empty names, times that never come, and parts that contradict each other."""
        with pytest.raises(ValueError, match=r".") as caught:
            make_state(**{"name": "a", **fields})
        assert str(caught.value) == message

    def test_refuses_seconds_that_no_float_can_hold(self) -> None:
        """M2: A number beyond the floats is no finite number of seconds."""
        with pytest.raises(ValueError, match=r"^after must begin with a finite number"):
            State("a", after=(10**400, "go"))

    @pytest.mark.parametrize("role", ["entry", "exit", "during"])
    def test_teaches_not_to_call_the_function(self, role: str) -> None:
        """M1, M3: A coroutine in place of a function is refused, and leaves no warning behind."""
        given = {role: fetch(None)}
        with pytest.raises(TypeError, match=rf"^{role} .* did you call it\? give fetch, not fet"):
            make_state("a", **given)
        given.clear()
        gc.collect()


class TestMachine:
    """The states of a table."""

    def test_names_and_details_can_be_read(self) -> None:
        """M1: `states` are the names of all, and `details` maps a name to its `State`."""
        machine = StateMachine("waiting", ROWS, states=iter([CLOSED, WAITING]))
        assert machine.states == ("waiting", "fetching", "closed")
        assert machine.details == {"waiting": WAITING, "closed": CLOSED}

    def test_without_states_there_are_no_details(self) -> None:
        """M1: A table alone is a machine, as before."""
        assert StateMachine("waiting", ROWS).details == {}
        assert StateMachine("waiting", ROWS, states=[]).details == {}

    @pytest.mark.parametrize("machine", [ORDER, StateMachine("waiting", ROWS)])
    def test_details_cannot_be_changed(self, machine: StateMachine) -> None:
        """M1: The mapping is read-only, and so is the attribute."""
        details: Any = machine.details
        with pytest.raises(TypeError, match="does not support item assignment"):
            details["fetching"] = FETCHING
        with pytest.raises(AttributeError, match="cannot assign to field"):
            make_machine.__setattr__(machine, "details", {})
        assert isinstance(details, MappingProxyType)

    def test_states_are_given_by_name_only(self) -> None:
        """M1: An option is keyword-only."""
        with pytest.raises(TypeError, match="positional"):
            make_machine("waiting", ROWS, [WAITING])

    @pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, pickled])
    def test_survives_copying(self, clone: Any) -> None:
        """M1, C9: A copy has the same states, and is as strict."""
        machine = StateMachine("waiting", ROWS, strict=True, states=[WAITING, CLOSED])
        twin = clone(machine)
        assert (twin.details, twin.strict, twin.transitions) == (machine.details, True, ROWS)

    def test_its_repr_stays_short(self) -> None:
        """C9: A long table does not flood a log, whatever its states do."""
        assert repr(ORDER) == "<StateMachine 'waiting': 3 states, 6 transitions>"

    def test_members_of_an_enum_are_names(self) -> None:
        """M1: A state may be a member of an enum of strings, and is met by its value."""

        class Life(str, Enum):  # noqa: UP042  such members format as "Life.NEW"
            NEW = "new"
            OLD = "grown old"
            AGE = "age"

        states = [State(Life.NEW, after=(9, Life.AGE)), State(Life.OLD, final=True)]
        machine = StateMachine(Life.NEW, [Transition("new", "age", Life.OLD)], states=states)
        assert [machine.details[name] for name in ("new", "grown old")] == states
        assert machine.mermaid().splitlines()[1:] == [
            '    state "new" as new',
            "    new: after 9 s / age",
            '    state "grown old" as s1',
            "    [*] --> new",
            "    new --> s1: age",
            "    s1 --> [*]",
        ]

    @pytest.mark.parametrize(
        ("states", "message"),
        [
            (None, "states must be several State objects, not None"),
            (WAITING, "states must be several State objects, not State("),
            ([WAITING, "closed"], "states[1] must be a State, not 'closed'"),
            ({"closed": CLOSED}, "states[0] must be a State, not 'closed'"),
            ([State], "states[0] must be a State, not <class 'flexi"),
        ],
    )
    def test_refuses_what_is_no_state(self, states: Any, message: str) -> None:
        """M1: Anything but states is refused, and what was given is shown."""
        with pytest.raises(TypeError) as caught:
            StateMachine("waiting", ROWS, states=states)
        assert str(caught.value).startswith(message)

    @pytest.mark.parametrize(
        ("states", "message"),
        [
            (
                [WAITING, State("lost")],
                (
                    "states[1] is 'lost', which no transition names; the states are 'waiting', "
                    "'fetching', 'closed'"
                ),
            ),
            ([WAITING, WAITING], "states[1] is 'waiting' again; give each state once"),
            ([CLOSED, State("closed")], "states[1] is 'closed' again; give each state once"),
            (
                [State("fetching", final=True)],
                (
                    "no transition may leave the final state 'fetching', but one does, on "
                    "'fetched'; drop it, or final=True"
                ),
            ),
            ([State("waiting", final=True)], "the initial state 'waiting' must not be final"),
            (
                [State("waiting", after=(9, "fetched"))],
                (
                    "no transition leaves 'waiting' on 'fetched', the trigger of its after; those "
                    "that leave it do so on 'pay', 'expired', 'cancel', 'note'"
                ),
            ),
            (
                [CLOSED, State("fetching", during=fetch, done="paid")],
                (
                    "no transition leaves 'fetching' on 'paid', the trigger of its done; those "
                    "that leave it do so on 'fetched', 'broke', 'cancel', 'note'"
                ),
            ),
            (
                [State("fetching", during=fetch, done="fetched", failed="failed")],
                (
                    "no transition leaves 'fetching' on 'failed', the trigger of its failed; those "
                    "that leave it do so on 'fetched', 'broke', 'cancel', 'note'"
                ),
            ),
        ],
    )
    def test_refuses_states_that_do_not_fit_the_table(self, states: Any, message: str) -> None:
        """M1: A state unknown or given twice, a row out of a final one, a trigger without a row."""
        with pytest.raises(ValueError, match=r".") as caught:
            StateMachine("waiting", ROWS, states=states)
        assert str(caught.value) == message

    @pytest.mark.parametrize("source", ["b", ["a", "b"]])
    @pytest.mark.parametrize("target", ["a", None])
    def test_no_row_may_name_a_final_state_as_a_source(self, source: Any, target: Any) -> None:
        """M1: Not among several sources, and not for an internal transition either."""
        rows = [Transition("a", "go", "b"), Transition(source, "back", target)]
        with pytest.raises(ValueError, match="leave the final state 'b', but one does, on 'back'"):
            StateMachine("a", rows, states=[State("b", final=True)])

    def test_a_state_that_nothing_leaves_takes_no_trigger(self) -> None:
        """M1: The message says so where no row at all leaves the state."""
        states = [State("b", after=(9, "back"))]
        with pytest.raises(ValueError, match=r"of its after; those that leave it do so on none$"):
            StateMachine("a", [Transition("a", "go", "b")], states=states)

    @pytest.mark.parametrize(
        "row", [Transition("*", "tick", "b"), Transition(["b", "a"], "tick", None)]
    )
    def test_any_row_that_takes_the_trigger_will_do(self, row: Transition) -> None:
        """M2: It may be one from "*", one of several sources, or internal."""
        state = State("a", after=(9, "tick"))
        machine = StateMachine("a", [Transition("a", "go", "b"), row], states=[state])
        assert machine.details["a"] is state

    def test_the_star_does_not_count_final_states(self) -> None:
        """M1: Rows from "*" leave the other states only; the look-up and the triggers agree."""
        assert ORDER.candidates("closed", "cancel") == ()
        assert ORDER.candidates("closed", "note") == ()
        assert ORDER.triggers("closed") == ()
        assert ORDER.candidates("fetching", "cancel") == (ROWS[4],)
        assert ORDER.triggers("fetching") == ("fetched", "broke", "cancel", "note")

    def test_no_way_leads_through_a_final_state(self) -> None:
        """M1, C8: A state that only "*" would reach from a final one is out of reach."""
        rows = [Transition("a", "go", "b"), Transition("*", "lose", "c", guard=never)]
        assert StateMachine("a", rows, states=[State("b", final=True)]).states == ("a", "b", "c")
        with pytest.raises(ValueError, match="no way leads from the initial state 'a' to 'd'"):
            StateMachine("a", [*rows, Transition("d", "go", "c")], states=[State("b", final=True)])


class TestMermaid:
    """The diagram."""

    def test_shows_what_happens_in_each_state(self) -> None:
        """M4: Below its name a state shows its parts; a final one leads to the end."""
        assert ORDER.mermaid() == (
            """\
stateDiagram-v2
    state "waiting" as waiting
    waiting: entry / open_ticket
    waiting: exit / close_ticket
    waiting: after 900 s / expired
    state "fetching" as fetching
    fetching: during / fetch
    fetching: done / fetched
    fetching: failed / broke
    state "closed" as closed
    closed: entry / open_ticket
    [*] --> waiting
    waiting --> fetching: pay
    waiting --> closed: expired
    fetching --> closed: fetched
    fetching --> waiting: broke
    waiting --> closed: cancel
    fetching --> closed: cancel
    waiting --> waiting: note
    fetching --> fetching: note
    closed --> [*]"""
        )

    def test_a_state_that_shows_nothing_is_drawn_as_before(self) -> None:
        """M4, C9: A state without parts adds no line to the diagram."""
        plain = StateMachine("waiting", ROWS)
        bare = StateMachine("waiting", ROWS, states=[State("waiting"), State("closed")])
        assert bare.mermaid() == plain.mermaid()

    def test_a_state_with_an_alias_shows_its_parts_under_it(self) -> None:
        """M4: The parts follow the line that gives the state its name."""
        assert drawn(State("a b", after=(0.5, "go")), State("z", final=True), initial="a b") == [
            'state "a b" as s1',
            "s1: after 0.5 s / go",
        ]

    @pytest.mark.parametrize(
        ("seconds", "written"),
        [(900, "900"), (0.25, "0.25"), (86400.0, "86400"), (1e-9, "1e-09"), (1e300, "1e#43;300")],
    )
    def test_seconds_are_written_as_python_writes_them(self, seconds: float, written: str) -> None:
        """M4: Whole numbers go without a fraction, and nothing is rounded."""
        assert drawn(State("a", after=(seconds, "go")))[1:] == [f"a: after {written} s / go"]

    @pytest.mark.parametrize(
        ("during", "written"),
        [
            (fetch, "fetch"),
            (partial(fetch_some, 7), "fetch_some"),
            (Fetcher(), "Fetcher"),
            (Fetcher().work, "Fetcher.work"),
        ],
    )
    def test_functions_are_shown_by_their_names(self, during: Any, written: str) -> None:
        """M4: As in log lines, a partial is named after its function, an object by its class."""
        assert drawn(State("a", during=during))[1:] == [f"a: during / {written}"]

    def test_what_mermaid_would_read_is_written_as_codes(self) -> None:
        """M4, C9: No character of a name or a trigger gets into the grammar."""

        def ticket(message: object, component: object) -> None: ...

        state = State("a", entry=ticket, after=(9, "x: y"))
        rows = [Transition("a", "x: y", "b")]
        lines = StateMachine("a", rows, states=[state]).mermaid().splitlines()[2:4]
        assert lines[0].endswith("#60;locals#62;#46;ticket")
        assert lines[1] == "    a: after 9 s / x#58; y"
