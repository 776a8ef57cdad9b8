"""Apps behind [auth.jwt] in another site's page: the token is in an argument or a header, and no cookie is needed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from bokeh.embed import server_document
from flask import Flask
from werkzeug.serving import make_server

from tests.support.bokeh_page import browser_page, moves_the_plot
from tests.support.certificates import Certificate, make_certificate
from tests.support.gateway import GatewayProcess
from tests.support.parent import PAGE
from tests.support.ports import free_port
from tests.support.waiting import wait_until
from tests.support.workers import APPS, RunRecord

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SECRET = "of the signer and the gateway, 32 bytes or more"


def signed(**claims: Any) -> str:
    return jwt.encode({"sub": "ada", "exp": int(time.time()) + 600, **claims}, SECRET, "HS256")


class Stage:
    """The gateway, and a site that embeds its app in four ways."""

    def __init__(self, folder: Path, names: Certificate) -> None:
        self.names = names
        self.record = RunRecord(folder / "runs")
        self.port = free_port()
        text = f"""
[gateway]
listen = []
[tls]
listen = ["127.0.0.1:0"]
certfile = "{names.certfile}"
keyfile = "{names.keyfile}"
[pool.apps]
serve = ["{APPS / "recorder.py"}"]
[[route]]
path = "/"
pool = "apps"
users = ["ada"]
[embed]
origins = ["https://parent.test:{self.port}"]
[auth.jwt]
algorithms = ["HS256"]
secret = "{SECRET}"
argument = "access_token"
cookie = "access"
"""
        self.gateway = GatewayProcess(text, folder, env=self.record.environment)
        self.app = self.gateway.https("/recorder", "apps.test")

    def site(self) -> Flask:
        flask = Flask("parent")

        @flask.get("/<way>")
        def page(way: str) -> str:
            body = {
                "argument": lambda: server_document(self.app, arguments={"access_token": signed()}),
                "header": lambda: server_document(self.app, headers={"Authorization": f"Bearer {signed()}"}),
                "frame": lambda: f'<iframe src="{self.app}?access_token={signed()}"></iframe>',
                "nothing": lambda: server_document(self.app),
                "stranger": lambda: server_document(self.app, arguments={"access_token": signed(sub="bob")}),
            }
            return PAGE.format(script=body[way]()) if way in body else ""

        return flask

    def url(self, way: str) -> str:
        return f"https://parent.test:{self.port}/{way}"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("stage")
    names = make_certificate(folder / "names", "apps.test", "parent.test")
    stage = Stage(folder, names)
    context = (str(names.certfile), str(names.keyfile))
    server = make_server("127.0.0.1", stage.port, stage.site(), threaded=True, ssl_context=context)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with stage.gateway:
        yield stage
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("way", ["argument", "header", "frame"])
def test_an_embedded_app_is_signed_in(stage: Stage, chromium: Browser, way: str) -> None:
    """Its WebSocket too, as the user of the token; the app sees who it is, and never the token."""
    stage.record.mark()
    with browser_page(chromium) as page:
        page.goto(stage.url(way))
        if way == "frame":
            wait_until(lambda: page.evaluate("1") and len(page.frames) > 1, "the frame")
        moves_the_plot(page.frames[-1])
        assert page.context.cookies(stage.app) == []
    (run,) = stage.record.runs()
    assert run.headers["x-forwarded-user"] == "ada"
    assert "authorization" not in run.headers
    assert "access_token" not in run.arguments
    wait_until(
        lambda: any("/recorder/ws" in line and " ada " in line for line in stage.gateway.access_log()),
        "the WebSocket in the access log, with the user",
    )
    assert "eyJ" not in stage.gateway.stdout + stage.gateway.stderr  # what every token begins with


@pytest.mark.parametrize(("way", "status"), [("nothing", 401), ("stranger", 403)])
def test_who_may_not_gets_no_app(stage: Stage, chromium: Browser, way: str, status: int) -> None:
    stage.record.mark()
    with browser_page(chromium) as page:
        with page.expect_response(lambda answer: "autoload.js" in answer.url and answer.request.method == "GET") as got:
            page.goto(stage.url(way))
        assert got.value.status == status
    assert stage.record.runs() == []
