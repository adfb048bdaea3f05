"""The requests that a monitor answers: L8."""

from typing import Any

import pytest

from flexiflow import EventBus
from flexiflow.extras.monitor import Monitor
from tests.looking.asking import HERE, TOKEN, Answer, ask


def cookie(answer: Answer) -> str:
    """Return the cookie that an answer sets."""
    return answer.headers["set-cookie"].partition(";")[0]


@pytest.mark.parametrize("path", ["/", "/now", "/monitor.css", "/monitor.js"])
async def test_without_a_token_this_machine_may_look(path: str) -> None:
    """L8: by any of its names."""
    for host in ("localhost", "localhost:8080", "LOCALHOST", "127.0.0.1:80", "[::1]", "[::1]:80"):
        for address in ("127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"):
            answer = await ask(Monitor(EventBus()), path, host=host, client=(address, 50_000))
            assert answer.status == 200


@pytest.mark.parametrize("path", ["/", "/now", "/monitor.css", "/monitor.js"])
@pytest.mark.parametrize("client", [None, ("10.0.0.7", 1), ("::ffff:10.0.0.7", 1), ("unix", 0)])
async def test_without_a_token_nobody_else_may(path: str, client: tuple[str, int] | None) -> None:
    """L8: the answer says what to do."""
    answer = await ask(Monitor(EventBus()), path, client=client)
    assert answer.status == 403
    assert b"Monitor(engine, token=...)" in answer.body


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example:80", "10.0.0.7", "", "x:"]
)
async def test_a_page_of_another_host_may_not_look(host: str) -> None:
    """L8: its name may be made to lead to this machine."""
    assert (await ask(Monitor(EventBus()), "/now", host=host)).status == 403


@pytest.mark.parametrize(
    "header",
    ["forwarded", "via", "x_forwarded_for", "x_forwarded_host", "x_forwarded_proto", "x_real_ip"],
)
async def test_a_proxy_on_this_machine_is_not_this_machine(header: str) -> None:
    """L8: it passes on requests from anywhere."""
    headers: Any = {header: "10.0.0.7"}
    assert (await ask(Monitor(EventBus()), "/now", **headers)).status == 403


async def test_a_token_is_moved_into_a_cookie() -> None:
    """L8: so that it leaves the address; from then on the cookie counts, from anywhere."""
    monitor = Monitor(EventBus(), token=TOKEN)
    far = ("10.0.0.7", 50_000)
    moved = await ask(monitor, "/", f"token={TOKEN}", client=far, host="shop.example")
    assert (moved.status, moved.headers["location"]) == (303, "./")
    assert "; HttpOnly" in moved.headers["set-cookie"]
    assert "; samesite=lax" in moved.headers["set-cookie"].lower()
    assert "path=" not in moved.headers["set-cookie"].lower()
    assert "secure" not in moved.headers["set-cookie"].lower()
    for path in ("/", "/now", "/monitor.css", "/monitor.js"):
        seen = await ask(monitor, path, client=far, host="shop.example", cookie=cookie(moved))
        assert seen.status == 200


async def test_over_https_the_cookie_is_secure() -> None:
    """L8: so that it is never sent in the clear."""
    moved = await ask(Monitor(EventBus(), token=TOKEN), "/", f"token={TOKEN}", scheme="https")
    assert "; secure" in moved.headers["set-cookie"].lower()


@pytest.mark.parametrize("query", ["", "token=", "token=wrong", f"token={TOKEN}x", "token=%ff%00"])
@pytest.mark.parametrize("given", ["", "a=b", ";;==", "\xff"])
async def test_without_the_token_nobody_may(query: str, given: str) -> None:
    """L8: not even from this machine."""
    monitor = Monitor(EventBus(), token=TOKEN)
    for path in ("/", "/now", "/monitor.css", "/monitor.js"):
        assert (await ask(monitor, path, query, client=HERE, cookie=given)).status == 401


async def test_two_monitors_of_one_host_have_two_cookies() -> None:
    """L8: browsers don't tell ports apart."""
    one, other = Monitor(EventBus(), token=TOKEN), Monitor(EventBus(), token=TOKEN[::-1])
    first = cookie(await ask(one, "/", f"token={TOKEN}"))
    second = cookie(await ask(other, "/", f"token={TOKEN[::-1]}"))
    for monitor in (one, other):
        assert (await ask(monitor, "/now", cookie=f"{first}; {second}")).status == 200
    assert (await ask(one, "/now", cookie=second)).status == 401
