"""What the library logs: on one line, with nothing in it that a terminal would obey (E1)."""

import ast
import logging
import re
from pathlib import Path
from typing import Any

import pytest

import flexiflow
from flexiflow import Component, Engine, EventBus
from flexiflow._mermaid import escape
from flexiflow._reporting import logger
from flexiflow.extras.durable import Failure, TransportUnavailable
from flexiflow.extras.durable._bridge.failing import log_burial
from flexiflow.extras.retry import RetryConfig, retry_async
from tests.cli.test_hostile import HOSTILE, MARKS


class Hostile(Exception):
    """Shows itself as it likes."""

    def __repr__(self) -> str:
        """Give no repr."""
        return HOSTILE


async def fail(data: object) -> None:
    """Fail in words of strangers."""
    raise Hostile(HOSTILE)


fail.__qualname__ = HOSTILE


class Instrument:
    """Fails at once."""

    def publishing(self, event: object) -> Any:
        """Fail."""
        raise Hostile(HOSTILE)


Instrument.__qualname__ = HOSTILE


async def log_a_handler() -> None:
    """Let a handler fail, an instrument, and a component that hears of it."""
    engine = Engine(bus=EventBus(instruments=[Instrument()]))
    await engine.register(Component(HOSTILE))
    await engine.bus.subscribe("**", HOSTILE, fail)
    await engine.bus.publish(HOSTILE.replace("*", ""), HOSTILE)


async def log_a_retry() -> None:
    """Let an attempt fail."""
    tried = retry_async(RetryConfig(max_attempts=2, base_delay=0, jitter=0))(fail)
    with pytest.raises(Hostile):
        await tried(None)


async def log_a_burial() -> None:
    """Let an event be given up."""
    log_burial(HOSTILE, HOSTILE, HOSTILE, Failure(HOSTILE, HOSTILE, HOSTILE))


async def log_an_outage() -> None:
    """Let a transport be away."""
    logger.warning("%s; trying until it is", TransportUnavailable(HOSTILE, HOSTILE))


@pytest.mark.parametrize("log", [log_a_handler, log_a_retry, log_a_burial, log_an_outage])
async def test_what_is_logged_is_one_line(log: Any, caplog: pytest.LogCaptureFixture) -> None:
    """E1: names and exceptions of strangers stay within their line, and are escaped."""
    caplog.set_level(logging.DEBUG, logger="flexiflow")
    await log()
    assert caplog.records
    assert [each for each in caplog.messages if not each.isprintable()] == []
    assert all("forged: a line of its own" in each for each in caplog.messages)


async def test_what_is_logged_keeps_its_facts(caplog: pytest.LogCaptureFixture) -> None:
    """E1: what a handler of the log finds in a record is what was logged, not how it is shown."""
    facts = ("plain", HOSTILE, 5, 0.5, None)
    logger.error("%s %s %d %g %s", *facts)
    logger.error("%r", HOSTILE)
    logger.error("%(a)s", {"a": 1})
    logger.error("no facts")
    assert caplog.records[0].args == facts
    assert caplog.messages[1:] == [repr(HOSTILE), "1", "no facts"]


def test_a_record_that_is_not_shown_shows_no_exception() -> None:
    """E1: an exception's own code runs where its record is formatted, and nowhere else."""
    shown: list[Exception] = []

    class Counting(Exception):
        def __str__(self) -> str:
            shown.append(self)
            return "shown"

    record = logger.makeRecord("flexiflow", logging.ERROR, "", 0, "%s", (Counting(),), None)
    assert logger.filter(record)
    assert shown == []
    assert (record.getMessage(), len(shown)) == ("shown", 1)


@pytest.mark.unmeasured
@pytest.mark.same_everywhere
def test_there_is_one_logger() -> None:
    """E1: all that the library logs goes through the logger that escapes it."""
    source = Path(flexiflow.__file__).parent
    loggers = [
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if "testing" not in path.parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("getLogger")
    ]
    assert loggers == ["_reporting.py"]
    assert len(logger.filters) == 1


def test_a_diagram_holds_nothing_that_is_obeyed() -> None:
    """C9: what Mermaid would show, and a terminal obey, is a number in the diagram's text."""
    assert re.fullmatch(r"(#[0-9]+;|[a-z0-9])+", escape(MARKS))
