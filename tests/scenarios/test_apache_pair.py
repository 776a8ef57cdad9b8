"""The guide's Apache pair: `/myapp` and `/myapp/ws` to one worker, paths unchanged, one route for both."""

from __future__ import annotations

from pathlib import Path

from tests.support.bokeh_client import get, view_page
from tests.support.gateway import GatewayProcess
from tests.support.workers import BokehWorker, RunRecord

CONFIG = """
[gateway]
listen = ["127.0.0.1:0"]
[pool.apps]
servers = ["{server}"]
[[route]]
path = "{path}"
pool = "apps"
strip_prefix = {strip}
"""


def test_http_and_websocket_below_the_app(
    three_workers: list[BokehWorker], run_record: RunRecord, tmp_path: Path
) -> None:
    """WS-01: ProxyPass /myapp http://.../myapp and its ws: twin are one route; what is outside is nobody's."""
    text = CONFIG.format(server=three_workers[0].address, path="/recorder", strip="false")
    with GatewayProcess(text, tmp_path) as gateway:
        with view_page(gateway.url("/recorder/")) as view:
            assert view.socket.pull_document()["title"] == "Recorder"
        assert len(run_record.runs()) == 1
        assert get(gateway.url("/other")).status_code == 404
        assert get(gateway.url("/static/js/bokeh.min.js")).status_code == 200


def test_the_slash_is_added_and_the_query_kept(three_workers: list[BokehWorker], tmp_path: Path) -> None:
    """Relative links of what is mounted need the slash; the address is relative, so the scheme is the browser's."""
    text = CONFIG.format(server=three_workers[0].address, path="/myapp/", strip="true")
    with GatewayProcess(text, tmp_path) as gateway:
        moved = get(gateway.url("/myapp?x=1"), allow_redirects=False)
        assert (moved.status_code, moved.headers["Location"]) == (308, "/myapp/?x=1")
        with view_page(gateway.url("/myapp/recorder")) as view:
            assert view.socket.pull_document()["title"] == "Recorder"
