"""State machines as tables: what is refused, what is found, what is drawn."""

from __future__ import annotations

import copy
import dataclasses
import gc
import pickle
from enum import Enum
from typing import TYPE_CHECKING, Any

import pytest

from flexiflow._machine import StateMachine, Transition

if TYPE_CHECKING:
    from collections.abc import Iterator


def allowed(message: dict[str, Any], component: object) -> bool:
    """Let every message pass."""
    return True


async def charge(message: dict[str, Any], component: object) -> None:
    """Do nothing, asynchronously."""


def pickled(machine: StateMachine) -> Any:
    """Send it through a pickle."""
    return pickle.loads(pickle.dumps(machine))  # noqa: S301  made in this line


def of_one(message: dict[str, Any]) -> bool:
    """Lack the second parameter."""
    return True


def generator(message: dict[str, Any], component: object) -> Iterator[int]:
    """Run nothing when called."""
    yield 1


CONFIRM = Transition("new", "confirm", "confirmed", guard=allowed, action=charge)
RECONFIRM = Transition(["confirmed", "new"], "confirm", "new")
NOTE = Transition("*", "note", None)
ABORT = Transition("*", "abort", "aborted")
ORDER = StateMachine(initial="new", transitions=[CONFIRM, RECONFIRM, NOTE, ABORT])


def drawn(*transitions: Transition, initial: str = "a") -> list[str]:
    """Draw a machine of these rows, line by line."""
    return StateMachine(initial, transitions).mermaid().splitlines()


class TestTransition:
    """One row."""

    def test_has_neither_guard_nor_action_unless_given(self) -> None:
        """C5: A row without guard and action is taken whenever source and trigger match."""
        row = Transition("new", "confirm", "confirmed")
        assert (row.guard, row.action) == (None, None)

    def test_several_sources_are_kept_as_a_tuple_in_order(self) -> None:
        """C9: Sources are kept in their order, once each, so that a table never changes."""
        assert Transition(iter(["b", "a", "b"]), "go", "c").source == ("b", "a")

    def test_sources_from_a_set_are_sorted(self) -> None:
        """C9: The same table is drawn the same way in every process."""
        assert Transition({"c", "a", "b"}, "go", "d").source == ("a", "b", "c")

    def test_cannot_be_changed(self) -> None:
        """C9: A row is immutable."""
        with pytest.raises(dataclasses.FrozenInstanceError):
            CONFIRM.target = "new"  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ((3, "go", "b"), "source must be a state, several, or '*', not 3"),
            ((None, "go", "b"), "source must be a state, several, or '*', not None"),
            ((["a", 3], "go", "b"), "each source must be a str, not 3"),
            ((b"a", "go", "b"), "each source must be a str, not 97"),
            (("a", 3, "b"), "trigger must be a str, not 3"),
            (("a", None, "b"), "trigger must be a str, not None"),
            (("a", "go", 3), "target must be a str, not 3"),
            (("a", "go", ["b"]), "target must be a str, not ['b']"),
        ],
    )
    def test_refuses_a_name_of_another_type(self, fields: Any, message: str) -> None:
        """C9: A name that is no str is refused where the row is written."""
        with pytest.raises(TypeError) as caught:
            Transition(*fields)
        assert str(caught.value) == message

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            (("", "go", "b"), "source must not be empty"),
            ((list[str](), "go", "b"), "source must name at least one state, not none: []"),
            ((["a", ""], "go", "b"), "each source must not be empty"),
            (("a", "", "b"), "trigger must not be empty"),
            (("a", "go", ""), "target must not be empty"),
            (
                (["a", "*"], "go", "b"),
                "each source must be one state, not '*', which is a source only, on its own",
            ),
            (
                ("a", "go", "*"),
                "target must be one state, not '*', which is a source only, on its own",
            ),
        ],
    )
    def test_refuses_a_name_that_names_nothing(self, fields: Any, message: str) -> None:
        """C9: Empty names and a misplaced '*' are refused where the row is written."""
        with pytest.raises(ValueError, match=r".") as caught:
            Transition(*fields)
        assert str(caught.value) == message

    @pytest.mark.parametrize("role", ["guard", "action"])
    @pytest.mark.parametrize(
        ("fn", "message"),
        [
            ("charge", "{} must be callable with 2 positional arguments, not 'charge'"),
            (of_one, "{} is called with 2 positional arguments, which of_one(message) does not"),
            (generator, "{} must be a plain or async function, but generator is a generator"),
        ],
    )
    def test_refuses_what_cannot_be_called(self, role: str, fn: Any, message: str) -> None:
        """C5: Guards and actions take the message and the component, sync or async."""
        with pytest.raises(TypeError) as caught:
            Transition("a", "go", "b", **{role: fn})
        assert str(caught.value).startswith(message.format(role))

    @pytest.mark.parametrize("role", ["guard", "action"])
    def test_teaches_not_to_call_the_function(self, role: str) -> None:
        """C5: A coroutine in place of a function is refused, and leaves no warning behind."""
        given: Any = {role: charge({}, None)}
        with pytest.raises(TypeError, match=rf"^{role} .* did you call it\? give charge, not cha"):
            Transition("a", "go", "b", **given)
        given.clear()
        gc.collect()


