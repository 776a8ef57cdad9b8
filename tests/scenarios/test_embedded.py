"""`server_document` and `server_session` in a page of Flask on another origin, over three workers."""

from __future__ import annotations

from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.support.bokeh_client import BokehSocket, get, page_token, websocket_url
from tests.support.gateway import GatewayProcess
from tests.support.parent import TITLE, load_plot, serve_parent
from tests.support.ports import free_port
from tests.support.workers import BokehWorker, RunRecord, servers


def _config(workers: list[BokehWorker], parent: int) -> str:
    return (
        f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nservers = {servers(workers)}\n'
        f'[origins]\nallow = ["http://127.0.0.1:{parent}"]\n'
    )


def test_server_document(three_workers: list[BokehWorker], run_record: RunRecord, tmp_path: Path) -> None:
    """AF-09: each of ten embeddings runs the app once, with the parent's arguments, on the worker of its WebSocket."""
    port = free_port()
    with (
        GatewayProcess(_config(three_workers, port), tmp_path) as gateway,
        serve_parent(gateway.url("/recorder"), port),
    ):
        origin = f"http://127.0.0.1:{port}"
        for _ in range(10):
            script = load_plot(get(f"{origin}/document").text, origin)
            assert script.status_code == 200
            assert script.headers["Access-Control-Allow-Origin"] in ("*", origin)
            with BokehSocket(websocket_url(gateway.url("/recorder")), page_token(script.text), origin=origin) as socket:
                assert socket.pull_document()["title"] == "Recorder"
        runs = run_record.runs()
        assert len(runs) == 10
        assert {tuple(run.arguments["color"]) for run in runs} == {("teal",)}


def test_server_session(three_workers: list[BokehWorker], run_record: RunRecord, tmp_path: Path) -> None:
    """The session that the parent pulled and changed is the one that the browser gets, every time."""
    port = free_port()
    with (
        GatewayProcess(_config(three_workers, port), tmp_path) as gateway,
        serve_parent(gateway.url("/recorder"), port),
    ):
        origin = f"http://127.0.0.1:{port}"
        for _ in range(10):
            script = load_plot(get(f"{origin}/session").text, origin)
            with BokehSocket(websocket_url(gateway.url("/recorder")), page_token(script.text), origin=origin) as socket:
                assert socket.pull_document()["title"] == TITLE
        assert len(run_record.runs()) == 10


def test_a_parent_that_is_not_listed_is_refused(three_workers: list[BokehWorker], tmp_path: Path) -> None:
    """The refusal shows the origin and the line that would admit it."""
    with GatewayProcess(_config(three_workers, free_port()), tmp_path) as gateway:
        token = page_token(get(gateway.url("/recorder/autoload.js?bokeh-autoload-element=e1")).text)
        with pytest.raises(InvalidStatus) as refused:
            BokehSocket(websocket_url(gateway.url("/recorder")), token, origin="http://other.test:8000")
        assert refused.value.response.status_code == 403
        body = (refused.value.response.body or b"").decode()
        assert "other.test:8000" in body
        assert "allow" in body
