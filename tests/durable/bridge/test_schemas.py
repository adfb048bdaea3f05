"""How payloads are written, upcast and read: Y1."""

import enum
import json
import reprlib
from collections.abc import Callable, Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import InitVar, asdict, dataclass, field, replace
from datetime import date
from operator import itemgetter
from typing import Annotated, Any, Generic, Literal, NewType, Optional, TypeVar, assert_type, cast

import msgspec
import pydantic
import pytest

from flexiflow import Query, Topic
from flexiflow.extras.durable import JSON, NewerVersion, NotDecodable, NotEncodable, Schema
from flexiflow.extras.durable._bridge.cloudevents import Encoder, decode
from tests.durable.bridge.helpers import NAME, Pickle

T = TypeVar("T")

OrderId = NewType("OrderId", str)


@dataclass(frozen=True)
class Item:
    """A part of an order."""

    name: str
    price: float
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Order:
    """A payload with fields of many types."""

    id: OrderId
    items: list[Item]
    count: int = 1
    paid: bool = False
    note: str | None = None
    size: tuple[int, Item] | None = None
    kind: Literal["gift", 1] | None = None
    more: Mapping[str, Item | int] = field(default_factory=dict[str, Item | int])
    anything: Any = None
    weight: Annotated[float, "kg"] | int = 0
    parent: "Order | None" = None
    made: int = field(default=0, init=False)


@dataclass
class Containers:
    """A payload with containers that say little of what is in them."""

    some: list  # type: ignore[type-arg]
    pair: tuple  # type: ignore[type-arg]
    named: dict  # type: ignore[type-arg]
    several: Sequence[object]
    old: Optional[str]  # noqa: UP045  it is a type of its own


class Model(pydantic.BaseModel):
    """A payload of pydantic."""

    model_config = pydantic.ConfigDict(extra="forbid")

    number: int = pydantic.Field(alias="orderNumber")
    day: date
    raw: bytes = b"x"

    @pydantic.computed_field
    def twice(self) -> int:
        """Be written by pydantic, unless told otherwise."""
        return 2 * self.number


@pydantic.dataclasses.dataclass
class Checked:
    """A payload of pydantic that is a dataclass, too."""

    day: date


class Struct(msgspec.Struct, Generic[T]):
    """A payload of msgspec."""

    day: date
    raw: bytes
    names: dict[int, T]


@dataclass
class _Weighed:
    day: int
    factor: InitVar[int]


@dataclass
class _WithDefault:
    day: int
    factor: InitVar[int] = 1


@dataclass(init=False)
class _ByHand:
    day: int

    def __init__(self, text: str) -> None:
        self.day = int(text)


@dataclass(init=False)
class _ByPlace:
    day: int

    def __init__(self, day: int, /, *more: object) -> None:
        self.day = day


@dataclass(init=False)
class _TakesAll:
    day: int

    def __init__(self, **more: int) -> None:
        self.day = more["day"]


class Size(enum.StrEnum):
    """A kind of str."""

    SMALL = "small"


class Price(float):
    """A kind of float."""


ORDER = Topic[Order](NAME)
FULL = Order(
    id=OrderId("A7"),
    items=[Item("lamp", 3.5, ("a", "b")), Item("bulb", 2)],
    count=3,
    paid=True,
    note="é",
    size=(3, Item("box", 0.5)),
    kind=1,
    more={"x": Item("y", 1.0), "z": 2},
    anything=[{"a": None}],
    weight=2.5,
    parent=Order(id=OrderId("A6"), items=[]),
)


def pass_on(schema: Schema[Any], data: Any, codec: Any = JSON) -> Any:
    """Write a payload as a whole event, and read it again."""
    written = Encoder("shop", "p", codec, {schema.name: schema}).encode(schema.name, data, None)
    event = decode(written, codec)
    return schema.decode(event.data, event.attributes["dataschema"])


def as_it_is(data: Any) -> Any:
    """Change nothing."""
    return data


def plain(**options: Any) -> Schema[Any]:
    """Make a schema whose payloads are what the codec takes."""
    defaults: dict[str, Any] = {"encode": as_it_is, "decode": as_it_is}
    return Schema(NAME, **(defaults | options))