class TestTable:
    """All rows together."""

    def test_shows_what_it_was_made_of(self) -> None:
        """C9: The table can be read, with its states in order of appearance."""
        assert (ORDER.initial, ORDER.transitions, ORDER.strict, ORDER.states) == (
            "new",
            (CONFIRM, RECONFIRM, NOTE, ABORT),
            False,
            ("new", "confirmed", "aborted"),
        )

    @pytest.mark.parametrize("name", ["initial", "transitions", "strict", "states", "other"])
    def test_cannot_be_changed(self, name: str) -> None:
        """C9: Nothing of a machine can be assigned, so that components may share it."""
        # Which of the two it is, for a name that is no field, depends on the version of Python.
        with pytest.raises((AttributeError, TypeError)):
            setattr(ORDER, name, None)

    def test_is_compared_by_identity(self) -> None:
        """C9: Two machines are two machines, each usable as a key."""
        twin = StateMachine("new", ORDER.transitions)
        assert len({ORDER, twin}) == 2

    @pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, pickled])
    def test_survives_copying(self, clone: Any) -> None:
        """C9: A table is plain data: a copy of it finds the same rows."""
        assert clone(ORDER).candidates("new", "confirm") == (CONFIRM, RECONFIRM)
        assert clone(StateMachine("new", [NOTE, ABORT], strict=True)).strict

    def test_has_a_short_repr(self) -> None:
        """C9: A long table does not flood a log."""
        strict = StateMachine("new", ORDER.transitions, strict=True)
        assert (repr(ORDER), repr(strict)) == (
            "<StateMachine 'new': 3 states, 4 transitions>",
            "<StateMachine 'new': 3 states, 4 transitions, strict>",
        )

    def test_may_be_strict(self) -> None:
        """C8: A machine says whether what nothing matches is to be refused."""
        assert StateMachine("new", [NOTE], strict=True).strict
        assert not StateMachine("new", [NOTE]).strict

    def test_strict_is_given_by_name_only(self) -> None:
        """C8: An option is keyword-only."""
        with pytest.raises(TypeError, match="positional"):
            StateMachine("new", [NOTE], True)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"initial": 3}, "initial must be a str, not 3"),
            ({"strict": "no"}, "strict must be True or False, not 'no'"),
            ({"transitions": None}, "transitions must be several Transition objects, not None"),
            (
                {"transitions": [NOTE, ("a", "go", "b")]},
                "transitions[1] must be a Transition, not ('a', 'go', 'b')",
            ),
            ({"transitions": "new"}, "transitions[0] must be a Transition, not 'n'"),
        ],
    )
    def test_refuses_arguments_of_other_types(self, arguments: Any, message: str) -> None:
        """C8: A table of anything but rows is refused, and what was given is shown."""
        with pytest.raises(TypeError) as caught:
            StateMachine(**dict[str, Any](initial="new", transitions=[NOTE]) | arguments)
        assert str(caught.value) == message

    @pytest.mark.parametrize(
        ("initial", "transitions", "message"),
        [
            ("", [NOTE], "initial must not be empty"),
            (
                "*",
                [NOTE],
                "initial must be one state, not '*', which is a source only, on its own",
            ),
            (
                "new",
                [],
                "no transition leaves the initial state 'new'; one must have it as a source",
            ),
            (
                "confirmed",
                [CONFIRM],
                "no transition leaves the initial state 'confirmed'; one must have it as a source",
            ),
            (
                "a",
                [Transition("a", "go", "b"), Transition(["c", "d"], "go", "e")],
                "no way leads from the initial state 'a' to 'c', 'd', 'e'; add one or drop them",
            ),
            (
                "a",
                [Transition("a", "go", None), Transition("b", "go", "a")],
                "no way leads from the initial state 'a' to 'b'; add one or drop them",
            ),
            (
                "a",
                [Transition("*", "go", None), Transition("b", "go", "b")],
                "no way leads from the initial state 'a' to 'b'; add one or drop them",
            ),
        ],
    )
    def test_refuses_a_table_that_cannot_be_walked(
        self, initial: str, transitions: Any, message: str
    ) -> None:
        """C8: An initial state that nothing leaves, or states out of reach, are all named."""
        with pytest.raises(ValueError, match=r".") as caught:
            StateMachine(initial, transitions)
        assert str(caught.value) == message

    def test_an_internal_transition_makes_the_initial_state_a_source(self) -> None:
        """C8: A machine of one state, with internal transitions only, is a table."""
        assert StateMachine("only", [Transition("only", "tick", None)]).states == ("only",)

    def test_reachability_leaves_guards_aside_and_follows_the_star(self) -> None:
        """C8: A state is reachable over any chain of rows, '*' leaving each state."""
        rows = [
            Transition("*", "abort", "aborted"),
            Transition("aborted", "retry", "retrying", guard=lambda message, component: False),
        ]
        assert StateMachine("new", rows).states == ("new", "aborted", "retrying")


