"""Flask and Django pages on another origin, all of it over TLS, hold apps of the gateway with signed session ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.bokeh_page import SHOWN, browser_page, moves_the_plot
from tests.support.certificates import Certificate, make_certificate
from tests.support.gateway import GatewayProcess
from tests.support.parent import TITLE
from tests.support.parent_site import SITES, ParentSite
from tests.support.ports import free_port
from tests.support.workers import APPS, RunRecord

if TYPE_CHECKING:
    from playwright.sync_api import Browser

WITH = {
    ("signed", "document"): "flask",
    ("signed", "session"): "django",
    ("external-signed", "document"): "django",
    ("external-signed", "session"): "flask",
}
"""Which site embeds; each of them in each mode and in each way."""
SECRET = "the secret of parent and workers, long enough for it"


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("names"), "localhost", "127.0.0.1", "apps.test", "parent.test")


class Stage:
    """A gateway in one session mode, and the two sites."""

    def __init__(self, mode: str, folder: Path, names: Certificate) -> None:
        self.mode = mode
        self.record = RunRecord(folder / "runs")
        self.port = {kind: free_port() for kind in SITES}
        origins = [f"https://parent.test:{port}" for port in self.port.values()]
        text = f"""
[gateway]
listen = []
[tls]
listen = ["127.0.0.1:0"]
certfile = "{names.certfile}"
keyfile = "{names.keyfile}"
[pool.apps]
serve = ["{APPS / "recorder.py"}"]
[sessions]
mode = "{mode}"
secret_key = "${{BOKEH_SECRET_KEY}}"
[embed]
origins = {origins}
""".replace("'", '"')
        env = {"BOKEH_SECRET_KEY": SECRET}
        self.gateway = GatewayProcess(text, folder, env=self.record.environment | env)
        public = self.gateway.https("/recorder", "apps.test")
        near = self.gateway.https("/recorder")
        signs = env | {"BOKEH_SIGN_SESSIONS": "yes"}
        self.sites = {kind: ParentSite(kind, folder, public, near, self.port[kind], names, signs) for kind in SITES}


@pytest.fixture(scope="module")
def stage(
    request: pytest.FixtureRequest, names: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    stage = Stage(request.param, tmp_path_factory.mktemp(request.param), names)
    stage.gateway.launch()  # the sites start beside it
    with stage.sites["flask"], stage.sites["django"]:
        try:
            stage.gateway.wait_ready()
            yield stage
            stage.gateway.stop()
        finally:
            stage.gateway.kill()


@pytest.mark.parametrize("way", ["document", "session"])
@pytest.mark.parametrize("stage", ["signed", "external-signed"], indirect=True)
def test_an_embedded_app_works(stage: Stage, chromium: Browser, way: str) -> None:
    """The plot is there with what the parent gave it, its slider reaches the worker, and the app ran once."""
    stage.record.mark()
    with browser_page(chromium) as page:
        page.goto(stage.sites[WITH[stage.mode, way]].url(f"/{way}"))
        page.wait_for_function(SHOWN)
        moves_the_plot(page)
        title = page.evaluate("() => Bokeh.documents[0].title()")
        assert title == (TITLE if way == "session" else "Recorder")
    (run,) = stage.record.runs()
    assert run.session_id.count(".") == 1  # signed
    if way == "document":
        assert run.arguments["color"] == ["teal"]


@pytest.mark.parametrize("stage", ["signed"], indirect=True)
def test_a_site_that_is_not_listed_gets_nothing(stage: Stage, chromium: Browser) -> None:
    """The same page under another name: the browser withholds autoload.js from it, and the app's plot is not there."""
    with browser_page(chromium) as page:
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        url = stage.sites["flask"].url("/document").replace("parent.test", "stranger.test")
        with page.expect_event("console", lambda message: "CORS" in message.text):
            page.goto(url)
        assert not page.evaluate("() => Boolean(window.Bokeh && Bokeh.documents.length)")