def add(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Make a step that adds an entry."""
    return lambda data: {**data, name: len(data)}


def test_a_payload_is_what_encode_writes_and_decode_makes() -> None:
    """Y1: Written by `encode`, given as `decode` makes it, the version in `dataschema`."""
    schema = Schema(
        Topic[Item](NAME), encode=asdict, decode=lambda each: Item(each["name"], 1.0), version=3
    )
    body = Encoder("shop", "p", JSON, {NAME: schema}).encode(NAME, Item("lamp", 3.5), "k")
    event = json.loads(body)
    assert event["dataschema"] == "urn:flexiflow:order.placed:3"
    assert event["data"] == {"name": "lamp", "price": 3.5, "tags": []}
    assert schema.decode(event["data"], event["dataschema"]) == Item("lamp", 1.0)


def test_other_events_are_what_the_codec_takes() -> None:
    """Y1: A schema is of one event."""
    body = Encoder("shop", "p", JSON, {NAME: plain()}).encode("order.paid", {"a": 1}, None)
    assert "dataschema" not in json.loads(body)


@pytest.mark.parametrize("name", ["größe.a:b", 'a"\\{}%41', "a\ud800"])
def test_any_name_has_a_dataschema(name: str) -> None:
    """Y1: It is an ASCII text, from which the version is read, whatever the name."""
    schema: Schema[Any] = Schema(name, encode=as_it_is, decode=as_it_is)
    assert schema.dataschema.isascii()
    assert pass_on(schema, [1]) == [1]


@pytest.mark.parametrize("codec", [JSON, Pickle()])
def test_older_versions_are_upcast_step_by_step(codec: Any) -> None:
    """Y1: Each function makes the next version; what has none is of version 1."""
    steps = {1: add("b"), 2: add("c")}
    third = plain(version=3, upcast=steps)
    assert third.decode({"a": 0}, None) == {"a": 0, "b": 1, "c": 2}
    assert third.decode({"a": 0}, plain().dataschema) == {"a": 0, "b": 1, "c": 2}
    assert third.decode({"a": 0}, plain(version=2).dataschema) == {"a": 0, "c": 1}
    assert pass_on(third, {"a": 0}, codec) == {"a": 0}


def test_a_newer_version_is_told_apart() -> None:
    """Y1: It may be read by other code."""
    with pytest.raises(NewerVersion) as caught:
        plain(version=2).decode(1, plain(version=10**12).dataschema)
    assert str(caught.value) == (
        "the payload of 'order.placed' is of version 1000000000000, and this worker's schema reads "
        "up to version 2: a worker with the newer schema must be given it before all retries are "
        "over, by default after eleven minutes"
    )


@pytest.mark.parametrize(
    "dataschema",
    [
        *("", 3, [], True, "https://example.com/order.json", "urn:flexiflow:order.paid:1"),
        *("urn:flexiflow:order.placed:", "urn:flexiflow:order.placed:0"),
        *("urn:flexiflow:order.placed:-1", "urn:flexiflow:order.placed:٣"),
        *("urn:flexiflow:order.placed:1.0", "urn:flexiflow:order.placed:" + "9" * 5000),
    ],
)
def test_a_strange_dataschema_can_not_be_read(dataschema: object) -> None:
    """Y1: Nobody knows what the payload is then; the message shows what would be right."""
    with pytest.raises(NotDecodable) as caught:
        plain().decode(1, dataschema)
    told = f"'urn:flexiflow:order.placed:' and a version, not {reprlib.repr(dataschema)}"
    assert str(caught.value).endswith(f"its dataschema must be {told}")
    assert len(str(caught.value)) < 300


def _endless(data: Any) -> Any:
    return _endless(data)


class Mute(Exception):
    """An exception whose message can't be shown."""

    def __str__(self) -> str:
        """Fail."""
        raise OSError


def _mute(data: Any) -> Any:
    raise Mute


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (plain(version=2), "no upcast leads from version 1 to the next"),
        (plain(version=3, upcast={2: dict}), "no upcast leads from version 1 to the next"),
        (
            plain(version=2, upcast={1: itemgetter("b")}),
            "upcasting from version 1 raised KeyError: 'b'",
        ),
        (plain(decode=itemgetter("b")), "KeyError: 'b'"),
        (plain(decode=_endless), "RecursionError"),
        (plain(decode=_mute), "<not to be shown: OSError>"),
    ],
)
def test_what_can_not_be_upcast_or_decoded_says_why(schema: Schema[Any], reason: str) -> None:
    """Y1: A step that is missing or raises, and a decode that raises."""
    with pytest.raises(NotDecodable) as caught:
        schema.decode({"a": 1}, None)
    assert str(caught.value).startswith(f"the payload of 'order.placed' can't be read: {reason}")


