"""A page view is one run of the app on one worker, however many workers there are, and the workers share alike.

The figures are printed: `python -m pytest tests/e2e/test_one_session_one_worker.py -s`.
PAGE_VIEWS=120 makes every variant as long as the first one.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bokeh.client import pull_session
from bokeh.embed import server_session
from bokeh.util.token import generate_session_id

from tests.support.bokeh_client import BokehSocket, PageView, get, page_token, view_page, websocket_url
from tests.support.certificates import Certificate
from tests.support.gateway import GatewayProcess
from tests.support.workers import BokehWorker, RunRecord, bokeh_workers, servers

VIEWS = int(os.environ.get("PAGE_VIEWS", "120"))
SHORTER = int(os.environ.get("PAGE_VIEWS", "24"))
SIDE_BY_SIDE = 12
SECRET = "the-secret-that-workers-and-gateway-share"

REMEMBER = ["--unused-session-lifetime=3600000", "--check-unused-sessions=3600000"]
"""A worker that forgets a hundred sessions is blocked for a while, a minute on a busy machine."""

PLAIN = """
[gateway]
listen = ["127.0.0.1:0"]
[log]
access = "off"
[pool.apps]
health = { timeout = "90 s", max_lag = "60 s" }     # a busy machine is no reason to avoid a worker here
servers = {servers}
"""


@pytest.fixture(scope="module")
def signed_record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return RunRecord(tmp_path_factory.mktemp("signed-record") / "runs")


@pytest.fixture(scope="module")
def signed_workers(tmp_path_factory: pytest.TempPathFactory, signed_record: RunRecord) -> Iterator[list[BokehWorker]]:
    env = {"BOKEH_SECRET_KEY": SECRET, "BOKEH_SIGN_SESSIONS": "yes", **signed_record.environment}
    arguments = ["--session-ids", "external-signed", *REMEMBER]
    with bokeh_workers(3, tmp_path_factory.mktemp("signed"), env=env, arguments=arguments, prefix="/bk") as workers:
        yield workers


@pytest.fixture(scope="module")
def own_record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return RunRecord(tmp_path_factory.mktemp("own-record") / "runs")


@pytest.fixture(scope="module")
def own_workers(tmp_path_factory: pytest.TempPathFactory, own_record: RunRecord) -> Iterator[list[BokehWorker]]:
    """For this file alone."""
    with bokeh_workers(3, tmp_path_factory.mktemp("own"), env=own_record.environment, arguments=REMEMBER) as workers:
        yield workers


@dataclass
class Views:
    """Page views side by side, with what became of them."""

    record: RunRecord
    url: str
    options: dict[str, Any]

    def open(self, count: int, stack: ExitStack, ids: list[str] | None = None) -> list[PageView]:
        """`count` views, all of them open at the end."""

        def one(number: int) -> PageView:
            headers = {"Bokeh-Session-Id": ids[number]} if ids else {}
            return view_page(self.url, headers=headers, **self.options)

        with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
            views = list(threads.map(one, range(count)))
        for view in views:
            stack.callback(view.close)
        return views

    def figure(self, name: str, views: list[PageView]) -> Counter[int]:
        """Sessions per worker; every session ran once, and on the worker that holds its WebSocket."""
        runs = self.record.runs()
        sessions = Counter(run.session_id for run in runs)
        twice = sum(times - 1 for times in sessions.values())
        spread = Counter(run.pid for run in runs)
        per_worker = sorted(spread.values())
        print(f"\n{name}: {len(views)} page views, {len(runs)} runs, {twice} double, open per worker {per_worker}")
        assert (len(runs), twice) == (len(views), 0)
        assert set(sessions) == {view.session_id for view in views}
        return spread


@pytest.mark.parametrize(
    ("processes", "tls", "count"),
    [
        pytest.param(1, False, SHORTER, id="plain"),
        pytest.param(1, True, SHORTER, id="tls"),
        pytest.param(2, False, VIEWS, id="plain-two-processes"),
        pytest.param(2, True, SHORTER, id="tls-two-processes"),
    ],
)
def test_au05_external_ids_run_once_and_spread_evenly(
    processes: int,
    tls: bool,
    count: int,
    signed_workers: list[BokehWorker],
    signed_record: RunRecord,
    certificate: Certificate,
    tmp_path: Path,
) -> None:
    """Another application's ids go to the least loaded worker, and whichever process sees them later finds it."""
    text = (
        PLAIN.replace("{servers}", servers(signed_workers)).replace("[log]", f"processes = {processes}\n[log]", 1)
        + 'prefix = "/bk"\n[[route]]\npath = "/bk"\npool = "apps"\n'
        + f'[sessions]\nmode = "external-signed"\nsecret_key = "{SECRET}"\n'
    )
    signed_record.mark()
    options: dict[str, Any] = {}
    if tls:
        text += '[tls]\nlisten = ["127.0.0.1:0"]\n'
        text += f'certfile = "{certificate.certfile}"\nkeyfile = "{certificate.keyfile}"\n'
        options = {"verify": str(certificate.authority), "tls": certificate.client}
    with GatewayProcess(text, tmp_path) as gateway, ExitStack() as stack:
        ids = [generate_session_id(secret_key=SECRET.encode(), signed=True) for _ in range(count)]
        url = gateway.https("/bk/recorder") if tls else gateway.url("/bk/recorder")
        views = Views(signed_record, url, options)
        spread = views.figure("external-signed, prefix", views.open(count, stack, ids))
        assert len(spread) == 3
        assert max(spread.values()) - min(spread.values()) <= 1


