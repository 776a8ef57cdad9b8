"""Workers that the gateway runs and that stop for a while, or die in the middle of an answer.

`STOPPED_FOR=20` gives the time for which a worker is stopped, in seconds.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from tests.faults.test_recycling import config, serving
from tests.faults.test_reload import Reloaded
from tests.support.bokeh_client import get, view_page
from tests.support.page_load import PageLoad
from tests.support.waiting import GENEROUS, wait_until
from tests.support.workers import APPS

STOPPED_FOR = float(os.environ.get("STOPPED_FOR", "4"))


def test_a_worker_that_answers_half_and_dies_is_seen_as_cut_and_the_next_page_waits_for_its_return(
    tmp_path: Path,
) -> None:
    mood = tmp_path / "mood"
    mood.write_text("half")
    text = config(f'command = ["python", "{APPS / "moody.py"}", "{mood}"]')
    with Reloaded(text, tmp_path) as gateway:
        url = gateway.url("/recorder")
        first = gateway.workers()
        with pytest.raises(requests.RequestException):  # the length was told, and less came
            get(url)
        mood.unlink()
        with view_page(url) as view:
            assert view.socket.pull_document()["title"] == "Recorder"
        assert first.keys().isdisjoint(gateway.workers())
        gateway.wait_for_output("worker apps/1: ended by killed by SIGKILL")


def test_a_worker_that_is_stopped_for_a_while_fails_no_page_view_and_keeps_its_websockets(tmp_path: Path) -> None:
    text = config("workers = 2").replace(
        'max_lag = "60 s"', f'interval = "200 ms"\nmax_lag = "1 s"\n# {STOPPED_FOR:g} s are no reason to give it up\n#'
    )
    with Reloaded(text, tmp_path) as gateway, ExitStack() as stack:
        url = gateway.url("/recorder")
        views = [stack.enter_context(view_page(url)) for _ in range(2)]
        stopped = min(gateway.workers())
        load = stack.enter_context(PageLoad(url, threads=4, a_minute=120))
        os.kill(stopped, signal.SIGSTOP)
        try:
            gateway.wait_for_output("its loop is blocked")
            since, count = time.monotonic(), len(load.done)
            wait_until(lambda: time.monotonic() - since > STOPPED_FOR, "it stands still", STOPPED_FOR + GENEROUS)
            assert len(load.done) > count, "the other one serves"
        finally:
            os.kill(stopped, signal.SIGCONT)
        gateway.wait_for_output("its loop is free again")
        for view in views:
            assert view.socket.pull_document()["title"] == "Recorder"
        wait_until(lambda: len(serving(gateway)) == 2, "both serve")
        stack.close()
        print(f"\na worker stopped for {STOPPED_FOR:g} s: {len(load.done)} page views, {len(load.failed)} failed")
        assert load.failed == []
        assert stopped in gateway.workers()
