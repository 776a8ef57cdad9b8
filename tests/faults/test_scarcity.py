"""No descriptors, no room on the disk: accepting pauses and resumes, lines are dropped and counted, nothing spins."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import psutil
import pytest
import requests

from tests.faults.test_reload import Reloaded, config
from tests.support.bokeh_client import get
from tests.support.scrape import total
from tests.support.talkers import EchoServer, Talkers
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def echo() -> Iterator[EchoServer]:
    with EchoServer() as server:
        yield server


def mover(gateway: Reloaded) -> psutil.Process:
    (process,) = [p for p in gateway.processes() if "bokeh_gateway.process" in " ".join(p.cmdline())]
    return process


def answers(url):
    """A connection that comes while there is still no descriptor is reset."""
    try:
        return get(url).status_code
    except requests.ConnectionError:
        return None


def test_without_descriptors_accepting_pauses_and_resumes(echo, tmp_path):
    with Reloaded(config(echo), tmp_path) as gateway, Talkers(gateway.url().replace("http", "ws"), 3) as talkers:
        process = mover(gateway)
        process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds() + 5, 4096))
        with ExitStack() as stack:
            for _ in range(30):
                stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=10))
            wait_until(lambda: process.num_fds() >= process.rlimit(psutil.RLIMIT_NOFILE)[0], "no descriptor is left")
            talkers.wait_round()
            before, began = sum(process.cpu_times()[:2]), time.monotonic()
            wait_until(lambda: time.monotonic() - began > 2, "two seconds pass", within=10)
            spent = sum(process.cpu_times()[:2]) - before
            assert spent < 1.0, "it waits for a descriptor, and does not spin"
        wait_until(lambda: answers(gateway.url()), "it accepts again")
        talkers.wait_round()
        gateway.assert_no_traceback()
    assert talkers.score.wrong == []


def test_a_full_disk_under_the_log_stops_nothing(echo, tmp_path):
    text = config(echo, more='[log]\naccess = "/dev/full"\n')
    with Reloaded(text, tmp_path) as gateway, Talkers(gateway.url().replace("http", "ws"), 3) as talkers:
        for _ in range(20):
            assert get(gateway.url()).status_code
        gateway.wait_for_output("lines dropped since the start")
        wait_until(lambda: total(gateway.metrics_port, "log_lines_dropped_total") >= 20, "dropped lines are counted")
        talkers.wait_round()
        assert gateway.stderr.count("lines dropped") == 1, "said once a minute at most"
    assert talkers.score.wrong == []
