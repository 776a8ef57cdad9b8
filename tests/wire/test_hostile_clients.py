"""Clients that are slow, leave early, send too much or never read."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from bokeh_gateway.wire.upstream import MAX_IDLE
from tests.support.certificates import Certificate
from tests.support.gateway import KIB, MIB, GatewayProcess
from tests.support.raw import Answer, RawClient, raw_exchange
from tests.support.recording import Recorded, RecordingWorker, Side, answer, ok
from tests.support.waiting import wait_until

HEADER_DEADLINE = 2.0
TINY_WINDOW = 2048

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
servers = ["{worker}"]

[limits]
body_size = "200 MiB"

[timeouts]
header = "2 s"
tls_handshake = "2 s"
body = "2 s"
send = "2 s"
keep_alive = "3 s"
response = "20 s"
drain = "1 s"
"""


async def big(request: Recorded, side: Side) -> None:
    await side.body(request)
    await side.send(answer(b"x" * 10 * MIB))


async def ten_kib(request: Recorded, side: Side) -> None:
    await side.body(request)
    await side.send(answer(b"x" * 10 * KIB))


async def refuses_early(request: Recorded, side: Side) -> None:
    """413 while the upload still comes."""
    await side.send(answer(b"too much", "413 Content Too Large", "Connection: close"))
    side.close()


async def expectation_failed(request: Recorded, side: Side) -> None:
    await side.send(answer(b"no", "417 Expectation Failed", "Connection: close"))
    side.close()


async def continues(request: Recorded, side: Side) -> None:
    await side.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    await side.send(answer(await side.body(request)))


async def dies(request: Recorded, side: Side) -> None:
    await side.body(request)
    side.close()


async def does_not_read(request: Recorded, side: Side) -> None:
    """Leaves the body where it is until the gateway ends the connection or the test ends."""
    while not hold.is_set():
        await asyncio.sleep(0.05)
    await ok(request, side)


async def head_with_length(request: Recorded, side: Side) -> None:
    await side.body(request)
    if request.method == "HEAD":
        await side.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    else:
        await side.send(answer(b"next"))


hold = threading.Event()

SCRIPTS = {
    "/big": big,
    "/ten": ten_kib,
    "/early": refuses_early,
    "/expect": expectation_failed,
    "/continue": continues,
    "/dies": dies,
    "/slow": does_not_read,
    "/head": head_with_length,
}


@pytest.fixture(scope="module")
def recording() -> Iterator[RecordingWorker]:
    with RecordingWorker(scripts=SCRIPTS, receive_buffer=32 * KIB, limit=16 * KIB) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    recording: RecordingWorker, certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    text = CONFIG.format(worker=recording.address, certificate=certificate)
    with GatewayProcess(text, tmp_path_factory.mktemp("clients")) as running:
        yield running


