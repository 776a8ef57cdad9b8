"""nginx with SSL as the guide has it: plain requests are redirected, browsers told to stay, workers told of https."""

from __future__ import annotations

from pathlib import Path

from tests.support.bokeh_client import get, view_page
from tests.support.certificates import Certificate
from tests.support.gateway import GatewayProcess
from tests.support.workers import BokehWorker, RunRecord, servers


def test_redirect_hsts_and_xheaders(
    three_workers: list[BokehWorker], run_record: RunRecord, certificate: Certificate, tmp_path: Path
) -> None:
    """TL-05: links with http:// in them arrive, query and all; the ready line names what a browser can open (OB-03)."""
    text = (
        f'[gateway]\nlisten = ["127.0.0.1:0"]\n[tls]\nlisten = ["127.0.0.1:0"]\ncertfile = "{certificate.certfile}"\n'
        f'keyfile = "{certificate.keyfile}"\nredirect_http = true\nhsts = "365 days"\n'
        f"[pool.apps]\nservers = {servers(three_workers)}\n"
    )
    with GatewayProcess(text, tmp_path) as gateway:
        assert "https://" in gateway.ready_line
        path = "/recorder/autoload.js?bokeh-autoload-element=e1&x=a%20b"
        moved = get(gateway.url(path, "localhost"), allow_redirects=False)
        assert (moved.status_code, moved.headers["Location"]) == (308, gateway.https(path))
        assert not run_record.runs()
        with view_page(gateway.https("/recorder"), verify=str(certificate.authority), tls=certificate.client) as view:
            assert view.socket.pull_document()["title"] == "Recorder"
            assert view.response.headers["Strict-Transport-Security"] == "max-age=31536000"
        (run,) = run_record.runs()
        assert run.remote["protocol"] == "https"
        assert run.remote["remote_ip"] == "127.0.0.1"
        assert run.headers["x-forwarded-proto"] == "https"
