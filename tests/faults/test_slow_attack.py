"""2,000 connections that send slow headers: a normal client notices next to nothing.

The figures are printed: `python -m pytest tests/faults/test_slow_attack.py -s`.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.bokeh_client import view_page
from tests.support.gateway import MIB, GatewayProcess, high_water
from tests.support.processes import Process
from tests.support.waiting import wait_until
from tests.support.workers import BokehWorker, servers

CONNECTIONS = 2000
MOST_MEMORY = 100 * MIB


class Attack(Process):
    """Ready when all its connections are open."""

    def __init__(self, folder: Path, port: int) -> None:
        command = [sys.executable, "-m", "tests.support.slow_headers", str(port), str(CONNECTIONS), "600"]
        super().__init__("attack", command, folder, {"PYTHONPATH": str(ROOT)})

    def wait_ready(self) -> None:
        wait_until(lambda: "attacking" in self.stdout, "all connections are open")


def view_time(gateway: GatewayProcess, seconds: float) -> float:
    """Median seconds of a page view, one after another: the page, its WebSocket, the document."""
    took: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(took) < 5:
        began = time.perf_counter()
        with view_page(gateway.url("/recorder")) as view:
            view.socket.pull_document()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def test_sl01_two_thousand_slow_heads(
    three_workers: list[BokehWorker], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A page view stays under twice its usual time, and the gateway's process under 100 MB.

    Long enough for all heads to reach their deadline once.  The machine may be busy with something else for a while:
    one fair comparison of three is enough.
    """
    text = f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nservers = {servers(three_workers)}\n'
    with GatewayProcess(text, tmp_path) as gateway:
        (mover,) = [one for one in gateway.processes() if "bokeh_gateway.process" in " ".join(one.cmdline())]
        gateway.forget_peak_memory()
        for _ in range(3):
            usual = view_time(gateway, 3)
            with Attack(tmp_path, gateway.port):
                during = view_time(gateway, 13)
                open_now = sum(one.status == "ESTABLISHED" for one in mover.net_connections("tcp"))
            if during < 2 * usual:
                break
        memory = high_water(mover.pid)
        ended = sum('" 408 ' in line for line in gateway.access_log())
        with capsys.disabled():
            print(
                f"\n{CONNECTIONS} slow heads ({open_now} connections open, {ended} ended with 408): "
                f"page view {1000 * during:.1f} ms, usually {1000 * usual:.1f} ms; {memory / MIB:.1f} MB at most"
            )
        assert ended >= CONNECTIONS
        assert open_now > CONNECTIONS / 2
        assert during < 2 * usual
        assert memory < MOST_MEMORY