class TestLookUp:
    """What a message finds."""

    def test_candidates_come_in_the_order_of_the_table(self) -> None:
        """C5: Exact, several and '*' sources are merged in the order of their rows."""
        rows = [
            Transition("*", "go", "b"),
            Transition("a", "go", "c"),
            Transition(("c", "a"), "go", None),
            Transition("*", "go", "a"),
            Transition("b", "go", "a"),
        ]
        assert StateMachine("a", rows).candidates("a", "go") == tuple(rows[:4])

    def test_the_star_is_every_state_also_one_named_only_as_a_target(self) -> None:
        """C8: '*' leaves states that no row names as a source."""
        assert ORDER.candidates("aborted", "abort") == (ABORT,)

    @pytest.mark.parametrize(("state", "trigger"), [("new", "*"), ("gone", "note"), ("*", "note")])
    def test_nothing_matches_an_unknown_state_or_trigger(self, state: str, trigger: str) -> None:
        """C8: What the table does not name has no candidates, under '*' either."""
        assert ORDER.candidates(state, trigger) == ()

    def test_triggers_come_in_the_order_of_the_rows_without_repeats(self) -> None:
        """C8: A refusal can tell what the state would take."""
        rows = [
            Transition("a", "x", "b"),
            Transition("b", "y", "a"),
            Transition(["b", "a"], "x", None),
            Transition("*", "y", None),
        ]
        machine = StateMachine("a", rows)
        assert (machine.triggers("a"), machine.triggers("b")) == (("x", "y"), ("y", "x"))

    def test_an_unknown_state_has_no_triggers(self) -> None:
        """C8: '*' stands for the states of the table alone."""
        assert ORDER.triggers("gone") == ()

    def test_members_of_an_enum_are_names(self) -> None:
        """C9: A state may be a member of an enum of strings, and is met by its value."""

        class Order(str, Enum):  # noqa: UP042  such members format as "Order.NEW"
            NEW = "new"
            PAID = "been paid"
            PAY = "pay"

        machine = StateMachine(Order.NEW, [Transition(Order.NEW, Order.PAY, Order.PAID)])
        assert machine.candidates("new", "pay") == machine.transitions
        assert machine.mermaid().splitlines()[1:] == [
            '    state "been paid" as s1',
            "    [*] --> new",
            "    new --> s1: pay",
        ]


