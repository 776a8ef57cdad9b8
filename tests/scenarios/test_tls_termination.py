"""TLS with a certificate, a key apart and its password; in the file, or in the variables that `bokeh serve` reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.bokeh_client import view_page
from tests.support.certificates import make_certificate
from tests.support.gateway import GatewayProcess
from tests.support.workers import BokehWorker, RunRecord, servers


@pytest.mark.parametrize("where", ["file", "environment"])
def test_pages_and_websockets_over_tls(
    three_workers: list[BokehWorker], run_record: RunRecord, tmp_path: Path, where: str
) -> None:
    """https and wss, to workers that speak neither; they are told of it."""
    files = make_certificate(tmp_path / "tls", password="open sesame")
    text = f'[gateway]\nlisten = []\n[tls]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nservers = {servers(three_workers)}\n'
    if where == "file":
        lines = f'certfile = "{files.certfile}"\nkeyfile = "{files.keyfile}"\npassword = "${{BOKEH_SSL_PASSWORD}}"\n'
        text = text.replace("[tls]\n", f"[tls]\n{lines}")
        env = {"BOKEH_SSL_PASSWORD": "open sesame"}
    else:
        env = {
            "BOKEH_SSL_CERTFILE": str(files.certfile),
            "BOKEH_SSL_KEYFILE": str(files.keyfile),
            "BOKEH_SSL_PASSWORD": "open sesame",
        }
    with (
        GatewayProcess(text, tmp_path, env=env) as gateway,
        view_page(gateway.https("/recorder"), verify=str(files.authority), tls=files.client) as view,
    ):
        assert view.socket.pull_document()["title"] == "Recorder"
        assert view.response.url.startswith("https:")
    assert [run.remote["protocol"] for run in run_record.runs()] == ["https"]
    assert "open sesame" not in gateway.stderr + gateway.stdout
