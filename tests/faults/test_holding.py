"""Requests wait for a worker that starts or restarts; with real workers that are killed and stopped."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from tests.support.bokeh_client import get, view_page
from tests.support.gateway import GatewayProcess
from tests.support.processes import wait_port
from tests.support.waiting import wait_until
from tests.support.workers import APPS, bokeh_workers, servers

SUPERVISED = f"""
[gateway]
listen = ["127.0.0.1:0"]

[pool.demo]
serve = ["{APPS / "template.py"}"]
workers = WORKERS
hold = "40 s"
"""


def workers_of(gateway: GatewayProcess) -> list[int]:
    """Process ids of the workers, found by their command line."""
    found = psutil.Process(gateway.pid).children(recursive=True)
    return [child.pid for child in found if "--unix-socket" in " ".join(child.cmdline())]


def test_wf01_pages_of_a_killed_worker_wait_for_the_next_one(tmp_path: Path) -> None:
    """The only one there is: all that a browser sees is a page that took a second longer."""
    with GatewayProcess(SUPERVISED.replace("WORKERS", "1"), tmp_path) as gateway:
        view_page(gateway.url("/template")).close()
        (worker,) = workers_of(gateway)
        os.kill(worker, signal.SIGKILL)
        with ThreadPoolExecutor(4) as pool:
            views = list(pool.map(lambda _: view_page(gateway.url("/template")), range(4)))
        for view in views:
            view.close()
        assert "requests wait for one up to [pool.demo] hold = 40 s" in gateway.stderr


def test_pages_wait_while_the_first_worker_starts(tmp_path: Path) -> None:
    gateway = GatewayProcess(SUPERVISED.replace("WORKERS", "1"), tmp_path)
    gateway.launch()
    try:
        wait_port(gateway.port, gateway)
        assert "bokeh-gateway ready" not in gateway.stderr
        assert get(gateway.url("/template")).status_code == 200
        gateway.wait_ready()
        gateway.stop()
    finally:
        gateway.kill()


def test_wf09_a_worker_whose_loop_is_blocked_gets_no_new_sessions(tmp_path: Path) -> None:
    """Stopped by SIGSTOP it takes connections still, as the kernel does that, and answers nothing."""
    with bokeh_workers(2, tmp_path) as workers:
        text = f"""
[gateway]
listen = ["127.0.0.1:0"]
[pool.apps]
servers = {servers(workers)}
[pool.apps.health]
interval = "200 ms"
max_lag = "1 s"
timeout = "2 s"
"""
        with GatewayProcess(text, tmp_path / "gw") as gateway:
            os.kill(workers[0].pid, signal.SIGSTOP)
            try:
                wait_until(lambda: "its loop is blocked" in gateway.stderr, "the lag is seen")
                for _ in range(6):
                    view_page(gateway.url("/recorder")).close()
                wait_until(lambda: "health.fall" in gateway.stderr, "it is out of use in the end")
            finally:
                os.kill(workers[0].pid, signal.SIGCONT)
            wait_until(lambda: "answers again" in gateway.stderr, "it comes back")
