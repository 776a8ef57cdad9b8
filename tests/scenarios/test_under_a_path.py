"""The guide's balancers below `/myapp`: WebSocket and HTTP by one route, to workers that know of it or not."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urljoin

from tests.support.bokeh_client import get, view_page
from tests.support.gateway import GatewayProcess
from tests.support.workers import APPS, BokehWorker, RunRecord, bokeh_workers, servers

ROUTE = """
[gateway]
listen = ["127.0.0.1:0"]
[pool.apps]
servers = {servers}
prefix = "{prefix}"
[[route]]
path = "/sub/"
pool = "apps"
strip_prefix = {strip}
"""


def test_workers_that_know_the_prefix(tmp_path: Path) -> None:
    """SP-08: `bokeh serve --prefix /sub`: every link of the index and every asset resolves, and no path is doubled."""
    record = RunRecord(tmp_path / "runs")
    second = tmp_path / "second.py"
    second.write_text("from bokeh.plotting import curdoc\ncurdoc().title = 'second'\n")
    with bokeh_workers(2, tmp_path, APPS / "recorder.py", second, env=record.environment, prefix="/sub") as workers:
        text = ROUTE.format(servers=servers(workers), prefix="/sub", strip="false")
        with GatewayProcess(text, tmp_path) as gateway:
            _check_links(gateway)
            for _ in range(4):
                with view_page(gateway.url("/sub/recorder")) as view:
                    assert view.socket.pull_document()["title"] == "Recorder"
            assert len({run.session_id for run in record.runs()}) == len(record.runs())


def test_workers_that_do_not(three_workers: list[BokehWorker], run_record: RunRecord, tmp_path: Path) -> None:
    """The prefix is taken off, and the worker told of it."""
    text = ROUTE.format(servers=servers(three_workers), prefix="", strip="true")
    with GatewayProcess(text, tmp_path) as gateway, ExitStack() as stack:
        for _ in range(9):
            view = stack.enter_context(view_page(gateway.url("/sub/recorder")))
            for script in re.findall(r'<script[^>]* src="([^"]+)"', view.response.text)[:2]:
                assert get(urljoin(view.response.url, script)).status_code == 200
        runs = run_record.runs()
        assert len(runs) == 9
        assert {run.headers["x-forwarded-prefix"] for run in runs} == {"/sub"}


def test_the_index_of_a_stripped_mount(tmp_path: Path) -> None:
    """SP-08, SP-11: Bokeh's index links from the root of the host, which is another site's."""
    record = RunRecord(tmp_path / "runs")
    second = tmp_path / "second.py"
    second.write_text("from bokeh.plotting import curdoc\ncurdoc().title = 'second'\n")
    with bokeh_workers(1, tmp_path, APPS / "recorder.py", second, env=record.environment) as workers:
        text = ROUTE.format(servers=servers(workers), prefix="", strip="true")
        with GatewayProcess(text, tmp_path) as gateway:
            _check_links(gateway)


def _check_links(gateway: GatewayProcess) -> None:
    index = get(gateway.url("/sub"))
    assert index.url == gateway.url("/sub/")
    links = re.findall(r'<a[^>]* href="([^"]*)"', index.text)
    own = [urljoin(index.url, link) for link in links if urljoin(index.url, link).startswith(gateway.url("/"))]
    assert {link.rpartition("/")[2] for link in own} >= {"recorder", "second"}, links
    for link in own:
        assert link.startswith(gateway.url("/sub/"))
        assert "/sub/sub" not in link
        assert get(link).status_code == 200