def head(path: str, method: str = "GET", *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def assert_serves(gateway: GatewayProcess) -> None:
    assert raw_exchange(gateway.port, head("/fine"), quiet=0).status == 200


def drip(client: RawClient, piece: bytes, every: float, within: float) -> float:
    """Sends `piece` again and again until the gateway closes; the seconds until then."""
    began = time.monotonic()
    while time.monotonic() - began < within:
        client.send(piece)
        if client.ends(every):
            return time.monotonic() - began
    raise AssertionError(f"still open after {within} s of dripping {piece!r}")


def test_sl01_slow_heads_end_at_the_deadline_of_the_whole_head(
    gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    """Counted from the first byte, not from each read; others are served meanwhile."""

    def slow(_: int) -> tuple[float, bytes]:
        with RawClient(gateway.port) as client:
            client.send(b"GET /slow-head HTTP/1.1\r\nHost: localhost\r\n")
            return drip(client, b"X-A: b\r\n", 0.4, 15), bytes(client.received)

    with ThreadPoolExecutor(20) as threads:
        pending = [threads.submit(slow, n) for n in range(20)]
        began = time.monotonic()
        assert_serves(gateway)
        assert time.monotonic() - began < 2
        results = [future.result() for future in pending]
    assert all(HEADER_DEADLINE * 0.8 < took < HEADER_DEADLINE + 5 for took, _ in results), results
    assert all(not said or b" 408 " in said.splitlines()[0] for _, said in results), results
    assert "/slow-head" not in worker.targets


def test_sl02_a_dripping_body_is_ended_and_the_worker_released(
    gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    """20 bytes every 0.4 s is no progress: a smallest rate or a total deadline ends it."""
    with RawClient(gateway.port) as client:
        client.send(head("/slow-body", "POST", "Content-Length: 4096"))
        drip(client, b"x" * 20, 0.4, 25)
        assert not client.received or b" 408 " in bytes(client.received).splitlines()[0]
    for request in worker.to("/slow-body"):
        wait_until(lambda request=request: worker.connection_of(request).ended, "the worker is released")
        assert not request.complete


def test_sl02_a_body_that_stops_is_a_408(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    with RawClient(gateway.port) as client:
        client.send(head("/stopped-body", "POST", "Content-Length: 4096") + b"x")
        assert client.answer().status == 408
        assert client.ends(5)


def test_sl03_a_reader_that_stalls_costs_little_memory_and_is_ended(
    gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    assert_serves(gateway)
    gateway.forget_peak_memory()
    before = gateway.memory()
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(gateway.port, receive_buffer=TINY_WINDOW)) for _ in range(8)]
        for client in clients:
            client.send(head("/big"))
        requests = worker.wait_for("/big", len(clients))
        for request in requests:
            wait_until(lambda request=request: worker.connection_of(request).ended, "the worker is released")
        for client in clients:
            # What the kernel still has for it would take minutes to come through the tiny window.
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIB)
            wait_until(lambda client=client: not client.receive(within=0.5) and client.closed, "the client is ended")
            assert len(client.received) < 10 * MIB
    assert gateway.peak_memory() - before < len(clients) * 512 * KIB + 2 * MIB


def test_sl05_a_cut_client_hello_ends_at_the_handshake_deadline(gateway: GatewayProcess) -> None:
    with RawClient(gateway.tls_port) as client:
        client.send(b"\x16\x03\x01\x02\x00")
        assert client.ends(HEADER_DEADLINE + 8)
    assert_serves(gateway)


def test_an_idle_connection_ends_at_the_keep_alive_deadline(gateway: GatewayProcess) -> None:
    with RawClient(gateway.port) as client:
        client.send(head("/fine"))
        assert client.answer().status == 200
        began = time.monotonic()
        assert client.ends(15)
        assert time.monotonic() - began > 2
        assert not client.received, "an idle connection ends without an answer that nobody asked for"


def test_ec01_half_a_head_then_gone_reaches_no_worker(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    said = gateway.stderr
    for cut in range(1, 40, 5):
        with RawClient(gateway.port) as client:
            client.send(b"GET /half HTTP/1.1\r\nHost: localhost\r\n"[:cut])
    assert_serves(gateway)
    assert "/half" not in worker.targets
    assert "Traceback" not in gateway.stderr[len(said) :]


def test_ec02_half_a_body_then_gone_is_never_completed(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    with RawClient(gateway.port) as client:
        client.send(head("/half-body", "POST", "Content-Length: 1000") + b"x" * 500)
        worker.wait_for("/half-body")
    (request,) = worker.to("/half-body")
    wait_until(lambda: worker.connection_of(request).ended, "the worker's connection is ended")
    assert not request.complete
    assert_serves(gateway)


def test_ec02_chunked_cut_gets_no_final_chunk(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    with RawClient(gateway.port) as client:
        client.send(head("/half-chunked", "POST", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n")
        worker.wait_for("/half-chunked")
    (request,) = worker.to("/half-chunked")
    wait_until(lambda: worker.connection_of(request).ended, "the worker's connection is ended")
    assert not request.complete


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(head("/x", "GET", "X-A: " + "a" * 400_000), 431, id="431"),
        pytest.param(head("/" + "a" * 400_000), 414, id="414"),
        pytest.param(head("/x", "POST", f"Content-Length: {400 * MIB}"), 413, id="413"),
    ],
)
def test_ec05_the_status_can_be_read_while_the_client_still_sends(
    data: bytes, status: int, gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    """Lingering close: no reset before the answer has been read (RFC 9112 section 9.6)."""
    with RawClient(gateway.port) as client:
        sender = threading.Thread(target=client.send, args=(data + b"x" * 10 * MIB,))
        sender.start()
        got = client.answer()
        assert got.status == status
        assert got.body
        client.ends(20)
        sender.join()
    assert "/x" not in worker.targets


def test_ec06_an_early_413_of_the_worker_is_passed_on(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    with RawClient(gateway.port) as client:
        client.send(head("/early", "POST", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n")
        got = client.answer()
        assert (got.status, got.body) == (413, b"too much")
        for _ in range(50):
            client.send(b"400\r\n" + b"x" * KIB + b"\r\n")
        assert client.ends(20)
    assert_serves(gateway)


def test_ec07_the_workers_417_passes_and_no_100_is_made_up(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    with RawClient(gateway.port) as client:
        client.send(head("/expect", "POST", "Expect: 100-continue", "Content-Length: 5"))
        assert client.answer(interim=True).status == 417


def test_ec07_the_workers_100_passes(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    with RawClient(gateway.port) as client:
        client.send(head("/continue", "POST", "Expect: 100-continue", "Content-Length: 5"))
        assert client.answer(interim=True).status == 100
        client.send(b"hello")
        got = client.answer()
        assert (got.status, got.body) == (200, b"hello")


def test_bd11_uploads_to_a_worker_that_does_not_read_wait_at_the_client(
    gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    """16 uploads of 20 MB: what the gateway holds is bounded by connection, not by body."""
    assert_serves(gateway)
    gateway.forget_peak_memory()
    before = gateway.memory()
    hold.clear()
    size, uploads = 20 * MIB, 16

    def upload(n: int) -> Answer | None:
        with RawClient(gateway.port) as client:
            client.send(head(f"/slow?{n}", "POST", f"Content-Length: {size}"))
            sender = threading.Thread(target=client.send, args=(b"x" * size,))
            sender.start()
            with contextlib.suppress(AssertionError):
                return client.answer()
            sender.join()
        return None

    with ThreadPoolExecutor(uploads) as threads:
        pending = [threads.submit(upload, n) for n in range(uploads)]
        worker.wait_for("/slow", uploads)
        wait_until(lambda: _settled(gateway), "the gateway's memory settles")
        grown = gateway.peak_memory() - before
        hold.set()
        answers = [future.result() for future in pending]
    assert grown < uploads * MIB, f"{grown / MIB:.1f} MiB"
    assert all(got is None or got.status in {200, 408, 504} for got in answers)
    assert_serves(gateway)


def _settled(gateway: GatewayProcess) -> bool:
    seen = gateway.memory()
    time.sleep(0.5)
    return abs(gateway.memory() - seen) < 64 * KIB


def test_pl10_a_thousand_pipelined_requests_of_a_client_that_never_reads(
    gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    assert_serves(gateway)
    gateway.forget_peak_memory()
    before = gateway.memory()
    with RawClient(gateway.port, receive_buffer=TINY_WINDOW) as client:
        sender = threading.Thread(target=client.send, args=(head("/ten") * 1000,))
        sender.start()
        worker.wait_for("/ten")
        wait_until(
            lambda: worker.connection_of(worker.to("/ten")[-1]).ended or _still(worker), "the pipeline stalls or ends"
        )
        assert len(worker.to("/ten")) < 900
        assert gateway.peak_memory() - before < 8 * MIB
        wait_until(lambda: not client.receive(within=0.5) and client.closed, "the client is ended at the send deadline")
        sender.join()
    assert_serves(gateway)


def _still(worker: RecordingWorker) -> bool:
    seen = len(worker.to("/ten"))
    time.sleep(1)
    return len(worker.to("/ten")) - seen <= 2  # the kernel takes a few bytes more now and then


def test_pl11_a_post_whose_worker_dies_is_not_sent_again(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    post = head("/dies?post", "POST", "Content-Length: 2") + b"hi"
    with RawClient(gateway.port) as client:
        client.send(head("/fine") + post)
        assert client.answer().status == 200
        got = client.answer()
        assert got.status == 502
        assert re.search(rb"worker|server|app", got.body)
    assert len(worker.to("/dies?post")) == 1


def test_hr01_head_keeps_the_length_and_the_connection(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    with RawClient(gateway.port) as client:
        client.send(head("/head", "HEAD"))
        got = client.answer(method="HEAD")
        assert (got.status, got.header("content-length")) == (200, "1000000")
        client.send(head("/head"))
        assert client.answer().body == b"next"


def test_clients_that_come_and_go_leave_nothing_behind(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    """But for the worker's idle connections, of which there is a most."""
    before = sum(process.num_fds() for process in gateway.processes())
    for _ in range(3):
        with ExitStack() as stack:
            clients = [stack.enter_context(RawClient(gateway.port)) for _ in range(100)]
            for client in clients:
                client.send(head("/fine"))
            assert {client.answer().status for client in clients} == {200}
    wait_until(
        lambda: sum(process.num_fds() for process in gateway.processes()) <= before + MAX_IDLE + 10,
        "the connections are given back",
    )