def test_au05_without_an_id_or_with_a_forged_one_no_worker_is_asked(
    signed_workers: list[BokehWorker], signed_record: RunRecord, tmp_path: Path
) -> None:
    text = (
        PLAIN.replace("{servers}", servers(signed_workers))
        + 'prefix = "/bk"\n[[route]]\npath = "/bk"\npool = "apps"\n'
        + f'[sessions]\nmode = "external-signed"\nsecret_key = "{SECRET}"\n'
    )
    signed_record.mark()
    with GatewayProcess(text, tmp_path) as gateway:
        forged = generate_session_id(secret_key=b"another", signed=True)
        for headers in ({}, {"Bokeh-Session-Id": forged}, {"Bokeh-Session-Id": forged.partition(".")[0]}):
            assert get(gateway.url("/bk/recorder"), headers=headers).status_code == 403
        assert signed_record.runs() == []


def test_af02_two_tabs_of_one_browser_are_two_sessions_on_two_workers(
    three_workers: list[BokehWorker], run_record: RunRecord, tmp_path: Path
) -> None:
    with GatewayProcess(PLAIN.replace("{servers}", servers(three_workers)), tmp_path) as gateway:
        cookies = {"user": "one"}
        tabs = [view_page(gateway.url(f"/recorder?x={x}"), cookies=cookies) for x in (1, 2)]
        runs = {run.session_id: run for run in run_record.runs()}
        assert [runs[tab.session_id].arguments["x"] for tab in tabs] == [["1"], ["2"]]
        assert len({run.pid for run in runs.values()}) == 2
        for tab in tabs:
            tab.close()


