"""What a schema promises of any payload, and of any two versions of the code (Y1)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st

from flexiflow import Topic
from flexiflow.extras.durable import JSON, NewerVersion, NotDecodable, Schema
from flexiflow.extras.durable._bridge.cloudevents import Encoder, decode

NAME = "order.placed"
LATEST = 5


@dataclass
class Item:
    """A part of an order."""

    name: str
    prices: tuple[float, ...]


@dataclass
class Order:
    """A payload with fields of all kinds, one of its own class."""

    id: str
    items: list[Item]
    by_name: dict[str, Item | int | None]
    kind: Literal["gift", 3] | bool
    amount: int | float | str
    anything: Any
    pair: tuple[int, Item] | None
    parent: Order | None


number = st.integers(-(10**20), 10**20)
real = st.floats(allow_nan=False, allow_infinity=False)
json = st.recursive(
    st.none() | st.booleans() | number | real | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
items = st.builds(Item, st.text(), st.lists(real, max_size=3).map(tuple))


def orders(parent: st.SearchStrategy[Order | None]) -> st.SearchStrategy[Order]:
    """Draw orders."""
    return st.builds(
        Order,
        st.text(),
        st.lists(items, max_size=2),
        st.dictionaries(st.text(), items | number | st.none(), max_size=2),
        st.sampled_from(["gift", 3, True, False]),
        number | real | st.text(),
        json,
        st.none() | st.tuples(number, items),
        parent,
    )


def stored(schema: Schema[Any], data: Any) -> tuple[Any, object]:
    """Return a payload as it is when it was stored, and its version."""
    body = Encoder("shop", "p", JSON, {NAME: schema}).encode(NAME, data, None)
    event = decode(body, JSON)
    return event.data, event.attributes["dataschema"]


@given(orders(st.none() | orders(st.none())))
def test_any_dataclass_comes_back_as_it_was(order: Order) -> None:
    """Y1: Through `asdict`, JSON and the reader; with the types that its values had."""
    schema = Schema.of(Topic[Order](NAME))
    back = schema.decode(*stored(schema, order))
    assert back == order
    assert repr(back) == repr(order)


@given(json)
def test_whatever_is_stored_is_read_or_refused(data: Any) -> None:
    """Y1: What is read is the class, and is written again as it can be read; no other error."""
    schema = Schema.of(Topic[Item](NAME))
    try:
        item = schema.decode(data, None)
    except NotDecodable:
        return
    assert schema.decode(*stored(schema, item)) == item
    assert {*asdict(item)} <= {*data}


def code_of(version: int, oldest: int) -> Schema[list[int]]:
    """Return what code of some version has, with steps from the oldest one that it still reads.

    Each step notes that it was taken.
    """

    def step(number: int) -> Any:
        return lambda data: [*data, number]

    upcast = {number: step(number) for number in range(oldest, version)}
    return Schema(NAME, encode=list, decode=list, version=version, upcast=upcast)


@given(
    writer=st.integers(1, LATEST),
    reader=st.integers(1, LATEST),
    oldest=st.integers(1, LATEST),
)
def test_each_version_is_read_step_by_step(writer: int, reader: int, oldest: int) -> None:
    """Y1: Every step between both versions is taken once, in order; a newer one is told apart."""
    data, dataschema = stored(code_of(writer, oldest), [])
    wanted = list(range(writer, reader))
    try:
        found: object = code_of(reader, oldest).decode(data, dataschema)
    except NewerVersion:
        found = NewerVersion
    except NotDecodable:
        found = NotDecodable
    if writer > reader:
        assert found is NewerVersion
    else:
        assert found == (wanted if writer >= min(oldest, reader) else NotDecodable)
