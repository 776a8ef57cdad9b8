"""One host for a site and the plots in its pages: Flask at /, Bokeh below /bk, on unix sockets that no browser sees."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.bokeh_client import BokehSocket, get, page_token, websocket_url
from tests.support.gateway import GatewayProcess
from tests.support.parent import load_plot, serve_parent
from tests.support.ports import free_port
from tests.support.workers import RunRecord, bokeh_workers, servers


@pytest.mark.parametrize("strip", [False, True], ids=["workers-know", "stripped"])
def test_a_page_of_the_site_embeds_an_app(tmp_path: Path, strip: bool) -> None:
    """EM-01, EM-02, SP-02: page, autoload.js, each script that it names, and WebSocket are all at the one address."""
    record = RunRecord(tmp_path / "runs")
    parent = free_port()
    with bokeh_workers(2, tmp_path, unix=True, env=record.environment, prefix="" if strip else "/bk") as workers:
        text = f"""
[gateway]
listen = ["127.0.0.1:0"]
[pool.site]
kind = "http"
servers = ["127.0.0.1:{parent}"]
[pool.plots]
servers = {servers(workers)}
prefix = "{"" if strip else "/bk"}"
[[route]]
path = "/"
pool = "site"
[[route]]
path = "/bk"
pool = "plots"
strip_prefix = {str(strip).lower()}
"""
        gateway = GatewayProcess(text, tmp_path)
        with serve_parent(gateway.url("/bk/recorder"), parent), gateway:
            origin = gateway.url("").rstrip("/")
            assert get(gateway.url("/")).text == "the parent's own page"
            script = load_plot(get(gateway.url("/document")).text, origin)
            assert script.status_code == 200
            urls = set(re.findall(r"https?://[^\"'\s\\]+", script.text))
            assert [url for url in urls if "127.0.0.1" in url and not url.startswith(f"{origin}/")] == []
            assets = [url for url in urls if "/static/" in url]
            assert assets
            for url in assets:
                assert get(url).status_code == 200, url
            with BokehSocket(websocket_url(gateway.url("/bk/recorder")), page_token(script.text), origin=origin) as app:
                assert app.pull_document()["title"] == "Recorder"
        assert len(record.runs()) == 1