def test_af03_arguments_reach_the_app_through_autoload(
    three_workers: list[BokehWorker], run_record: RunRecord, tmp_path: Path
) -> None:
    with GatewayProcess(PLAIN.replace("{servers}", servers(three_workers)), tmp_path) as gateway:
        url = gateway.url("/recorder/autoload.js?bokeh-autoload-element=e1&foo=7")
        with view_page(url):
            (run,) = run_record.runs()
            assert run.arguments["foo"] == ["7"]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_session_that_was_pulled_and_changed_reaches_the_browser(
    processes: int, three_workers: list[BokehWorker], run_record: RunRecord, tmp_path: Path
) -> None:
    """`pull_session`, a new title, then the page of `server_session` as a browser loads it."""
    times = 20
    text = PLAIN.replace("{servers}", servers(three_workers)).replace("[log]", f"processes = {processes}\n[log]", 1)
    with GatewayProcess(text, tmp_path) as gateway:
        url = gateway.url("/recorder")
        changed = 0
        for number in range(times):
            with pull_session(url=url) as session:
                session.document.title = f"Changed {number}"
                session.force_roundtrip()
                changed += _title_in_browser(server_session(None, session.id, url=url)) == f"Changed {number}"
        pids = {run.pid for run in run_record.runs()}
        print(f"\npull_session, change, server_session: the changed title {changed} of {times}, {len(pids)} workers")
        assert changed == times
        assert len(run_record.runs()) == times
        assert len(pids) == 3


def _title_in_browser(script: str) -> str:
    """What the script of `server_session` does in a browser."""
    source = re.search(r"""xhr\.open\('GET', "([^"]+)"|src="([^"]+autoload\.js[^"]+)\"""", script)
    assert source, script
    named = re.search(r"""setRequestHeader\("Bokeh-Session-Id", "([^"]+)"\)""", script)
    where = (source[1] or source[2]).replace("&amp;", "&")
    loaded = get(where, headers={"Bokeh-Session-Id": named[1]} if named else {})
    assert loaded.status_code == 200, loaded.text
    with BokehSocket(websocket_url(where), page_token(loaded.text)) as socket:
        return str(socket.pull_document()["title"])


def test_af07_static_requests_do_not_count_as_load(
    own_workers: list[BokehWorker], own_record: RunRecord, tmp_path: Path
) -> None:
    own_record.mark()
    with GatewayProcess(PLAIN.replace("{servers}", servers(own_workers)), tmp_path) as gateway, ExitStack() as stack:
        views = Views(own_record, gateway.url("/recorder"), {})
        views.open(12, stack)
        for number in range(100):
            assert get(gateway.url(f"/static/js/bokeh.min.js?unused={number}"), stream=True).status_code == 200
        views.open(3, stack)
        spread = Counter(run.pid for run in own_record.runs())
        assert sorted(spread.values()) == [5, 5, 5]


@pytest.mark.parametrize(
    ("name", "count", "text", "path"),
    [
        pytest.param("tls", SHORTER, PLAIN, "/recorder", id="tls"),
        pytest.param(
            "stripped prefix",
            SHORTER,
            PLAIN + '[[route]]\npath = "/a/b"\npool = "apps"\nstrip_prefix = true\n',
            "/a/b/recorder",
            id="strip-prefix",
        ),
        pytest.param("autoload.js", SHORTER, PLAIN, "/recorder/autoload.js?bokeh-autoload-element=e1", id="autoload"),
        pytest.param("plain", VIEWS, PLAIN, "/recorder", id="plain"),
    ],
)
def test_af01_af03_af06_page_views_run_once_and_spread_evenly(
    name: str,
    count: int,
    text: str,
    path: str,
    own_workers: list[BokehWorker],
    own_record: RunRecord,
    certificate: Certificate,
    tmp_path: Path,
) -> None:
    """With nothing about affinity in the configuration."""
    text = text.replace("{servers}", servers(own_workers))
    own_record.mark()
    options: dict[str, Any] = {}
    if name == "tls":
        text += '[tls]\nlisten = ["127.0.0.1:0"]\n'
        text += f'certfile = "{certificate.certfile}"\nkeyfile = "{certificate.keyfile}"\n'
        options = {"verify": str(certificate.authority), "tls": certificate.client}
    with GatewayProcess(text, tmp_path) as gateway, ExitStack() as stack:
        url = gateway.https(path) if name == "tls" else gateway.url(path)
        views = Views(own_record, url, options)
        spread = views.figure(name, views.open(count, stack))
        assert len(spread) == 3
        assert max(spread.values()) - min(spread.values()) <= 1
