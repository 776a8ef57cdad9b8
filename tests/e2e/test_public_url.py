"""`public_url` with a path, as behind a hub: pages and scripts name it in their URLs; what a start says of the apps."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.bokeh_client import get, view_page
from tests.support.certificates import Certificate
from tests.support.gateway import GatewayProcess
from tests.support.workers import APPS, RunRecord


def test_urls_begin_with_the_public_one(tmp_path: Path) -> None:
    """SP-13: those of autoload.js; the page and its WebSocket work below the path; the ready line says it (OB-03)."""
    record = RunRecord(tmp_path / "runs")
    text = f"""
[gateway]
listen = ["127.0.0.1:0"]
public_url = "https://hub.test/u/"
[pool.apps]
serve = ["{APPS / "recorder.py"}"]
"""
    with GatewayProcess(text, tmp_path, env=record.environment) as gateway:
        assert "https://hub.test/u/" in gateway.ready_line
        assert "bokeh-gateway app: https://hub.test/u/recorder\n" in gateway.stderr
        script = "/u/recorder/autoload.js?bokeh-autoload-element=e1&bokeh-app-path=/u/recorder"
        told = get(gateway.url(f"{script}&bokeh-absolute-url=https://hub.test/u/recorder"))
        urls = re.findall(r"https?://[^\"'\s]+/static/[^\"'\s]+", told.text)
        assert urls
        assert all(url.startswith("https://hub.test/u/static/") for url in urls), urls
        for url in urls:
            assert get(gateway.url(url.removeprefix("https://hub.test"))).status_code == 200
        with view_page(gateway.url("/u/recorder")) as view:
            assert view.socket.pull_document()["title"] == "Recorder"
        assert {run.remote["protocol"] for run in record.runs()} == {"https"}
        assert {run.headers["x-forwarded-host"] for run in record.runs()} == {"hub.test"}


def test_ob_03_a_start_names_each_app_as_browsers_reach_it(certificate: Certificate, tmp_path: Path) -> None:
    """With https, by a name that the certificate has, before the ready line; and the first of them opens."""
    text = f"""
[gateway]
listen = []
[tls]
listen = ["127.0.0.1:0"]
certfile = "{certificate.certfile}"
keyfile = "{certificate.keyfile}"
[pool.apps]
serve = ["{APPS / "recorder.py"}", "{APPS / "template.py"}"]
[[route]]
path = "/dash"
pool = "apps"
strip_prefix = true
"""
    with GatewayProcess(text, tmp_path) as gateway:
        before = gateway.stderr.partition("bokeh-gateway ready:")[0]
        urls = re.findall(r"^bokeh-gateway app: (.*)$", before, re.MULTILINE)
        assert urls == [gateway.https(f"/dash/{app}") for app in ("recorder", "template")]
        assert get(urls[0], verify=str(certificate.authority)).status_code == 200
