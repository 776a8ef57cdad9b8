"""Standalone server: one `bokeh serve` at its usual port, the gateway in front of it with a file of four lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.bokeh_client import get, view_page
from tests.support.gateway import GatewayProcess
from tests.support.waiting import wait_until
from tests.support.workers import BokehWorker, RunRecord


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_page_with_its_websocket_and_a_moved_slider(
    three_workers: list[BokehWorker], run_record: RunRecord, tmp_path: Path, host: str
) -> None:
    """The worker was told of no origin, and its app runs once for the page and its WebSocket."""
    text = f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nservers = ["{three_workers[0].address}"]\n'
    with (
        GatewayProcess(text, tmp_path) as gateway,
        view_page(gateway.url("/recorder", host)) as view,
    ):
        document = view.socket.pull_document()
        slider, said = view.socket.find("Slider", document), view.socket.find("Div", document)
        assert said["attributes"]["text"] == "factor 1"
        view.socket.set_property(slider["id"], "value", 4)
        wait_until(
            lambda: view.socket.find("Div")["attributes"]["text"].startswith("factor 4 from "), "the callback's text"
        )
        assert len(run_record.runs()) == 1


def test_the_only_app_is_found_from_the_root(three_workers: list[BokehWorker], tmp_path: Path) -> None:
    text = f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nservers = ["{three_workers[0].address}"]\n'
    with GatewayProcess(text, tmp_path) as gateway:
        found = get(gateway.url("/"))
        assert found.url == gateway.url("/recorder")
        assert found.status_code == 200
