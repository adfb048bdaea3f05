"""The pages in a browser, by clicks: L7, L8."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from shutil import which
from typing import Any

import anyio
import pytest

from flexiflow import EventBus
from flexiflow.extras._pictures.page import make_page
from flexiflow.extras.monitor import Monitor
from tests.looking.serving import serving
from tests.looking.shops import NASTY, lamps, recording, switch

playwright: Any = pytest.importorskip(
    "playwright.async_api", reason="playwright is not installed: tox -e browser installs it"
)
CHROMIUM = which("chromium") or which("chromium-browser") or which("google-chrome")

pytestmark = [
    pytest.mark.once,
    pytest.mark.unmeasured,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the path"),
]


def fail(_: object) -> None:
    """Be a handler that fails."""
    raise KeyError("missing")


@asynccontextmanager
async def opened_page() -> AsyncGenerator[Any]:
    """Open a page in a browser; check in the end that its scripts have raised nothing."""
    errors: list[str] = []
    async with playwright.async_playwright() as drivers:
        browser = await drivers.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = await browser.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("requestfailed", lambda request: errors.append(request.url))
        yield page
        await browser.close()
    assert errors == []


def test_a_monitor_shows_what_happens() -> None:
    """L8: events, states and failures; names are text, whatever they mean to a browser."""

    async def main() -> None:
        expect = playwright.expect
        engine = lamps()
        await engine.bus.subscribe("order.failed", "guard", fail)
        async with serving(Monitor(engine)) as (_, port), opened_page() as page:
            await page.goto(f"http://127.0.0.1:{port}/")
            await expect(page.locator("#link")).to_have_text("live")
            nothing = page.locator("#no-events")
            await expect(nothing).to_have_text("None yet.")
            for name in NASTY:
                await engine.bus.publish(name, name)
            await expect(page.locator("#events tr")).to_have_count(len(NASTY))
            await expect(nothing).to_be_hidden()
            await expect(page.locator("#events")).to_contain_text("<script>alert(1)</script>")
            await switch(engine, "lamp", "on")
            await engine.bus.publish("order.failed")
            await expect(page.locator("#states")).to_contain_text("on")
            await expect(page.locator("#failures li")).to_contain_text("KeyError: 'missing'")
            await page.get_by_label("Only names with").fill("nobody publishes this")
            await expect(nothing).to_have_text("None with such a name yet.")

    anyio.run(main)


def test_a_monitor_is_filtered_paused_and_goes_on() -> None:
    """L8: what a reader does with it."""

    async def main() -> None:
        expect = playwright.expect
        bus = EventBus()
        async with serving(Monitor(bus)) as (_, port), opened_page() as page:
            rows, published = page.locator("#events tr"), page.locator("#published")
            await page.goto(f"http://127.0.0.1:{port}/")
            await expect(page.locator("#link")).to_have_text("live")
            await bus.publish("order.placed")
            await bus.publish("order.paid")
            await expect(rows).to_have_count(2)
            await page.get_by_label("Only names with").fill("placed")
            await expect(rows).to_have_count(1)
            await bus.publish("order.paid")
            await expect(published).to_have_text("3")
            await expect(rows).to_have_count(1)
            await page.get_by_role("button", name="Pause").click()
            await bus.publish("order.placed")
            await expect(published).to_have_text("4")
            await expect(page.locator("#missed")).to_have_text("1 not shown")
            await expect(rows).to_have_count(1)
            await page.get_by_role("button", name="Go on").click()
            await bus.publish("order.placed")
            await expect(rows).to_have_count(2)

    anyio.run(main)


def test_a_table_of_a_report_is_opened() -> None:
    """L7: below a map; it has all transitions."""

    async def main() -> None:
        engine = lamps()
        recorder = await recording(engine)
        await switch(engine, "lamp", "on", "off")
        async with opened_page() as page:
            await page.set_content(make_page(recorder, title="shop.py", summary={}))
            table = page.get_by_role("region", name="Transitions of lamp")
            await playwright.expect(table).to_be_hidden()
            await page.get_by_text("All 2 kinds of transitions").click()
            await playwright.expect(table).to_be_visible()

    anyio.run(main)
