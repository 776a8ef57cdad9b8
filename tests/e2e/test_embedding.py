"""[embed] and [headers] before a real worker: CORS, preflights, frames, and what is said of mixed content."""

from __future__ import annotations

from pathlib import Path

import requests

from tests.support.bokeh_client import BokehSocket, get, page_token, websocket_url
from tests.support.certificates import Certificate
from tests.support.gateway import GatewayProcess
from tests.support.waiting import wait_until
from tests.support.workers import BokehWorker, servers

PARENT = "https://www.acme.test"
STRANGER = "https://evil.test"


def asked(method: str, url: str, origin: str, **headers: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return session.request(method, url, headers={"Origin": origin, **named}, timeout=30)


def test_one_list_answers_for_every_way_to_embed(three_workers: list[BokehWorker], tmp_path: Path) -> None:
    """The listed origin gets CORS, the WebSocket and a place in frame-ancestors; a stranger gets none of them."""
    text = f"""
[gateway]
listen = ["127.0.0.1:0"]
[pool.apps]
servers = {servers(three_workers)}
[embed]
origins = ["{PARENT}"]
[headers]
security = "embed"
set = {{ X-Robots-Tag = "noindex" }}
"""
    with GatewayProcess(text, tmp_path) as gateway:
        script = gateway.url("/recorder/autoload.js?bokeh-autoload-element=1&bokeh-app-path=/recorder")
        embedded = asked("GET", script, PARENT)
        assert embedded.status_code == 200
        assert embedded.headers["Access-Control-Allow-Origin"] == PARENT  # twice would read as "a, a"
        assert embedded.headers["Access-Control-Allow-Credentials"] == "true"
        assert "Access-Control-Allow-Origin" not in asked("GET", script, STRANGER).headers
        for path in ("/static/js/bokeh.min.js", "/static/js/nothing.js"):
            assert asked("GET", gateway.url(path), PARENT).headers["Access-Control-Allow-Origin"] == PARENT
        wanted = {"Access_Control_Request_Method": "GET", "Access_Control_Request_Headers": "bokeh-session-id"}
        preflight = asked("OPTIONS", script, PARENT, **wanted)
        assert (preflight.status_code, preflight.headers["Access-Control-Allow-Headers"]) == (204, "bokeh-session-id")
        assert asked("OPTIONS", script, STRANGER, **wanted).status_code == 403
        for _ in range(2):  # a target that was asked for before is answered by a shorter way
            page = asked("GET", gateway.url("/recorder"), PARENT)
            assert "default-src" in page.headers["Content-Security-Policy"]
        assert page.headers["Content-Security-Policy"].endswith(f"frame-ancestors 'self' {PARENT}")
        assert page.headers["X-Robots-Tag"] == "noindex"
        for _ in range(2):
            token = page_token(asked("GET", script, PARENT).text)
            BokehSocket(websocket_url(gateway.url("/recorder")), token, origin=PARENT).close()
        wait_until(lambda: "mixed content" in gateway.stderr, "the log line")
        assert gateway.stderr.count(f"mixed content: an https page of '{PARENT}'") == 1


def test_an_http_page_that_embeds_the_https_gateway_is_named(
    three_workers: list[BokehWorker], certificate: Certificate, tmp_path: Path
) -> None:
    """Once, with what to do; a page of the same host is not spoken of."""
    text = f"""
[gateway]
listen = []
[tls]
listen = ["127.0.0.1:0"]
certfile = "{certificate.certfile}"
keyfile = "{certificate.keyfile}"
[pool.apps]
servers = {servers(three_workers)}
[embed]
origins = ["http://www.acme.test", "http://localhost"]
"""
    with GatewayProcess(text, tmp_path) as gateway:
        script = gateway.https("/recorder/autoload.js?bokeh-autoload-element=1&bokeh-app-path=/recorder")
        for origin in ("http://www.acme.test", "http://localhost", "http://www.acme.test"):
            answer = get(script, headers={"Origin": origin}, verify=str(certificate.authority))
            assert answer.headers.get("Access-Control-Allow-Origin") == origin
        line = gateway.wait_for_output("mixed content")
        assert "an http page of 'http://www.acme.test' embeds this https gateway" in line
        assert "serve the page by https" in line
        assert gateway.stderr.count("mixed content") == 1