@pytest.mark.parametrize(
    ("wrong", "exception", "message"),
    [
        ({"topic": "order.*"}, ValueError, "the pattern 'order.\\*'"),
        ({"topic": "a..b"}, ValueError, "malformed event name"),
        ({"topic": 3}, TypeError, "an event name must be a str, not 3"),
        ({"topic": Query[int, int]("a.b")}, TypeError, "'a.b' is a query, not an event"),
        ({"version": 0}, ValueError, "version must be"),
        ({"version": True}, ValueError, "version must be"),
        ({"version": 10**12 + 1}, ValueError, "version must be"),
        ({"encode": None}, TypeError, "encode must be callable"),
        ({"decode": lambda: 1}, TypeError, "decode"),
        ({"upcast": {0: dict}, "version": 2}, ValueError, "from 1 to 1, .* not 0"),
        ({"upcast": {2: dict}, "version": 2}, ValueError, "from 1 to 1, .* not 2"),
        ({"upcast": {"1": dict}, "version": 2}, ValueError, "from 1 to 1, .* not '1'"),
        ({"upcast": {True: dict}, "version": 2}, ValueError, "from 1 to 1, .* not True"),
        ({"upcast": {1: dict, 3: dict}, "version": 4}, ValueError, "for version 2, too"),
        ({"upcast": {1: dict}, "version": 3}, ValueError, "for version 2, too"),
        ({"upcast": {1: dict}}, ValueError, "upcast needs a version above 1"),
        ({"upcast": {1: 3}, "version": 2}, TypeError, "the upcast of version 1 must be callable"),
        ({"upcast": [dict], "version": 2}, TypeError, "upcast must be a mapping .* not \\["),
    ],
)
def test_a_wrong_schema_is_refused(
    wrong: dict[str, Any], exception: type[Exception], message: str
) -> None:
    """Y1: The message says what would be right."""
    options: dict[str, Any] = {"topic": NAME, "encode": dict, "decode": dict}
    with pytest.raises(exception, match=message):
        Schema(**(options | wrong))


@pytest.mark.parametrize("which", ["encode", "decode", "upcast"])
def test_functions_are_plain(which: str) -> None:
    """Y1: An async one can't be called where payloads are written and read."""

    async def wrong(data: object) -> object:
        return data

    functions: dict[str, Any] = {"encode": {"encode": wrong}, "decode": {"decode": wrong}}
    functions["upcast"] = {"upcast": {1: wrong}, "version": 2}
    with pytest.raises(TypeError, match="must be a plain function, and this one is async"):
        plain(**functions[which])


@pytest.mark.parametrize("codec", [JSON, Pickle()])
@pytest.mark.parametrize("order", [FULL, Order(id=OrderId("a"), items=[])])
def test_a_dataclass_comes_back_as_it_was(order: Order, codec: Any) -> None:
    """Y1: `Schema.of` a topic knows the type; nested ones, unions and tuples among the fields."""
    back = pass_on(Schema.of(ORDER), order, codec)
    assert back == order
    assert type(back.weight) is type(order.weight)


@pytest.mark.parametrize("data", [_WithDefault(3), _TakesAll(day=3)])
def test_a_class_needs_only_that_it_can_be_made_of_its_fields(data: object) -> None:
    """Y1: What else its `__init__` takes has a default."""
    assert pass_on(Schema.of(Topic[Any](NAME), type(data)), data) == data


def test_the_type_of_the_payload_is_known_to_type_checkers() -> None:
    """Y1, T1: Whether the topic tells it, or it is given beside the name."""
    assert_type(Schema.of(ORDER), Schema[Order])
    assert_type(Schema.of(NAME, Item), Schema[Item])
    assert_type(Schema.of(ORDER).decode({"id": "a", "items": []}, None), Order)


def test_a_copy_of_a_topic_knows_the_type_too() -> None:
    """Y1, T1: It is the topic itself."""
    assert copy(ORDER) is deepcopy(ORDER) is ORDER
    assert Schema.of(deepcopy({"a": ORDER})["a"]).name == NAME


def test_containers_may_hold_anything() -> None:
    """Y1: Where a field does not say what is in it, that is what the codec has read."""
    data = Containers([1], (2, "a"), {"a": [3]}, [4], None)
    assert pass_on(Schema.of(Topic[Any](NAME), Containers), data) == data


