"""Gateways and workers on hosts of their own: any gateway finds any session, and one that is cut off is not missed."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from tests.faults.test_reload import Reloaded
from tests.support.bokeh_client import BokehSocket, get, page_token, websocket_url
from tests.support.hosts import Hosts
from tests.support.name_server import NameServer
from tests.support.waiting import wait_until
from tests.support.workers import BokehWorker, RunRecord

GATEWAYS = ("gateway1", "gateway2")
WORKERS = ("worker1", "worker2")
PORT = 5006


def text(name_server: str) -> str:
    return f"""
[gateway]
listen = ["0.0.0.0:8080"]
resolver = ["{name_server}"]
[pool.apps]
servers = ["dns+a://workers.test:{PORT}"]
[metrics]
listen = ["0.0.0.0:9100"]
[timeouts]
drain = "1 s"
"""


def test_two_gateway_hosts_in_front_of_worker_hosts(tmp_path: Path) -> None:
    record = RunRecord(tmp_path / "runs")
    with ExitStack() as stack:
        hosts = stack.enter_context(Hosts(("browser", "names", *GATEWAYS, *WORKERS)))
        address = hosts.address
        with hosts.inside("names"):
            names = stack.enter_context(NameServer(address["names"]))
        names.records = {("workers.test", "A"): (1, [address[name] for name in WORKERS])}
        workers: dict[str, BokehWorker] = {}
        for name in WORKERS:
            workers[name] = BokehWorker(
                tmp_path, name=name, port=PORT, arguments=["--address=0.0.0.0"], env=record.environment
            )
            with hosts.inside(name):
                workers[name].launch()
            stack.callback(workers[name].kill)
        for name in WORKERS:
            with hosts.inside(name):
                workers[name].wait_ready()
        gateways: dict[str, Reloaded] = {}
        for name in GATEWAYS:
            gateways[name] = Reloaded(text(f"{address['names']}:{names.port}"), tmp_path / name)
            with hosts.inside(name):
                gateways[name].start()
            stack.callback(gateways[name].kill)
        stack.enter_context(hosts.inside("browser"))

        def page(gateway: str) -> str:
            response = get(f"http://{address[gateway]}:8080/recorder")
            assert response.status_code == 200, response.text[:300]
            return page_token(response.text)

        def connect(gateway: str, token: str) -> BokehSocket:
            return stack.enter_context(BokehSocket(websocket_url(f"http://{address[gateway]}:8080/recorder"), token))

        order = [GATEWAYS, GATEWAYS[::-1]] * 6
        tokens = [(page(first), first, second) for first, second in order]
        sockets = [connect(second, token) for token, _, second in tokens]
        runs = record.runs()
        pids = [run.pid for run in runs]
        assert len(runs) == len({run.session_id for run in runs}) == len(order), "one run for each view"
        assert sorted(pids.count(worker.pid) for worker in workers.values()) == [6, 6]

        # A gateway's host is cut off: whoever was connected through it comes back to his session through the other.
        hosts.cut_off("gateway1")
        for (token, _, second), socket in zip(tokens, sockets, strict=True):
            if second == "gateway1":
                socket.connection.close_timeout = 0.01  # nobody will answer
                connect("gateway2", token).pull_document()
        assert len(record.runs()) == len(order), "to the same session at the same worker: nothing ran again"

        # A worker leaves the records: no new sessions, and those that it has go on.
        names.records = {("workers.test", "A"): (1, [address["worker2"]])}
        wait_until(lambda: f"gone: {address['worker1']}:{PORT}" in gateways["gateway2"].stderr, "it is gone")
        for _ in range(3):
            connect("gateway2", page("gateway2")).pull_document()
        assert [run.pid for run in record.runs()[len(order) :]] == [workers["worker2"].pid] * 3
        for (_, _, second), socket in zip(tokens, sockets, strict=True):
            if second == "gateway2":
                socket.pull_document()
