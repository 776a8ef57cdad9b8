"""`bokeh-gateway check URL` goes a browser's way to a page, and says which hop fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.gateway import GatewayProcess
from tests.support.processes import clean_environment
from tests.support.workers import BokehWorker, servers


def check(url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bokeh_gateway.cli", "check", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean_environment(), check=False)


def test_each_hop_is_said(three_workers: list[BokehWorker], tmp_path: Path) -> None:
    """WS-03: GET, token, WebSocket and document, each with its outcome."""
    text = f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nservers = {servers(three_workers)}\n'
    with GatewayProcess(text, tmp_path) as gateway:
        good = check(gateway.url("/recorder"))
        assert good.returncode == 0, good.stderr
        for hop in ("GET 200", "token ", "WebSocket 101", "PULL-DOC "):
            assert hop in good.stdout
        missing = check(gateway.url("/nothing"))
        assert missing.returncode == 1
        assert "GET failed" in missing.stderr
        assert "404" in missing.stderr
        page = check(gateway.url("/recorder/metadata"))
        assert page.returncode == 1
        assert "token failed" in page.stderr


def test_nobody_listens() -> None:
    refused = check("http://127.0.0.1:1/app")
    assert refused.returncode == 1
    assert "GET failed" in refused.stderr
    assert "Traceback" not in refused.stderr