def test_fields_that_are_new_have_their_default_and_old_ones_are_ignored() -> None:
    """Y1: So that code may add fields with a default, and drop some, without a new version."""
    schema = Schema.of(Topic[Item](NAME))
    assert schema.decode({"name": "a", "price": 1, "gone": 3}, None) == Item("a", 1.0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": 3}, ".id must be of the type str, not 3"),
        ({"count": True}, ".count must be of the type int, not True"),
        ({"count": 1.0}, ".count must be of the type int, not 1.0"),
        ({"paid": 1}, ".paid must be of the type bool, not 1"),
        ({"note": 1}, ".note must be of the type str | None, not 1"),
        ({"items": {}}, ".items must be a list, not {}"),
        ({"items": [1]}, ".items[0] must be an object with the fields of Item, not 1"),
        ({"items": [{"name": "a"}]}, ".items[0] must have the field 'price' of Item"),
        (
            {"items": [{"name": "a", "price": "1"}]},
            ".items[0].price must be of the type float, not '1'",
        ),
        ({"size": [1]}, ".size must be of the type"),
        ({"kind": True}, ".kind must be of the type"),
        ({"more": []}, ".more must be an object, not []"),
        ({"more": {"a": "b"}}, ".more['a'] must be of the type"),
        ({"items": [{"name": "a", "price": 10**400}]}, "OverflowError"),
    ],
)
def test_what_is_no_such_dataclass_can_not_be_read(changes: dict[str, Any], reason: str) -> None:
    """Y1: A payload of another type; the message names the field."""
    stored = json.loads(json.dumps(asdict(FULL))) | changes
    with pytest.raises(NotDecodable) as caught:
        Schema.of(ORDER).decode(stored, None)
    assert reason in str(caught.value)


@dataclass(frozen=True)
class Gift(Item):
    """A part of an order that is more than the order says."""

    sender: str = ""


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (replace(FULL, id=cast("Any", 3)), ".id must be of the type str, not 3"),
        (replace(FULL, count=True), ".count must be of the type int, not True"),
        (replace(FULL, items=[Item("a", cast("Any", "1"))]), ".items[0].price must be of the type"),
        (replace(FULL, items=[Gift("a", 1)]), ".items[0] must be of the type Item, not Gift("),
        (replace(FULL, more={"a": cast("Any", [])}), ".more['a'] must be of the type"),
        (replace(FULL, parent=cast("Any", {})), ".parent must be of the type"),
        (replace(FULL, size=cast("Any", (1,))), ".size must be of the type"),
    ],
)
def test_what_could_not_be_read_is_not_written(order: Order, reason: str) -> None:
    """Y1: It fails where it is published, where the mistake is; the message names the field."""
    with pytest.raises(NotEncodable) as caught:
        pass_on(Schema.of(ORDER), order)
    assert reason in str(caught.value)


def test_an_object_of_a_subclass_is_not_written() -> None:
    """Y1: It would come back as less than it was."""
    with pytest.raises(NotEncodable, match="must be of the type Item, not Gift"):
        pass_on(Schema.of(Topic[Item](NAME)), Gift("a", 1.0))


@pytest.mark.parametrize("codec", [JSON, Pickle()])
def test_a_kind_of_str_or_number_is_one(codec: Any) -> None:
    """Y1: Such as those of an enum; what comes back is equal."""
    item = Item(Size.SMALL, Price(2.5))
    assert pass_on(Schema.of(Topic[Item](NAME)), item, codec) == item


def test_what_a_field_of_any_type_holds_is_written_as_asdict_does() -> None:
    """Y1: Dataclasses in it come back as dicts, as there is nothing that tells their class."""
    order = replace(FULL, anything=[{"a": Item("b", 1.0)}, (2,)])
    back = pass_on(Schema.of(ORDER), order)
    assert back.anything == [{"a": {"name": "b", "price": 1.0, "tags": []}}, [2]]
    with pytest.raises(NotEncodable, match="type"):
        pass_on(Schema.of(ORDER), replace(FULL, anything=Item))


@pytest.mark.parametrize("stored", [None, 3, [], "x"])
def test_what_is_no_object_is_no_dataclass(stored: object) -> None:
    """Y1: A payload of another type."""
    with pytest.raises(NotDecodable, match="must be an object with the fields of Order"):
        Schema.of(ORDER).decode(stored, None)


@pytest.mark.parametrize(
    "schema",
    [
        Schema.of(ORDER),
        Schema.of(Topic[Model](NAME)),
        Schema.of(Topic[Checked](NAME)),
        Schema.of(Topic[Struct[int]](NAME)),
    ],
)
@pytest.mark.parametrize("data", [None, {"id": "A7", "items": []}, Item("a", 1.0)])
def test_a_payload_of_another_type_is_not_stored(schema: Schema[Any], data: object) -> None:
    """Y1: It fails where it is published, and not where it is handled."""
    with pytest.raises(NotEncodable):
        Encoder("shop", "p", JSON, {NAME: schema}).encode(NAME, data, None)


