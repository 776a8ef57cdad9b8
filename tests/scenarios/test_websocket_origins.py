"""WebSocket origins: the guide's allowlist, kept by the gateway for workers that were told nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.support.bokeh_client import BokehSocket, get, page_token, websocket_url
from tests.support.gateway import GatewayProcess
from tests.support.workers import BokehWorker, servers

ALLOWED = ["http://acme.test", "https://acme.test", "https://a.plots.test:8443", "http://localhost:8080", None]
REFUSED = [
    "http://acme.test:81",
    "http://acme.test.evil.test",
    "http://evilacme.test",
    "https://plots.test:8443",
    "http://localhost:9",
    "null",
]


def test_who_may_open_a_websocket(three_workers: list[BokehWorker], tmp_path: Path) -> None:
    text = (
        f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nservers = {servers(three_workers)}\n'
        '[origins]\nallow = ["acme.test", "*.plots.test:8443", "127.0.0.1:8080"]\n'
    )
    with GatewayProcess(text, tmp_path) as gateway:
        page = gateway.url("/recorder")
        url = websocket_url(page)
        for origin in ALLOWED:
            BokehSocket(url, page_token(get(page).text), origin=origin).close()
        for origin in REFUSED:
            with pytest.raises(InvalidStatus) as refused:
                BokehSocket(url, page_token(get(page).text), origin=origin)
            assert refused.value.response.status_code == 403, origin
            assert origin.encode() in (refused.value.response.body or b"")
            gateway.wait_for_output(origin)
