"""What all gateway processes know of sessions, when one of them is killed and when the program is executed anew."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from bokeh.util.token import generate_session_id

from tests.support.bokeh_client import BokehSocket, get, page_token, websocket_url
from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port
from tests.support.scrape import total
from tests.support.steer import connection_to, get_through, movers
from tests.support.waiting import wait_until
from tests.support.workers import BokehWorker, RunRecord, bokeh_workers, servers


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return RunRecord(tmp_path_factory.mktemp("record") / "runs")


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory, record: RunRecord) -> Iterator[list[BokehWorker]]:
    """They keep sessions for longer than a slow machine needs to come back."""
    arguments = ["--unused-session-lifetime", "60000"]
    with bokeh_workers(2, tmp_path_factory.mktemp("workers"), env=record.environment, arguments=arguments) as running:
        yield running


def config(workers: list[BokehWorker]) -> str:
    return f"""
[gateway]
listen = ["127.0.0.1:0"]
processes = 2
[pool.apps]
servers = {servers(workers)}
unused_session_lifetime = "60 s"
[metrics]
listen = ["127.0.0.1:{free_port()}"]
"""


def metrics_port(gateway: GatewayProcess) -> int:
    return int(gateway.config["metrics"]["listen"][0].rpartition(":")[2])


def external(count: int) -> list[str]:
    return [generate_session_id(signed=False) for _ in range(count)]


def test_after_a_kill_sums_are_the_truth_and_sessions_are_found(workers, record, tmp_path):
    """The killed one had served pages, and had WebSockets of pages that the other one served."""
    record.mark()
    with GatewayProcess(config(workers), tmp_path) as gateway, ExitStack() as stack:
        victim, other = movers(gateway)
        port, url = metrics_port(gateway), gateway.url("/recorder")
        where, ids, tokens = websocket_url(url), external(8), []
        for number, one in enumerate(ids):
            process = victim if number % 2 else other
            page = get(url, headers={"Bokeh-Session-Id": one})
            tokens.append(page_token(page.text))
            stack.callback(BokehSocket(where, tokens[-1], sock=connection_to(gateway, process)).connection.close)
        assert sorted(Counter(run.pid for run in record.runs()).values()) == [4, 4]
        wait_until(lambda: total(port, "tunnels_open") == 8, "all are open")
        assert total(port, "pages_waiting") == 0, "whichever process served the page"
        for process, count in ((victim, 2), (other, 1)):
            for one in external(count):
                assert get_through(gateway, process, "/recorder", {"Bokeh-Session-Id": one}).status == 200
        assert total(port, "pages_waiting") == 3
        os.kill(victim.pid, signal.SIGKILL)
        gateway.wait_for_output("it is replaced")
        wait_until(lambda: total(port, "tunnels_open") == 4, "those of the killed process are not counted")
        assert total(port, "pages_waiting") <= 1
        for token in tokens[1::2]:
            stack.callback(BokehSocket(where, token).connection.close)
        assert total(port, "tunnels_open") == 8
        assert len(record.runs()) == 11, "they came back to where they live"
        wait_until(lambda: total(port, "pages_waiting") == 0, "the other's pages are given up")
        record.mark()
        for one in external(8):
            page = get(url, headers={"Bokeh-Session-Id": one})
            stack.callback(BokehSocket(where, page_token(page.text)).connection.close)
        assert sorted(Counter(run.pid for run in record.runs()).values()) == [4, 4]


def test_an_upgrade_forgets_no_placement(workers, record, tmp_path):
    """Pages whose WebSockets come to the new program, and sessions that come back to it."""
    record.mark()
    with GatewayProcess(config(workers), tmp_path) as gateway:
        url = gateway.url("/recorder")
        pages = [get(url, headers={"Bokeh-Session-Id": one}).text for one in external(12)]
        assert sorted(Counter(run.pid for run in record.runs()).values()) == [6, 6]
        gateway.signal(signal.SIGUSR2)
        gateway.wait_for_output("upgrade: version")
        for page in pages:
            with BokehSocket(websocket_url(url), page_token(page)):
                pass
        assert len(record.runs()) == 12, "none ran twice"
