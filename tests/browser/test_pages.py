"""Chromium on pages through the gateway: a slider that moves a plot, templates, prefixes, embedding."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.bokeh_client import get
from tests.support.bokeh_page import SHOWN, browser_page, moves_the_plot, press_slider
from tests.support.gateway import READY, GatewayProcess
from tests.support.parent import TITLE, serve_parent
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.waiting import wait_until
from tests.support.workers import APPS, BokehWorker, bokeh_workers, servers

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    with browser_page(chromium) as page:
        yield page


class Demo(Process):
    """`bokeh-gateway demo`."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "bokeh_gateway.cli", "demo", "--workers", "1"]
        super().__init__("demo", [*command, "--listen", f"127.0.0.1:{self.port}"], folder)

    def wait_ready(self) -> None:
        wait_until(lambda: READY.search(self.stderr), "the ready line", 90)


def test_a_slider_of_the_demo_changes_its_plot(page: Page, tmp_path: Path) -> None:
    """By the arrow key, as a person does it: the data of the wave comes back from the worker."""
    with Demo(tmp_path) as demo:
        page.goto(f"http://127.0.0.1:{demo.port}/")
        page.wait_for_function(SHOWN)
        top = (
            "() => Math.max(...[...Bokeh.documents[0]._all_models.values()]"
            ".find(m => m.type === 'ColumnDataSource').data.y)"
        )
        assert page.evaluate(top) == pytest.approx(1, abs=0.01)
        press_slider(page, 5, handle=1)
        page.wait_for_function(f"() => ({top})() > 1.4")


def test_every_asset_of_a_template_page_and_none_from_a_worker(page: Page, tmp_path: Path) -> None:
    with bokeh_workers(
        1, tmp_path, APPS / "template.py", command=["panel", "serve"], arguments=["--log-level", "debug"]
    ) as workers:
        text = f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nservers = {servers(workers)}\n'
        with GatewayProcess(text, tmp_path) as gateway:
            own = gateway.url("/")
            seen: list[tuple[int, str]] = []
            page.on("response", lambda answer: seen.append((answer.status, answer.url)))
            page.goto(gateway.url("/template"))
            page.wait_for_function(SHOWN)
            assets = [(status, url) for status, url in seen if url.startswith(own) and "/static/" in url]
            assert len(assets) > 5
            assert {status for status, _ in assets} == {200}
            assert not [request for request in workers[0].requests() if "/static/" in request]


@pytest.mark.parametrize("strip", [True, False], ids=["stripped", "workers-know"])
def test_a_page_under_a_prefix(page: Page, tmp_path: Path, strip: bool) -> None:
    with bokeh_workers(
        1, tmp_path, env={"TEST_RUN_RECORD": str(tmp_path / "runs")}, prefix="" if strip else "/deep/er"
    ) as workers:
        text = (
            f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nservers = {servers(workers)}\n'
            f'prefix = "{"" if strip else "/deep/er"}"\n'
            f'[[route]]\npath = "/deep/er/"\npool = "apps"\nstrip_prefix = {str(strip).lower()}\n'
        )
        with GatewayProcess(text, tmp_path) as gateway:
            page.goto(gateway.url("/deep/er/recorder"))
            moves_the_plot(page)


@pytest.mark.parametrize("way", ["document", "session"])
def test_embedded_in_a_page_on_another_origin(
    page: Page, three_workers: list[BokehWorker], tmp_path: Path, way: str
) -> None:
    port = free_port()
    text = (
        f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nservers = {servers(three_workers)}\n'
        f'[origins]\nallow = ["http://127.0.0.1:{port}"]\n'
    )
    with GatewayProcess(text, tmp_path) as gateway, serve_parent(gateway.url("/recorder"), port):
        page.goto(f"http://127.0.0.1:{port}/{way}")
        moves_the_plot(page)
        title = page.evaluate("() => Bokeh.documents[0].title()")
        assert title == (TITLE if way == "session" else "Recorder")
        assert get(f"http://127.0.0.1:{port}/").text == "the parent's own page"