@pytest.mark.parametrize("codec", [JSON, Pickle()])
@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (Model, Model(orderNumber=3, day=date(2030, 1, 2))),
        (Checked, Checked(date(2030, 1, 2))),
        (Struct[str], Struct(date(2030, 1, 2), b"\xff", {1: "a"})),
    ],
)
def test_types_of_pydantic_and_msgspec_come_back_as_they_were(
    kind: Any, data: object, codec: Any
) -> None:
    """Y1: Through their own encoders: aliases, computed fields, dates, bytes, and keys of int."""
    assert pass_on(Schema.of(Topic[Any](NAME), kind), data, codec) == data


def test_a_pydantic_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Y1: When the schema is made, and not for each event."""

    def validate(self: object, data: str) -> None:
        """Know no `by_name`."""

    monkeypatch.setattr(pydantic.TypeAdapter, "validate_json", validate)
    with pytest.raises(TypeError, match=r"is too old .* needs 2\.11: install flexiflow\[pydantic"):
        Schema.of(Topic[Model](NAME))


@pytest.mark.parametrize(
    ("kind", "stored", "reason"),
    [
        (Model, {"number": "x", "day": "2030-01-02"}, "ValidationError"),
        (Model, {"number": 1, "day": "2030-01-02", "b": 1}, "Extra inputs"),
        (Struct[int], {"day": "2030-01-02", "raw": "", "names": {"1": "x"}}, "ValidationError"),
    ],
)
def test_what_pydantic_and_msgspec_refuse_can_not_be_read(
    kind: Any, stored: object, reason: str
) -> None:
    """Y1: What they say is the reason."""
    with pytest.raises(NotDecodable, match=reason):
        Schema.of(Topic[Any](NAME), kind).decode(stored, None)


def test_an_earlier_version_of_a_dataclass_is_upcast() -> None:
    """Y1: `Schema.of` takes steps, too; they come before the fields are read."""
    schema = Schema.of(Topic[Item](NAME), version=2, upcast={1: lambda old: {**old, "price": 1}})
    assert schema.decode({"name": "a"}, None) == Item("a", 1.0)


class Colour(enum.Enum):
    """No type of JSON."""

    RED = 1


@dataclass
class _Dated:
    day: date


@dataclass
class _Coloured:
    colours: dict[str, list[Colour | None]]


@dataclass
class _Keyed:
    names: dict[int, str]


@dataclass
class _Either:
    item: Item | _Dated


@dataclass
class _EitherList:
    some: list[int] | tuple[int, ...] | None


@dataclass
class _Unknown:
    day: "NoSuchName"  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore[reportUndefinedVariable]


@pytest.mark.parametrize(
    ("topic", "kind", "message"),
    [
        (NAME, None, "the type of the payload of 'order.placed' is not known"),
        (Topic(NAME), None, "the type of the payload of .* is not known: make the topic as Topic"),
        (Topic[int](NAME), None, "must be a dataclass, .* not <class 'int'>"),
        (Topic[list[Item]](NAME), None, "must be a dataclass, .* not list"),
        (Topic[T](NAME), None, "must be a dataclass, .* not ~T"),  # type: ignore[valid-type]
        (NAME, Item("a", 1.0), "must be a dataclass, .* not Item"),
        (NAME, _Dated, "_Dated.day is of the type <class 'datetime.date'>, which does not come"),
        (NAME, _Coloured, "_Coloured.colours is of the type <enum 'Colour'>"),
        (NAME, _Keyed, r"_Keyed.names is of the type dict\[int, str\]"),
        (NAME, _Either, "_Either.item is of the type .*, two of which look alike as JSON"),
        (NAME, _EitherList, "_EitherList.some is of the type .*, two of which look alike"),
        (NAME, _Weighed, "_Weighed can't be made of its fields by name, because of 'factor'"),
        (NAME, _ByHand, "_ByHand can't be made of its fields by name, because of 'text'"),
        (NAME, _ByPlace, "_ByPlace can't be made of its fields by name, because of 'day'"),
        (NAME, _Unknown, "the types of the fields of _Unknown can't be found: .*NoSuchName"),
    ],
)
def test_a_type_that_would_not_come_back_is_refused(topic: Any, kind: Any, message: str) -> None:
    """Y1: When the schema is made, with what to do instead."""
    with pytest.raises(TypeError, match=message):
        Schema.of(topic, kind)
