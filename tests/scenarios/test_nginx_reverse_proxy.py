"""The guide's nginx `server` block: with the gateway in nginx's place, and nginx in front of the gateway."""

from __future__ import annotations

from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.support.bokeh_client import BokehSocket, get, page_token, view_page, websocket_url
from tests.support.gateway import GatewayProcess
from tests.support.nginx import Nginx
from tests.support.workers import BokehWorker, RunRecord, servers

GUIDE = """
server {
    listen 127.0.0.1:PORT default_server;
    server_name _;
    location / {
        proxy_pass http://127.0.0.1:UPSTREAM;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection "upgrade";
        proxy_http_version 1.1;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header Host $host:$server_port;
        proxy_buffering off;
    }
}
"""


def _config(workers: list[BokehWorker], more: str = "") -> str:
    return f'[gateway]\nlisten = ["127.0.0.1:0"]\n{more}[pool.apps]\nservers = {servers(workers)}\n'


def test_the_gateway_in_place_of_nginx(three_workers: list[BokehWorker], run_record: RunRecord, tmp_path: Path) -> None:
    """WS-02: what nginx sets by hand for the worker, or forgets to, is there: the client's address, host and port."""
    with GatewayProcess(_config(three_workers), tmp_path) as gateway, view_page(gateway.url("/recorder")) as view:
        assert view.socket.pull_document()["title"] == "Recorder"
        (run,) = run_record.runs()
        assert run.headers["x-forwarded-for"] == "127.0.0.1"
        assert run.remote["host"] == f"127.0.0.1:{gateway.port}"


def test_nginx_in_front_as_a_trusted_proxy(
    three_workers: list[BokehWorker], run_record: RunRecord, tmp_path: Path
) -> None:
    """The worker hears of the client's address that nginx forwards."""
    with (
        GatewayProcess(_config(three_workers, 'trusted_proxies = ["127.0.0.1"]\n'), tmp_path) as gateway,
        Nginx(tmp_path, GUIDE.replace("UPSTREAM", str(gateway.port))) as nginx,
    ):
        url = f"http://127.0.0.1:{nginx.port}/recorder"
        with view_page(url, headers={"X-Forwarded-For": "192.0.2.7"}) as view:
            assert view.socket.pull_document()["title"] == "Recorder"
        (run,) = run_record.runs()
        assert run.headers["x-forwarded-for"] == "192.0.2.7, 127.0.0.1, 127.0.0.1"
        assert run.remote["host"] == f"127.0.0.1:{nginx.port}"


def test_an_nginx_that_tells_no_host_is_explained(three_workers: list[BokehWorker], tmp_path: Path) -> None:
    """WS-02: without `proxy_set_header Host` the origin is not the Host that arrives: 403 with the line to write."""
    block = GUIDE.replace("proxy_set_header Host $host:$server_port;", "proxy_set_header Host internal.test;")
    with (
        GatewayProcess(_config(three_workers), tmp_path) as gateway,
        Nginx(tmp_path, block.replace("UPSTREAM", str(gateway.port))) as nginx,
    ):
        url = f"http://127.0.0.1:{nginx.port}/recorder"
        token = page_token(get(url).text)
        with pytest.raises(InvalidStatus) as refused:
            BokehSocket(websocket_url(url), token, origin="http://dash.test")
        assert refused.value.response.status_code == 403
        assert b"dash.test" in (refused.value.response.body or b"")
