"""Limits that hold for all connections together, loops, log lines, and frames that no relay may pass on."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.frames import BINARY, CLOSE, PING, TEXT, frame, handshake, read_frame
from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port
from tests.support.raw import RawClient, raw_exchange
from tests.support.recording import Recorded, RecordingWorker, Side, switching
from tests.support.waiting import wait_until

CONFIG = """
[gateway]
listen = ["127.0.0.1:0"]

[pool.site]
kind = "http"
servers = ["{worker}"]

[metrics]
listen = ["127.0.0.1:{metrics}"]

{more}
"""


async def tunnel(request: Recorded, side: Side) -> None:
    await side.send(switching(request))
    await side.wait_end()


async def speaks_badly(request: Recorded, side: Side) -> None:
    await side.send(switching(request) + frame(TEXT, b"fine", masked=False) + frame(TEXT, b"masked", masked=True))
    await side.wait_end()


@pytest.fixture(scope="module")
def worker() -> Iterator[RecordingWorker]:
    with RecordingWorker(scripts={"/ws": tunnel, "/bad": speaks_badly}) as running:
        yield running


def gateway_with(worker: RecordingWorker, folder: Path, more: str = "") -> GatewayProcess:
    return GatewayProcess(CONFIG.format(worker=worker.address, metrics=free_port(), more=more), folder)


@pytest.fixture(scope="module")
def gateway(worker: RecordingWorker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway_with(worker, tmp_path_factory.mktemp("limits")) as running:
        yield running


def head(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers]).encode() + b"\r\n\r\n"


def metrics_of(gateway: GatewayProcess) -> str:
    port = int(gateway.config["metrics"]["listen"][0].rpartition(":")[2])
    return raw_exchange(port, head("/metrics"), quiet=0).answers[0].body.decode()


@pytest.mark.parametrize("setting", ["connections", "connections_per_client"])
def test_gw02_connections_over_a_limit_are_told_so_and_counted(
    setting: str, worker: RecordingWorker, tmp_path: Path
) -> None:
    """The limit's setting is named to the client and in the log; those inside it are served, and room comes back."""
    with gateway_with(worker, tmp_path, f"[limits]\n{setting} = 5") as gateway, ExitStack() as stack:
        clients = [stack.enter_context(RawClient(gateway.port)) for _ in range(5)]
        for client in clients:
            client.send(head("/in"))
            assert client.answer().status == 200
        with RawClient(gateway.port) as turned_away:
            got = turned_away.answer()
            assert (got.status, got.header("retry-after")) == (503, "5")
            assert f"[limits] {setting} = 5".encode() in got.body
            assert turned_away.ends(10)
        wait_until(lambda: f"[limits] {setting} = 5" in gateway.stderr, "the log names the setting")
        clients[0].send(head("/still"))
        assert clients[0].answer().status == 200
        stack.close()
        wait_until(lambda: raw_exchange(gateway.port, head("/again"), quiet=0).status == 200, "there is room again")
        assert 'reason="too-many-connections"' in metrics_of(gateway)


def test_gw02_a_flood_over_the_limit_is_cut_without_a_word(worker: RecordingWorker, tmp_path: Path) -> None:
    with gateway_with(worker, tmp_path, "[limits]\nconnections = 5") as gateway, ExitStack() as stack:
        before = sum(process.num_fds() for process in gateway.processes())
        clients = [stack.enter_context(RawClient(gateway.port)) for _ in range(200)]
        assert clients[-1].ends(10)
        assert not clients[-1].received
        assert sum(process.num_fds() for process in gateway.processes()) < before + 5 + 64 + 20


def test_gw01_without_files_left_it_waits_and_recovers(worker: RecordingWorker, tmp_path: Path) -> None:
    """More clients than open files: those inside are served, no busy loop, and the rest get in when there is room."""
    with gateway_with(worker, tmp_path) as gateway, ExitStack() as stack:
        inside = stack.enter_context(RawClient(gateway.port))
        inside.send(head("/first"))
        assert inside.answer().status == 200
        for process in gateway.processes():
            used = max(int(entry.name) for entry in Path(f"/proc/{process.pid}/fd").iterdir())
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (used + 20, used + 20))
        crowd = [RawClient(gateway.port) for _ in range(100)]
        inside.send(head("/inside"))
        assert inside.answer().status == 200
        busy = _cpu(gateway)
        time.sleep(1)
        assert _cpu(gateway) - busy < 0.5, "it waits for room, it does not spin"
        for client in crowd:
            client.socket.close()
        wait_until(lambda: raw_exchange(gateway.port, head("/after"), quiet=0).status == 200, "it serves again")


