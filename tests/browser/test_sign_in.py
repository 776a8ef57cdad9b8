"""Sign-in as a browser does it, below a prefix: to the login, back to the very page, and out again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.test_auth_module import MODULE
from tests.e2e.test_auth_oidc import CLIENT_SECRET, Provider
from tests.support.bokeh_page import browser_page, moves_the_plot
from tests.support.gateway import GatewayProcess
from tests.support.waiting import wait_until
from tests.support.workers import BokehWorker, RunRecord, bokeh_workers

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return RunRecord(tmp_path_factory.mktemp("record") / "runs")


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory, record: RunRecord) -> Iterator[BokehWorker]:
    with bokeh_workers(1, tmp_path_factory.mktemp("worker"), env=record.environment) as workers:
        yield workers[0]


def config(worker: BokehWorker, auth: str) -> str:
    return f"""
[gateway]
listen = ["127.0.0.1:0"]
[pool.apps]
servers = ["{worker.address}"]
[[route]]
path = "/p"
pool = "apps"
strip_prefix = true
[auth]
cookie_secret = "a cookie secret of more than 32 bytes"
{auth}
"""


def fill_in(page: Page) -> None:
    page.fill("[name=username]", "ada")
    page.fill("[name=password]", "right")
    page.locator("form").evaluate("form => form.submit()")  # it has no button, and two fields


def test_a_module_below_a_prefix(chromium: Browser, worker: BokehWorker, record: RunRecord, tmp_path: Path) -> None:
    """AU-01, AU-03, AU-04: the form is below the prefix; path, slash and query are kept; the app knows the user."""
    record.mark()
    (tmp_path / "auth.py").write_text(MODULE.replace('self.redirect("/recorder")', 'self.redirect("/p/recorder")'))
    with GatewayProcess(config(worker, 'module = "auth.py"'), tmp_path) as gateway, browser_page(chromium) as page:
        wanted = gateway.url("/p/recorder?color=teal")
        page.goto(wanted)
        assert page.url.startswith(gateway.url("/p/login?next="))
        fill_in(page)
        page.wait_for_url(wanted)
        moves_the_plot(page)
        (run,) = record.runs()
        assert run.headers["x-forwarded-user"] == "ada"
        page.goto(gateway.url("/p/logout"))
        page.wait_for_url("**/p/login?next=*")
        assert "eyJ" not in gateway.stdout + gateway.stderr
        # The mount without its slash leads to the login and then to the slash: the index, which leads to the only app.
        page.goto(gateway.url("/p"))
        fill_in(page)
        page.wait_for_url(lambda url: url.startswith(gateway.url("/p/")) and "login" not in url)
        moves_the_plot(page)


def test_an_openid_provider(chromium: Browser, worker: BokehWorker, record: RunRecord, tmp_path: Path) -> None:
    """AU-04: to the provider and back to the app's own path; its WebSocket is the user's; the logout ends it."""
    record.mark()
    provider = Provider()
    provider.start()
    auth = f'[auth.oidc]\nissuer = "{provider.issuer}"\nclient_id = "dash"\nclient_secret = "{CLIENT_SECRET}"\n'
    try:
        with GatewayProcess(config(worker, auth), tmp_path) as gateway, browser_page(chromium) as page:
            wanted = gateway.url("/p/recorder?color=teal")
            page.goto(wanted)
            page.wait_for_url(wanted)
            moves_the_plot(page)
            (run,) = record.runs()
            assert run.headers["x-forwarded-user"] == "ada"
            wait_until(
                lambda: any("/recorder/ws" in line and " ada " in line for line in gateway.access_log()),
                "the WebSocket in the access log, with the user",
            )
            with page.expect_response(lambda answer: "/oauth2/logout" in answer.url):
                page.goto(gateway.url("/oauth2/logout"), wait_until="commit")
            assert [cookie["name"] for cookie in page.context.cookies(gateway.url("/"))] == []
            assert "eyJ" not in gateway.stdout + gateway.stderr
    finally:
        provider.stop()
