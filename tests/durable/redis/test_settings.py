"""The transport on Redis before it is opened, and what its server's answers mean."""

import re
import sys
from typing import Any

import pytest

from flexiflow.extras._redis.replies import Broken, Refused, Terms, explain
from flexiflow.extras._redis.url import parse_url
from flexiflow.extras.durable import RedisTransport, TransportUnavailable, TransportUnusable

pytestmark = pytest.mark.once

TERMS = Terms("transport", TransportUnavailable, TransportUnusable)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://localhost", "redis://localhost:6379/0"),
        ("redis://ann:p%40ss@example.org:7000/3", "redis://example.org:7000/3"),
        ("rediss://:secret@[::1]/", "rediss://[::1]:6379/0"),
    ],
)
def test_reads_a_url(url: str, address: str) -> None:
    """X6: the address has neither user nor password."""
    assert parse_url(url).address == address


def test_reads_who_is_to_be_let_in() -> None:
    """X6: user and password may be escaped."""
    server = parse_url("rediss://an%2Fn:p%40ss@example.org:7000/3")
    assert server == ("example.org", 7000, 3, "an/n", "p@ss", True)


@pytest.mark.parametrize(
    "url",
    [
        "http://ann:secret@localhost",
        "redis://",
        "redis://ann:secret@localhost:port",
        "redis://ann:secret@localhost:0",
        "redis://ann:sec#ret@localhost",
        "redis://ann:secret@localhost/0?secret=1",
        "redis://ann:secret@localhost/first",
        "redis://ann:secret@localhost/\N{SUPERSCRIPT TWO}",
        "redis://[ann:secret@localhost",
    ],
)
def test_refuses_what_is_no_url_of_a_server(url: str) -> None:
    """X6: the message says what is right, and shows no password."""
    with pytest.raises(ValueError, match=r"must be redis://\[user") as caught:
        RedisTransport(url)
    assert "sec" not in str(caught.value)
    assert caught.value.__context__ is None


def test_refuses_a_url_that_is_no_text() -> None:
    """X6: the message names the type."""
    with pytest.raises(TypeError, match="not bytes"):
        parse_url(b"redis://localhost")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("partitions", 0),
        ("max_length", 0),
        ("max_length", True),
        ("idempotency_window", 0),
        ("idempotency_window", True),
        ("idempotency_window", "600"),
        ("prefix", "a{b}"),
        ("prefix", ""),
        ("prefix", b"flexiflow"),
        ("replicas", -1),
        ("connect_timeout", float("inf")),
        ("timeout", float("nan")),
    ],
)
def test_refuses_an_option_out_of_its_range(option: str, value: Any) -> None:
    """X6: the message names the option."""
    with pytest.raises(ValueError, match=f"^{option} must be .*, not {re.escape(repr(value))}$"):
        RedisTransport("redis://localhost", **{option: value})


def test_a_cluster_has_one_database() -> None:
    """X6: another one is refused before anything is opened."""
    with pytest.raises(ValueError, match="the database 0 only"):
        RedisTransport("redis://localhost/1", cluster=True)


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("coredis.connection", "install flexiflow[redis]"),
        ("flexiflow.extras._redis.client", "None in sys.modules"),
    ],
)
async def test_says_which_extra_is_missing(
    monkeypatch: pytest.MonkeyPatch, missing: str, said: str
) -> None:
    """X6: and takes no other module that is missing for coredis."""
    monkeypatch.delitem(sys.modules, "flexiflow.extras._redis.client", raising=False)
    monkeypatch.delattr("flexiflow.extras._redis.client", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ModuleNotFoundError) as caught:
        async with RedisTransport("redis://localhost").connect():
            pytest.fail("opened")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (Broken("no answer within 5 s"), TransportUnavailable, "no answer within 5 s"),
        (Refused("LOADING", "Redis is loading"), TransportUnavailable, "LOADING Redis is loading"),
        (Refused("READONLY", "a replica"), TransportUnavailable, "READONLY a replica"),
        (Refused("ERR", "in a script: OOM is at hand"), TransportUnavailable, "OOM"),
        (Refused("WRONGPASS", "invalid"), TransportUnusable, "wants another user or password"),
        (Refused("NOAUTH", ""), TransportUnusable, "wants another user or password: NOAUTH"),
        (Refused("ERR", "script: WRONGTYPE of a key"), TransportUnusable, "use another prefix"),
        (Refused("NOPERM", "no permissions"), TransportUnusable, "NOPERM no permissions"),
    ],
)
def test_tells_what_passes_from_what_does_not(
    error: Broken | Refused, kind: type[Exception], said: str
) -> None:
    """X6: what a later try may get over is unavailable, all else unusable."""
    explained = explain(error, "redis://localhost:6379/0", TERMS)
    assert type(explained) is kind
    assert said in str(explained)
    assert str(explained).startswith("redis://localhost:6379/0 ")