def _cpu(gateway: GatewayProcess) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in gateway.processes())


def test_cf04_gateways_that_are_each_others_upstream_answer_508(tmp_path: Path) -> None:
    """The configuration of one alone cannot show it; a gateway that is its own upstream is refused at start."""
    ports = [free_port(), free_port()]
    text = """
[gateway]
listen = ["127.0.0.1:{}"]
[pool.site]
kind = "http"
servers = ["127.0.0.1:{}"]
"""
    with (
        GatewayProcess(text.format(*ports), tmp_path / "one") as one,
        GatewayProcess(text.format(*reversed(ports)), tmp_path / "other") as other,
    ):
        asked = 0

        def refused() -> bool:
            nonlocal asked
            asked += 1
            return raw_exchange(one.port, head("/round"), quiet=0).status == 508

        wait_until(refused, "508, as soon as the one has found that the other is there")
        wait_until(one.access_log, "the access log")
        assert len(one.access_log()) + len(other.access_log()) < 10 * asked
        wait_until(lambda: "one of them is its own upstream" in one.stderr + other.stderr, "the log says why")


def test_gw13_what_a_client_sends_cannot_make_a_log_line(gateway: GatewayProcess) -> None:
    said = len(gateway.stderr)
    raw_exchange(gateway.port, head("/a%0d%0aFAKE\x1b[31m", "User-Agent: x\x1b[2J", 'Referer: "\\"'), quiet=0)
    raw_exchange(
        gateway.port,
        b'GET /gw13?%0d%0aFAKE HTTP/1.1\r\nHost: localhost\r\nUser-Agent: x\x9b2J\xff\r\nReferer: "\\"\r\n\r\n',
        quiet=0,
    )
    wait_until(lambda: any("gw13" in line for line in gateway.access_log()), "the access log line")
    text = gateway.stdout + gateway.stderr[said:]
    assert "\x1b" not in text
    assert "\x9b" not in text
    assert not any(line.startswith("FAKE") for line in text.splitlines())


def test_gw14_metrics_are_not_served_to_the_public(worker: RecordingWorker, tmp_path: Path) -> None:
    """Through the public listener `/metrics` is the pool's business, like any other path."""
    with gateway_with(worker, tmp_path, '[[route]]\npath = "/app"\npool = "site"') as gateway:
        assert raw_exchange(gateway.port, head("/metrics"), quiet=0).status == 404
        assert "bokeh_gateway_" in metrics_of(gateway)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(frame(TEXT, b"plain", masked=False), id="no-mask"),
        pytest.param(frame(PING, b"x" * 126), id="long-control-frame"),
        pytest.param(frame(PING, b"x", final=False), id="control-frame-in-pieces"),
        pytest.param(frame(5, b"x"), id="reserved-opcode"),
        pytest.param(frame(BINARY | 0x40, b"x"), id="rsv1-not-agreed"),
    ],
)
def test_a_frame_that_breaks_the_protocol_is_a_1002_and_not_passed_on(
    bad: bytes, gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    worker.forget()
    good = frame(TEXT, b"good")
    with RawClient(gateway.port) as client:
        client.send(handshake("/ws"))
        assert client.answer().status == 101
        client.send(good + bad + frame(TEXT, b"never"))
        opcode, payload = read_frame(client.read_exactly)
        assert (opcode, payload[:2]) == (CLOSE, (1002).to_bytes(2, "big"))
        assert client.ends(10)
    (request,) = worker.to("/ws")
    wait_until(lambda: worker.connection_of(request).ended, "the worker's side is closed")
    data = bytes(worker.connection_of(request).data)
    assert good in data
    assert bad not in data


def test_a_worker_that_masks_is_a_1002_too(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    with RawClient(gateway.port) as client:
        client.send(handshake("/bad"))
        assert client.answer().status == 101
        assert read_frame(client.read_exactly) == (TEXT, b"fine")
        opcode, payload = read_frame(client.read_exactly)
        assert (opcode, payload[:2]) == (CLOSE, (1002).to_bytes(2, "big"))


def test_pipelined_requests_behind_a_refused_upgrade_are_requests(
    gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    """The worker answers 200: what follows is HTTP, and never a tunnel."""
    worker.forget()
    with RawClient(gateway.port) as client:
        client.send(handshake("/plain") + head("/behind"))
        assert [client.answer().status, client.answer().status] == [200, 200]
    assert worker.targets == ["/plain", "/behind"]
