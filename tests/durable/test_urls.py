"""From a URL to a transport (X6)."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from flexiflow.extras.durable import RedisTransport, SqliteTransport, transport_from_url

URLS = "flexiflow.extras.durable._urls"
SECRET = "hunter2"  # noqa: S105  it is one, so that it can be looked for


Made = tuple[str, str, dict[str, Any]]

NO_OPTIONS: dict[str, Any] = {}


def arguments(url: str) -> Made:
    """Tell which transport a URL makes, and of what."""
    with patch(f"{URLS}.SqliteTransport") as sqlite, patch(f"{URLS}.RedisTransport") as redis:
        transport_from_url(url)
    ((name, (place,), options),) = [
        (name, *made)
        for name, transport in (("sqlite", sqlite), ("redis", redis))
        for made in transport.call_args_list
    ]
    return name, place, options


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:events.db", ("sqlite", "events.db", NO_OPTIONS)),
        ("sqlite:some/events.db", ("sqlite", "some/events.db", NO_OPTIONS)),
        ("sqlite:/abs/events.db", ("sqlite", "/abs/events.db", NO_OPTIONS)),
        ("sqlite:///abs/events.db", ("sqlite", "/abs/events.db", NO_OPTIONS)),
        ("SQLITE:what%3F 100%25@home.db", ("sqlite", "what? 100%@home.db", NO_OPTIONS)),
        (
            "sqlite:e.db?partitions=4&max_length=9&idempotency_window=1.5",
            ("sqlite", "e.db", {"partitions": 4, "max_length": 9, "idempotency_window": 1.5}),
        ),
        (
            "sqlite:e.db?poll_interval=0.2&busy_timeout=7",
            ("sqlite", "e.db", {"poll_interval": 0.2, "busy_timeout": 7.0}),
        ),
        ("sqlite:e.db?mode=0o660", ("sqlite", "e.db", {"mode": 0o660})),
        ("sqlite:e.db?mode=640", ("sqlite", "e.db", {"mode": 0o640})),
        ("redis://localhost", ("redis", "redis://localhost", NO_OPTIONS)),
        ("redis://localhost:6380/2", ("redis", "redis://localhost:6380/2", NO_OPTIONS)),
        ("redis://[::1]:6379/", ("redis", "redis://[::1]:6379/", NO_OPTIONS)),
        (
            "rediss://user:p%2Fw@example.org?prefix=shop&replicas=1",
            ("redis", "rediss://user:p%2Fw@example.org", {"prefix": "shop", "replicas": 1}),
        ),
        (
            "redis://h?timeout=2&connect_timeout=1&cluster=true",
            ("redis", "redis://h", {"timeout": 2.0, "connect_timeout": 1.0, "cluster": True}),
        ),
    ],
)
def test_a_url_names_a_transport(url: str, expected: Made) -> None:
    """X6: the scheme tells the transport, the rest where it is, the query its options."""
    assert arguments(url) == expected


def test_a_transport_is_made_and_not_opened(tmp_path: Path) -> None:
    """X6: nothing is there yet when a transport is made."""
    assert isinstance(transport_from_url(f"sqlite:{tmp_path}/events.db"), SqliteTransport)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "begin with 'sqlite:', 'redis://' or 'rediss://'"),
        ("events.db", "'events.db' does not"),
        ("postgres://localhost/events", "'postgres://localhost/events' does not"),
        ("sqlite:", "must be 'sqlite:events.db' or 'sqlite:///absolute/path.db', not 'sqlite:'"),
        ("sqlite://events.db", "not 'sqlite://events.db'"),
        ("sqlite:events.db#1", "not 'sqlite:events.db#1'"),
        ("sqlite:e.db?mode=rw", "mode must be permissions in octal, as 600 is, not 'rw'"),
        ("sqlite:e.db?mode=400", "mode must be permissions from 0o600 to 0o777 by which its"),
        ("sqlite::memory:", "memory"),
        ("redis:", "the URL must be redis://[user:password@]host[:port][/database]"),
        ("redis:///1", "has no host"),
        ("redis://localhost:0", "no valid port"),
        ("redis://localhost:65536", "no valid port"),
        ("redis://localhost:six", "no valid port"),
        ("redis://localhost/events", "its database is 'events', no number"),
        ("redis://localhost#1", "has a query or a fragment"),
        ("redis://[::1", "'redis://[::1' is no URL"),
        ("sqlite:e.db?prefix=a", "option 'prefix', which must be one of partitions, "),
        ("redis://h?poll_interval=1", "option 'poll_interval'"),
        ("sqlite:e.db?partitions=1&partitions=2", "option 'partitions' twice"),
        ("sqlite:e.db?partitions=four", "partitions must be a whole number, not 'four'"),
        ("sqlite:e.db?partitions=", "partitions must be a whole number, not ''"),
        ("sqlite:e.db?idempotency_window=long", "idempotency_window must be a number, not 'long'"),
        ("redis://h?cluster=1", "cluster must be true or false, not '1'"),
        ("sqlite:e.db?partitions=0", "partitions must be None or an int from 1 to 65,536, not 0"),
        (
            "sqlite:e.db?idempotency_window=nan",
            "idempotency_window must be a finite number, not 'nan'",
        ),
        ("sqlite:e.db?busy_timeout=1e999", "busy_timeout must be a finite number, not '1e999'"),
        ("redis://h?timeout=-Infinity", "timeout must be a finite number, not '-Infinity'"),
        ("sqlite:a%00b", "a transport's URL must name a file"),
        ("sqlite:a%00b", "has a null character, as that in 'sqlite:a%00b' has"),
    ],
)
def test_a_wrong_url_is_told_what_is_right(url: str, said: str) -> None:
    """X6: a wrong URL is refused at once, with what was given and what would be right."""
    with pytest.raises(ValueError, match=r".") as refused:
        transport_from_url(url)
    assert said in str(refused.value)


@pytest.mark.parametrize("url", [None, b"sqlite:events.db", Path("events.db")])
def test_what_is_no_text_is_no_url(url: Any) -> None:
    """X6: a path is no URL; what it is is told."""
    with pytest.raises(TypeError, match=f"must be a str, not {type(url).__qualname__}"):
        transport_from_url(url)


@pytest.mark.parametrize(
    "url",
    [
        f"http://user:{SECRET}@host",
        f"//user:{SECRET}@host",
        f"user:{SECRET}@host",
        f"redis:user:{SECRET}@host",
        f"redis://user:{SECRET}@host:port",
        f"redis://user:{SECRET}@host/name",
        f"redis://user:{SECRET}@[host",
        f"redis://user:{SECRET}@",
        f"redis://user:/{SECRET}@host",
        f"redis://user:1/{SECRET}@host",
        f"redis://user:1?{SECRET}@host",
        f"redis://user:1#{SECRET}@host",
        f"redis://user:@{SECRET}@host:x",
        f"redis://host/x?password={SECRET}",
        f"redis://host?password={SECRET}",
        f"sqlite://user:{SECRET}@host/events.db",
    ],
)
def test_a_password_is_never_shown(url: str) -> None:
    """X6: however wrong a URL is, and wherever it is cut apart, its password is secret."""
    with pytest.raises(ValueError, match=r".") as refused:
        transport_from_url(url)
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@pytest.mark.parametrize("end", ["/", "1/", "1?", "1#", "x"])
def test_a_password_of_a_server_is_never_shown(end: str) -> None:
    """X6: Redis's own URL keeps the secret too, wherever a password's characters cut it apart."""
    with pytest.raises(ValueError, match="must be redis://") as refused:
        RedisTransport(f"redis://user:{end}{SECRET}@host/x")
    assert SECRET not in str(refused.value)
