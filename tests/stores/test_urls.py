"""From a URL to a store (K2)."""

from pathlib import Path
from typing import Any

import pytest

from flexiflow.extras.stores import (
    MemoryStateStore,
    RedisStateStore,
    SqliteStateStore,
    store_from_url,
)

SECRET = "hunter2"  # noqa: S105  it is one, so that it can be looked for


@pytest.mark.parametrize(
    ("url", "kind", "shown"),
    [
        ("memory:", MemoryStateStore, "<MemoryStateStore of 0 components>"),
        ("memory:?history=3", MemoryStateStore, ""),
        ("sqlite:some/state.db", SqliteStateStore, "some/state.db"),
        ("sqlite:///abs/state.db?history=2&busy_timeout=1&mode=640", SqliteStateStore, "/abs/"),
        ("redis://localhost", RedisStateStore, "redis://localhost:6379/0 {flexiflow:state}"),
        ("rediss://h:7/2?history=2&timeout=1&connect_timeout=2", RedisStateStore, "rediss://h:7/2"),
        ("redis://ann:p%40s@h?prefix=shop", RedisStateStore, "redis://h:6379/0 {shop}"),
    ],
)
def test_a_url_names_a_store(url: str, kind: type[Any], shown: str) -> None:
    """K2: the scheme tells the store, the rest where it is, the query its options."""
    store = store_from_url(url)
    assert type(store) is kind
    assert shown in repr(store)


def test_options_reach_the_store() -> None:
    """K2: the options in a URL reach the store, as numbers."""
    store = vars(store_from_url("redis://h?history=2&timeout=1&connect_timeout=2.5"))
    assert (store["_history"], store["_timeout"], store["_connect_timeout"]) == (2, 1.0, 2.5)


def test_a_store_is_made_and_not_opened(tmp_path: Path) -> None:
    """K2: nothing is there yet when a store is made."""
    store_from_url(f"sqlite:{tmp_path}/state.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "a store's URL must begin with 'memory:', 'sqlite:', 'redis://' or 'rediss://', as "),
        ("state.db", "as 'sqlite:state.db' does, and 'state.db' does not"),
        ("memory:state", "must be 'memory:' alone, or with options after a question mark, not"),
        ("memory://h", "not 'memory://h'"),
        ("memory:#h", "not 'memory:#h'"),
        ("sqlite:", "must be 'sqlite:state.db' or 'sqlite:///absolute/path.db', not 'sqlite:'"),
        ("memory:?prefix=a", "a store's URL has the option 'prefix', which must be one of history"),
        ("sqlite:s.db?prefix=a", "must be one of history, busy_timeout, mode"),
        ("redis://h?cluster=true", "must be one of history, prefix, timeout, connect_timeout"),
        ("redis://h?history=few", "in a store's URL, history must be a whole number, not 'few'"),
        ("redis://h?history=-1", "history must be an int"),
        ("redis:", "the URL must be redis://[user:password@]host[:port][/database]"),
    ],
)
def test_a_wrong_url_is_told_what_is_right(url: str, said: str) -> None:
    """K2: a wrong URL is refused at once, with what was given and what would be right."""
    with pytest.raises(ValueError, match=r".") as refused:
        store_from_url(url)
    assert said in str(refused.value)


def test_what_is_no_text_is_no_url() -> None:
    """K2: a path is no URL; the type is told."""
    path: Any = Path("state.db")
    with pytest.raises(TypeError, match=r"a store's URL must be a str, not \w*Path"):
        store_from_url(path)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://user:{SECRET}@host:port",
        f"redis://user:1/{SECRET}@host",
        f"memory://user:{SECRET}@host",
        f"memory:?password={SECRET}",
    ],
)
def test_a_password_is_never_shown(url: str) -> None:
    """K2: whatever is wrong with a URL, its password is secret."""
    with pytest.raises(ValueError, match=r".") as refused:
        store_from_url(url)
    assert SECRET not in str(refused.value)
