"""Large headers: no large_client_header_buffers; what is over the limit is refused with its size and the limit."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.support.bokeh_client import get, page_token, view_page
from tests.support.gateway import GatewayProcess
from tests.support.workers import BokehWorker, servers


def _config(workers: list[BokehWorker]) -> str:
    return f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nservers = {servers(workers)}\n'


def test_a_token_of_many_cookies(three_workers: list[BokehWorker], tmp_path: Path) -> None:
    """32 KB of cookies on the page make a token that nginx's defaults refuse; the WebSocket opens all the same."""
    with (
        GatewayProcess(_config(three_workers), tmp_path) as gateway,
        view_page(gateway.url("/recorder"), headers={"Cookie": f"big={secrets.token_hex(16_000)}"}) as view,
    ):
        assert len(view.socket.token) > 20_000
        assert view.socket.pull_document()["title"] == "Recorder"


def test_a_header_over_the_limit_is_named_with_its_size(three_workers: list[BokehWorker], tmp_path: Path) -> None:
    with GatewayProcess(_config(three_workers), tmp_path) as gateway:
        token = page_token(get(gateway.url("/recorder")).text)
        with pytest.raises(InvalidStatus) as refused:
            connect(
                gateway.url("/recorder/ws").replace("http", "ws"),
                subprotocols=["bokeh", token + "A" * 300_000],  # type: ignore[list-item]
                proxy=None,
            )
        answer = refused.value.response
        assert answer.status_code == 431
        gateway.wait_for_output("header_size")
        assert b"header_size" in (answer.body or b"")
