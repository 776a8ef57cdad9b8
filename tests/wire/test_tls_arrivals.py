"""TLS connections count from the moment they are accepted, and not from the end of their handshake."""

from __future__ import annotations

import resource
import signal
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.certificates import Certificate
from tests.support.gateway import GatewayProcess
from tests.support.raw import RawClient, raw_exchange
from tests.support.recording import RecordingWorker
from tests.support.waiting import wait_until

HALF_HELLO = b"\x16\x03\x01\x02\x00"
GET = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"

CONFIG = """
[gateway]
listen = ["127.0.0.1:0"]

[tls]
listen = ["127.0.0.1:0"]
certfile = "{certificate.certfile}"
keyfile = "{certificate.keyfile}"
redirect_http = false

[pool.site]
kind = "http"
servers = ["{worker.address}"]

[timeouts]
tls_handshake = "{handshake}"
drain = "5 s"

{more}
"""


@pytest.fixture(scope="module")
def worker() -> Iterator[RecordingWorker]:
    with RecordingWorker() as running:
        yield running


def gateway_with(
    worker: RecordingWorker, certificate: Certificate, folder: Path, more: str = "", handshake: str = "60 s"
) -> GatewayProcess:
    return GatewayProcess(CONFIG.format(worker=worker, certificate=certificate, more=more, handshake=handshake), folder)


@pytest.mark.parametrize("setting", ["connections", "connections_per_client"])
def test_sl05_half_a_handshake_counts_against_the_limits(
    setting: str, worker: RecordingWorker, certificate: Certificate, tmp_path: Path
) -> None:
    """Five places are taken by five cut ClientHellos; the next is told so; when they have gone there is room."""
    with gateway_with(worker, certificate, tmp_path, f"[limits]\n{setting} = 5") as gateway, ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(RawClient(gateway.tls_port)).send(HALF_HELLO)
        plain = raw_exchange(gateway.port, GET)
        assert (plain.status, plain.closed) == (503, True)
        assert f"[limits] {setting} = 5".encode() in plain.answers[0].body
        assert raw_exchange(gateway.tls_port, GET, tls=certificate.client).status == 503
        stack.close()
        wait_until(
            lambda: raw_exchange(gateway.tls_port, GET, quiet=0, tls=certificate.client).status == 200, "there is room"
        )
        assert f"[limits] {setting} = 5" in gateway.stderr


@pytest.mark.parametrize("setting", ["connections", "connections_per_client"])
def test_sl05_a_flood_of_half_handshakes_is_cut_without_one(
    setting: str, worker: RecordingWorker, certificate: Certificate, tmp_path: Path
) -> None:
    """Beyond those that are told so, a connection costs no handshake and no file."""
    with gateway_with(worker, certificate, tmp_path, f"[limits]\n{setting} = 5") as gateway, ExitStack() as stack:
        before = sum(process.num_fds() for process in gateway.processes())
        clients = [stack.enter_context(RawClient(gateway.tls_port)) for _ in range(200)]
        assert clients[-1].ends(10)
        assert sum(process.num_fds() for process in gateway.processes()) < before + 5 + 64 + 20


def test_sl05_the_handshakes_deadline_gives_the_place_back(
    worker: RecordingWorker, certificate: Certificate, tmp_path: Path
) -> None:
    with (
        gateway_with(worker, certificate, tmp_path, "[limits]\nconnections = 1", handshake="1 s") as gateway,
        RawClient(gateway.tls_port) as cut,
    ):
        cut.send(HALF_HELLO)
        assert raw_exchange(gateway.port, GET).status == 503
        assert cut.ends(10)
        wait_until(lambda: raw_exchange(gateway.port, GET, quiet=0).status == 200, "there is room again")


def test_handshakes_that_fail_leave_nothing_behind(
    worker: RecordingWorker, certificate: Certificate, tmp_path: Path
) -> None:
    """Cut, garbage, a certificate that is not trusted, and no word: 10 of each, and all places are free again."""
    stranger = ssl.create_default_context()
    with gateway_with(worker, certificate, tmp_path, "[limits]\nconnections = 3") as gateway:
        before = sum(process.num_fds() for process in gateway.processes())
        for _ in range(10):
            for data in (b"", HALF_HELLO, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x04abcd"):
                with RawClient(gateway.tls_port) as client:
                    client.send(data)
            with pytest.raises((ssl.SSLError, ConnectionError)), RawClient(gateway.tls_port, tls=stranger):
                pass

        def all_free() -> bool:
            with ExitStack() as stack:
                clients = [stack.enter_context(RawClient(gateway.tls_port, tls=certificate.client)) for _ in range(3)]
                return all(client.send(GET).answer().status == 200 for client in clients)

        wait_until(all_free, "all places are free")
        wait_until(
            lambda: sum(process.num_fds() for process in gateway.processes()) <= before + 10, "no file is left behind"
        )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_handshake_under_way_is_served_by_a_process_that_ends(
    number: int, worker: RecordingWorker, certificate: Certificate, tmp_path: Path
) -> None:
    """Neither a stop nor a reload fails who has been let in."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = certificate.client.wrap_bio(incoming, outgoing, server_hostname="localhost")
    gateway = gateway_with(worker, certificate, tmp_path)
    gateway.start()
    with ExitStack() as stack, RawClient(gateway.tls_port) as client:
        stack.callback(gateway.kill)
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        hello = outgoing.read()
        client.send(hello[:50])
        # Counted: so the process knows of it.
        wait_until(lambda: _connections(gateway) > 0, "it is accepted")
        gateway.signal(number)
        wait_until(lambda: "draining" in gateway.stderr or "reload" in gateway.stderr, "the signal is heard")
        client.send(hello[50:])
        while True:
            incoming.write(client.receive())
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                continue
            break
        tls.write(GET)
        client.send(outgoing.read())
        answer = b""
        while b"ok" not in answer:
            incoming.write(client.receive())
            try:
                answer += tls.read()
            except ssl.SSLWantReadError:
                continue
        assert b" 200 " in answer
        if number == signal.SIGTERM:
            assert gateway.wait_exit() == 0


def _connections(gateway: GatewayProcess) -> int:
    ours = {process.pid: process.net_connections("tcp") for process in gateway.processes()}
    return sum(
        one.status == "ESTABLISHED" and one.laddr.port == gateway.tls_port for all_ in ours.values() for one in all_
    )


def test_gw01_without_files_left_tls_waits_and_recovers(
    worker: RecordingWorker, certificate: Certificate, tmp_path: Path
) -> None:
    with gateway_with(worker, certificate, tmp_path) as gateway:
        assert raw_exchange(gateway.tls_port, GET, quiet=0, tls=certificate.client).status == 200
        for process in gateway.processes():
            used = max(int(entry.name) for entry in Path(f"/proc/{process.pid}/fd").iterdir())
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (used + 20, used + 20))
        crowd = [RawClient(gateway.tls_port) for _ in range(100)]
        wait_until(lambda: "no connection is accepted for 1 s" in gateway.stderr, "the log says so")
        busy = _cpu(gateway)
        time.sleep(1)
        assert _cpu(gateway) - busy < 0.5, "it waits for room, it does not spin"
        for client in crowd:
            client.socket.close()
        wait_until(
            lambda: raw_exchange(gateway.tls_port, GET, quiet=0, tls=certificate.client).status == 200,
            "it serves again",
        )


def _cpu(gateway: GatewayProcess) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in gateway.processes())