class TestMermaid:
    """The diagram."""

    def test_draws_the_initial_state_and_each_arrow(self) -> None:
        """C9: The diagram is a stateDiagram-v2 with one line for each source of each row."""
        assert ORDER.mermaid() == (
            """\
stateDiagram-v2
    [*] --> new
    new --> confirmed: confirm
    confirmed --> new: confirm
    new --> new: confirm
    new --> new: note
    confirmed --> confirmed: note
    aborted --> aborted: note
    new --> aborted: abort
    confirmed --> aborted: abort
    aborted --> aborted: abort"""
        )

    def test_draws_the_same_arrow_once(self) -> None:
        """C9: Rows that differ only in guard and action are one arrow."""
        assert drawn(Transition("a", "go", "b", guard=allowed), Transition("a", "go", "b")) == [
            "stateDiagram-v2",
            "    [*] --> a",
            "    a --> b: go",
        ]

    def test_other_names_get_an_alias_that_no_state_has(self) -> None:
        """C9: A name that is no ASCII identifier is drawn through an alias of its own."""
        rows = [Transition("In Progress", "go", "s1"), Transition("s1", "go", "zurück")]
        assert drawn(*rows, initial="In Progress") == [
            "stateDiagram-v2",
            '    state "In Progress" as s2',
            '    state "zurück" as s3',
            "    [*] --> s2",
            "    s2 --> s1: go",
            "    s1 --> s3: go",
        ]

    @pytest.mark.parametrize("name", ["a", "_", "A1_b", "end", "as", "stateful", "Root", "notes"])
    def test_an_identifier_is_written_as_it_is(self, name: str) -> None:
        """C9: An ASCII identifier is its own id in the diagram."""
        assert drawn(Transition(name, "go", None), initial=name)[1:] == [
            f"    [*] --> {name}",
            f"    {name} --> {name}: go",
        ]

    @pytest.mark.parametrize(
        "name",
        [
            *("accDescr", "accTitle", "class", "classDef", "click", "default", "href", "note"),
            *("scale", "state", "State", "STYLE", "style", "stateDiagram", "root", "root_start"),
            *("constructor", "hasOwnProperty", "toString", "valueOf", "isPrototypeOf"),
            *("propertyIsEnumerable", "toLocaleString", "direction", "reDirection"),
        ],
    )
    def test_an_identifier_that_mermaid_would_not_draw_gets_an_alias(self, name: str) -> None:
        """C9: The diagram draws, also where a state is named like a word of Mermaid's."""
        assert drawn(Transition(name, "go", None), initial=name)[2:] == [
            "    [*] --> s1",
            "    s1 --> s1: go",
        ]

    @pytest.mark.parametrize("name", ["__proto__", "__defineGetter__", "__lookupSetter__"])
    def test_an_alias_hides_underscores_from_markdown(self, name: str) -> None:
        """C9: What every JavaScript object inherits is drawn through an alias, to the letter."""
        assert drawn(Transition(name, "go", None), initial=name)[1] == (
            f'    state "#95;#95;{name[2:-2]}#95;#95;" as s1'
        )

    @pytest.mark.parametrize(
        ("text", "written"),
        [
            ("order.paid", "order.paid"),
            ("pay by-card_now/today", "pay by-card_now/today"),
            ("été", "été"),
            ('a"b', "a#34;b"),
            ("a:b;c", "a#58;b#59;c"),
            ("#35;", "#35;35#59;"),
            ("a\nb\r", "a#10;b#13;"),
            ("{x}", "#123;x#125;"),
            ("%% no", "#37;#37; no"),
            ("a --> b", "a #45;#45;#62; b"),
            ("[*]", "#91;#42;#93;"),
            ("<b>", "#60;b#62;"),
            (" pay  now ", "#32;pay#32;#32;now#32;"),
            ("1. pay", "1#46; pay"),
            ("_pay_", "#95;pay#95;"),
            ("direction TB", "directio#110; TB"),
            ("Redirection", "Redirectio#110;"),
            ("directions", "directions"),
            ("🙂", "#128578;"),
        ],
    )
    def test_text_that_mermaid_would_read_is_written_as_codes(
        self, text: str, written: str
    ) -> None:
        """C9: Labels and quoted names show the name to the letter, whatever is in it."""
        lines = drawn(Transition("a", text, f"not:{text}"))
        assert (lines[1].partition(";")[0], lines[3]) == (
            '    state "not#58',
            f"    a --> s1: {written}",
        )
