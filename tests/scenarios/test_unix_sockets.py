"""Workers on unix sockets: they check no origins, so the gateway does."""

from __future__ import annotations

from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.support.bokeh_client import BokehSocket, get, page_token, view_page, websocket_url
from tests.support.gateway import GatewayProcess
from tests.support.workers import RunRecord, bokeh_workers, servers


def test_pages_websockets_and_origins(tmp_path: Path) -> None:
    """OR-02: an allowed origin gets in, another one does not, and the workers have nothing to refuse."""
    record = RunRecord(tmp_path / "runs")
    with bokeh_workers(2, tmp_path, unix=True, env=record.environment) as workers:
        text = (
            f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nservers = {servers(workers)}\n'
            '[origins]\nallow = ["https://acme.test"]\n'
        )
        with GatewayProcess(text, tmp_path) as gateway:
            for _ in range(6):
                with view_page(gateway.url("/recorder")) as view:
                    assert view.socket.pull_document()["title"] == "Recorder"
            runs = record.runs()
            assert len(runs) == 6
            assert len({run.pid for run in runs}) == 2
            token = page_token(get(gateway.url("/recorder")).text)
            url = websocket_url(gateway.url("/recorder"))
            with pytest.raises(InvalidStatus) as refused:
                BokehSocket(url, token, origin="https://evil.test")
            assert refused.value.response.status_code == 403
            BokehSocket(url, token, origin="https://acme.test").close()
        assert not any("Refusing" in worker.stderr for worker in workers)
