"""The time of day jumps by an hour: only what has a date, such as a token, takes any notice."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from bokeh_gateway.control.recycling import LOOK_EVERY
from tests.faults.test_recycling import config
from tests.faults.test_reload import Reloaded
from tests.support.bokeh_client import BokehSocket, get, page_token, view_page, websocket_url
from tests.support.ctl import workers
from tests.support.processes import ROOT
from tests.support.scrape import total
from tests.support.talkers import EchoServer, Talkers
from tests.support.waiting import wait_until

SHIFTED = Path(__file__).parents[1] / "support" / "shifted"
HOUR = 3600


@pytest.fixture(scope="module")
def echo() -> Iterator[EchoServer]:
    with EchoServer() as server:
        yield server


def test_a_clock_that_jumps_closes_nothing_and_new_pages_come(echo: EchoServer, tmp_path: Path) -> None:
    """A page whose WebSocket was still to come has a token that is too old now, and is told so.

    Of the gateway and of its workers, as they are on one machine; recycling by age goes by another clock.
    """
    clock = tmp_path / "clock"
    clock.write_text("0")
    path = os.pathsep.join((str(SHIFTED), str(ROOT)))
    text = config(
        'max_age = "40 min"\nmax_served = 1000',
        more=f'[pool.echo]\nkind = "http"\nservers = ["127.0.0.1:{echo.port}"]\n'
        '[[route]]\npool = "apps"\n[[route]]\npath = "/talk"\npool = "echo"\n',
    )
    gateway = Reloaded(text, tmp_path, env={"PYTHONPATH": path, "TEST_CLOCK": str(clock)})
    with gateway, ExitStack() as stack:
        url = gateway.url("/recorder")
        talkers = stack.enter_context(Talkers(gateway.url("/talk").replace("http", "ws"), 5))
        view = stack.enter_context(view_page(url))
        waiting = page_token(get(url).text)
        processes = gateway.workers(), {process.pid for process in gateway.processes()}
        for jump in (HOUR, -HOUR, 0):
            clock.write_text(str(jump))
            talkers.wait_round()
            assert view.socket.pull_document()["title"] == "Recorder"
            if jump == HOUR:
                with pytest.raises(InvalidStatus) as refused:
                    BokehSocket(websocket_url(url), waiting)
                assert refused.value.response.status_code == 401
            with view_page(url) as later:
                assert later.socket.pull_document()["title"] == "Recorder"
            since = time.monotonic()
            wait_until(lambda since=since: time.monotonic() > since + LOOK_EVERY + 1, "ages are looked at")
            assert (gateway.workers(), {process.pid for process in gateway.processes()}) == processes
        assert total(gateway.metrics_port, "tunnels_open") == 6
        assert set(workers(gateway.config_path)) == {"apps/1", f"echo/127.0.0.1:{echo.port}"}
        talkers.wait_round()
        hours = {line.split(":")[1] for line in gateway.access_log() if '"GET /recorder HTTP' in line}
        assert len(hours) >= 3, "all of it saw the clock jump"
    assert talkers.score.wrong == []
