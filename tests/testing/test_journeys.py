"""What programs of components are drawn from: journeys and tables, with their models (P1)."""

import pytest

from flexiflow import Component, Engine
from flexiflow.testing._component.contract import COMPONENT_CONTRACT
from flexiflow.testing._component.journey_model import Stop, planned
from flexiflow.testing._component.journeys import goes_as_it_must, goes_on_with_its_store
from flexiflow.testing._component.marked_clauses import hears_as_subscribed
from flexiflow.testing._component.refusal_programs import keeps_nothing
from flexiflow.testing._component.subject import ComponentSubject
from flexiflow.testing._component.table_programs import draws_what_it_has, takes_what_it_has
from flexiflow.testing._component.tables import table_of
from flexiflow.testing._examiner.examine import examine
from flexiflow.testing._examiner.program import Program
from tests.testing.test_components import Running

TIMED = {"s0": ("exit",), "s1": ("after",), "s2": ("entry",)}
TIMELESS = {"s0": ("exit",), "s1": (), "s2": ("entry",)}
WORKING = {"s0": (), "s1": ("during", "exit"), "s2": ("breaking",)}


def left(program: Program, backend: str, engine: type[Engine] = Engine) -> BaseException | None:
    """Run a program with components; return what left it."""
    return ComponentSubject(Component, engine=engine, backend=backend).attempt(program).left


@pytest.mark.parametrize(
    ("parts", "stops"),
    [
        (TIMED, [Stop("note", 1.0, 4.0, defers="go"), Stop("note", 1.0, cancelled=2.0)]),
        (TIMED, [Stop("note", 1.0, 7.0, defers="go"), Stop("halt", 9.0, 1.0)]),
        (TIMED, [Stop("again", 1.0, fails="exit"), Stop("again", 9.0, 4.0, cancelled=2.0)]),
        (TIMED, [Stop("go"), Stop("halt", 2.0, 1.0), Stop("go", fails="entry")]),
        (TIMED, [Stop("note", 1.0, 4.0, cancelled=3.0), Stop("halt", 1.0, 1.0), Stop("go")]),
        (TIMED, [Stop("note", 1.0, 4.0), Stop("halt", 1.0, 1.0), Stop("go"), Stop("other")]),
        (TIMED, [Stop("go", fails="refuse"), Stop("go", fails="guard"), Stop("back", defers="go")]),
        (TIMED, [Stop("note", 2.0, 4.0), Stop("go", 1.0), Stop("halt", 3.0, 1.0)]),
        (TIMED, [Stop("go"), Stop("leave", 1.0, 1.0), Stop("note", 1.0, 4.0), Stop("leave")]),
        (
            WORKING,
            [Stop("go"), Stop("go", 1.0, fails="action"), Stop("go"), Stop("leave", 3.0, 1.0)],
        ),
    ],
)
def test_a_journey_is_what_its_model_says(
    parts: dict[str, tuple[str, ...]], stops: list[Stop], backend: str
) -> None:
    """P1: What happens on a journey, and when, is known in advance."""
    made, expected = planned(parts, stops)
    plain = tuple(tuple(each) for each in made)
    given = (("parts", parts), ("stops", plain), ("expected", tuple(expected)))

    assert left(Program(goes_as_it_must, given), backend) is None
    assert "there did not happen" in str(
        left(Program(goes_as_it_must, (*given[:2], ("expected", ((1.0, "nothing"),)))), backend)
    )


STORED = [
    [Stop("go", fails="after"), Stop("go"), Stop("kill", 1.0, 1.0), Stop("note", fails="before")],
    [Stop("go", 2.0, 1.0), Stop("kill", 1.0, 1.0), Stop("go", fails="before"), Stop("leave")],
]


@pytest.mark.parametrize("stops", STORED)
def test_a_journey_goes_on_with_what_is_stored(stops: list[Stop], backend: str) -> None:
    """P1: What is found in a store is known in advance, too, also where a save fails."""
    made, expected = planned(TIMELESS, stops, is_stored=True)
    plain = tuple(tuple(each) for each in made)
    given = (("parts", TIMELESS), ("stops", plain), ("expected", tuple(expected)))

    assert left(Program(goes_on_with_its_store, given), backend) is None


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("lines", "final", "is_sound"),
    [
        ((("s0", "t", "s1"), ("*", "t", "s0"), (("s0", "s1"), "u", None)), (), True),
        ((("*", "t", "s1"),), ("s1",), True),
        ((("s0", "t", "s0"), ("s1", "t", "s2")), (), False),
        ((("s1", "t", "s0"),), (), False),
        ((("*", "t", "s1"), ("s1", "u", None)), ("s1",), False),
        ((("*", "t", "s1"),), ("s0",), False),
    ],
)
def test_a_table_is_taken_or_refused(
    lines: tuple[tuple[str, str, str | None], ...],
    final: tuple[str, ...],
    is_sound: bool,
    strict: bool,
    backend: str,
) -> None:
    """P1: It is known of a table whether a machine can have it, and what that makes of it."""
    given = (("lines", lines), ("final", final))

    assert table_of(lines, final).is_sound() is is_sound
    assert left(Program(takes_what_it_has, (*given, ("strict", strict))), backend) is None
    drawing = left(Program(draws_what_it_has, given), backend)
    assert (drawing is None) is is_sound


def test_a_source_names_a_state() -> None:
    """P1: A table with a line that leaves no state is refused."""
    assert not table_of([("s0", "t", "s1"), ((), "t", "s0")]).is_sound()


def test_what_a_bus_does_not_offer_is_not_asked_of_marks(backend: str) -> None:
    """P1: A bus without limits and answers can't be compared with marks that have them."""
    limited = (("options", ({"limit": 1},)), ("meanwhile", "nothing"))
    refused = (("fault", "no handler"), ("way", "register"))

    assert left(Program(hears_as_subscribed, limited), backend, Running) is None
    assert left(Program(keeps_nothing, refused), backend, Running) is None


class Fixed(Component):
    """A component whose state is what anybody sets."""

    state = "s0"


@pytest.mark.parametrize("seed", range(1, 4))
def test_the_shortest_program_is_shown(seed: int, backend: str) -> None:
    """P1: Of the programs that are all tried, the shortest that breaks a clause is shown."""
    [clause] = [each for each in COMPONENT_CONTRACT if each.identifier == "C9"]
    [verdict] = examine(
        ComponentSubject, [clause], Fixed, engine=Engine, backend=backend, seed=seed
    )

    assert verdict.violation is not None
    assert verdict.violation.complaint == "state can be set"
