"""Workers found by name: they come and go with the answers, and a name server that is away takes nobody with it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import requests

from tests.faults.test_reload import Reloaded
from tests.support.bokeh_client import BokehSocket, PageView, get, page_token, view_page, websocket_url
from tests.support.gateway import GatewayProcess
from tests.support.name_server import NameServer
from tests.support.ports import free_port
from tests.support.processes import clean_environment
from tests.support.recording import RecordingWorker
from tests.support.scrape import figures
from tests.support.waiting import wait_until
from tests.support.workers import BokehWorker, RunRecord, bokeh_workers

SRV = "_bokeh._tcp.workers.test"


def serve_names(names: NameServer, workers: list[BokehWorker], more: tuple[str, ...] = ()) -> None:
    """SRV records of all workers, which share one address."""
    records = [f"10 1 {worker.port} host.test." for worker in workers] + list(more)
    names.records = {(SRV, "SRV"): (1, records), ("host.test", "A"): (1, ["127.0.0.1"])}


def text(names: NameServer, servers: str = f'["dns+srv://{SRV}"]', processes: int = 1) -> str:
    return f"""
[gateway]
listen = ["127.0.0.1:{free_port()}"]
processes = {processes}
resolver = ["127.0.0.1:{names.port}"]
[pool.apps]
servers = {servers}
hold = "0 s"
[metrics]
listen = ["127.0.0.1:{free_port()}"]
[timeouts]
drain = "1 s"
"""


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return RunRecord(tmp_path_factory.mktemp("record") / "runs")


@pytest.fixture(scope="module")
def workers(record: RunRecord, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[BokehWorker]]:
    with bokeh_workers(3, tmp_path_factory.mktemp("workers"), env=record.environment) as started:
        yield started


@contextmanager
def gateways(folder: Path, *texts: str) -> Iterator[list[Reloaded]]:
    with ExitStack() as stack:
        started = [Reloaded(text, folder / f"gateway{n}") for n, text in enumerate(texts)]
        for gateway in started:
            gateway.launch()
            stack.callback(gateway.kill)
        for gateway in started:
            gateway.wait_ready()
        yield started
        for gateway in started:
            gateway.stop()


def members(gateway: Reloaded) -> set[str]:
    """Workers that the gateway has now, those that drain included."""
    found = [labels for (name, labels) in figures(gateway.metrics_port) if name == "worker_up"]
    return {labels.partition('worker="')[2].partition('"')[0] for labels in found}


def named(workers: list[BokehWorker]) -> set[str]:
    return {f"apps/127.0.0.1:{worker.port}" for worker in workers}


def view_across(page: GatewayProcess, socket: GatewayProcess) -> PageView:
    """The page from one gateway, its WebSocket through another one."""
    response = get(page.url("/recorder"), headers={"Host": "dash.test"})
    assert response.status_code == 200, response.text[:300]
    url = websocket_url(socket.url("/recorder"))
    return PageView(response, BokehSocket(url, page_token(response.text)))


def test_two_gateways_agree_on_every_session(workers, record, tmp_path):
    """60 views whose page comes through one and whose WebSocket through the other, while workers come and go."""
    with NameServer() as names, ExitStack() as views:
        serve_names(names, workers[:2])
        with gateways(tmp_path, text(names), text(names)) as (a, b):
            record.mark()
            opened = [views.enter_context(view_across(*(a, b) if n % 2 else (b, a))) for n in range(20)]
            serve_names(names, workers)
            wait_until(lambda: members(a) == members(b) == named(workers), "both have the new worker")
            opened += [views.enter_context(view_across(*(a, b) if n % 2 else (b, a))) for n in range(20)]
            serve_names(names, workers[1:])
            said = f"gone: 127.0.0.1:{workers[0].port}"
            wait_until(lambda: said in a.stderr and said in b.stderr, "both have seen that a worker left")
            before = {run.session_id: run.pid for run in record.runs()}
            opened += [views.enter_context(view_across(*(a, b) if n % 2 else (b, a))) for n in range(20)]
            runs = record.runs()
            later = [run.pid for run in runs if run.session_id not in before]
            assert len(runs) == len({run.session_id for run in runs}) == len(opened) == 60, "one run for each view"
            per_worker = {worker.pid: [run.pid for run in runs].count(worker.pid) for worker in workers}
            print(f"60 views through two gateways: {len(runs)} runs, per worker {sorted(per_worker.values())}")
            assert workers[0].pid not in later, "it takes no new sessions"
            assert workers[2].pid in before.values(), "the new one took some"
            for view in opened:
                view.socket.pull_document()
            assert per_worker[workers[0].pid] >= 5, "and those of the worker that left went on"


def test_a_name_server_that_fails_changes_nothing(workers, tmp_path):
    with NameServer() as names, ExitStack() as stack:
        serve_names(names, workers)
        (gateway,) = stack.enter_context(gateways(tmp_path, text(names)))
        view = stack.enter_context(view_page(gateway.url("/recorder")))
        for fail in ("unknown", "servfail", "silent"):
            said, asked = gateway.stderr.count("the workers stay as they are"), names.asked
            names.fail = fail
            wait_until(lambda asked=asked: names.asked >= asked + 2, "it is asked again and again")
            wait_until(lambda said=said: gateway.stderr.count("the workers stay as they are") > said, "that is said")
            assert gateway.stderr.count("the workers stay as they are") == said + 1, "once"
            assert members(gateway) == named(workers)
            view.socket.pull_document()
            with view_page(gateway.url("/recorder")) as other:
                other.socket.pull_document()
            names.fail = ""
            wait_until(lambda n=said + 1: gateway.stderr.count("answered again") == n, "and that it answers again")


def test_reloads_and_upgrades_keep_what_names_stand_for(workers, tmp_path):
    with NameServer() as names, ExitStack() as stack:
        serve_names(names, workers[:2])
        plain = f'["127.0.0.1:{workers[1].port}", "dns+srv://{SRV}"]'
        first = text(names, processes=2)
        (gateway,) = stack.enter_context(gateways(tmp_path, first))
        views = [stack.enter_context(view_page(gateway.url("/recorder"))) for _ in range(4)]
        names.fail = "servfail"
        asked = names.asked
        wait_until(lambda: names.asked > asked, "the name server fails")
        # Nothing is asked of a name that is followed already.
        assert "in force" in gateway.reload(first.replace(f'["dns+srv://{SRV}"]', plain))
        assert members(gateway) == named(workers[:2])
        gateway.signal(signal.SIGUSR2)
        wait_until(lambda: "upgrade: version" in gateway.stderr, "the new program runs")
        assert members(gateway) == named(workers[:2])
        assert "(2 workers)" in gateway.stderr.partition("upgrade: version")[2]
        for view in views:
            view.socket.pull_document()
        views.append(stack.enter_context(view_page(gateway.url("/recorder"))))
        # A new name that nobody answers for is a mistake like any other.
        line = gateway.reload(first.replace("_bokeh", "_other"))
        assert "nothing was changed" in line
        assert "pool.apps.servers[0]" in line
        names.fail = ""
        serve_names(names, workers[1:])
        wait_until(lambda: f"new: 127.0.0.1:{workers[2].port}" in gateway.stderr, "it is followed after the upgrade")
        # Named twice, by itself and by the records: still one worker.
        assert members(gateway) == named(workers)
        for view in views:
            view.socket.pull_document()


def test_a_start_without_answer_serves_when_one_comes(tmp_path):
    """No worker: not ready, 503; the first answer changes that."""
    with RecordingWorker() as worker, NameServer() as names:
        port = int(worker.address.rpartition(":")[2])
        config = text(names, f'["dns+a://workers.test:{port}"]')
        with gateways(tmp_path, config.replace("[pool.apps]", '[pool.apps]\nkind = "http"')) as (gateway,):
            assert "(0 workers)" in gateway.ready_line
            ready = f"http://127.0.0.1:{gateway.metrics_port}/readyz"
            assert requests.get(ready, timeout=30).status_code == 503
            assert requests.get(ready.replace("readyz", "livez"), timeout=30).status_code == 200
            assert requests.get(gateway.url(), timeout=30).status_code == 503
            names.records = {("workers.test", "A"): (1, ["127.0.0.1"])}
            wait_until(lambda: requests.get(ready, timeout=30).status_code == 200, "ready")
            assert requests.get(gateway.url(), timeout=30).status_code == 200
            names.records = {("workers.test", "A"): (1, ["127.0.0.1", "127.0.0.2"])}


def test_more_workers_than_there_is_room_for(tmp_path):
    """512 columns on the board: the others are left out, and said to be."""
    with NameServer() as names:
        addresses = [f"127.1.{n // 250}.{n % 250 + 1}" for n in range(520)]
        names.records = {("many.test", "A"): (1, addresses)}
        with gateways(tmp_path, text(names, f'["dns+a://many.test:{free_port()}"]')) as (gateway,):
            assert "8 servers are left out" in gateway.stderr
            assert "(512 workers)" in gateway.ready_line
            asked = names.asked
            wait_until(lambda: names.asked > asked + 1, "the same answers again")
            assert gateway.stderr.count("are left out") == 1, "said once"


def test_check_says_which_names_fail(tmp_path):
    with NameServer() as names, RecordingWorker() as worker:
        port = int(worker.address.rpartition(":")[2])
        names.records = {("good.test", "A"): (1, ["127.0.0.1"]), ("away.test", "A"): (1, ["127.0.0.1"])}
        away = free_port()
        config = text(names, f'["dns+a://good.test:{port}", "dns+srv://_no.test", "dns+a://away.test:{away}"]')
        (tmp_path / "gw.toml").write_text(config)
        command = [sys.executable, "-m", "bokeh_gateway.cli", "check", "--config", str(tmp_path / "gw.toml")]
        found = subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean_environment())
        lines = [line for line in found.stderr.splitlines() if "dns+" in line]
        assert len(lines) == 2
        assert "pool.apps.servers[1]: dns+srv://_no.test cannot be resolved now" in lines[0]
        assert f"pool.apps.servers[2]: dns+a://away.test:{away}: 127.0.0.1:{away} cannot be reached now" in lines[1]
        assert found.returncode == 0, "they may come later"
