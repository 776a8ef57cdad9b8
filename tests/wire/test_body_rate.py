"""How slowly a body may come: `[limits] body_rate` after `[timeouts] body_grace`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.gateway import GatewayProcess
from tests.support.raw import RawClient
from tests.support.recording import Recorded, RecordingWorker, Side, answer
from tests.support.waiting import wait_until

CONFIG = """
[gateway]
listen = ["127.0.0.1:0"]

[pool.site]
kind = "http"
servers = ["{worker.address}"]

{more}
"""
SHORT = '[limits]\nbody_rate = "1000 B"\n[timeouts]\nbody_grace = "2 s"\nbody = "4 s"\ndrain = "1 s"\n'


async def slow_to_take(request: Recorded, side: Side) -> None:
    await asyncio.sleep(6)
    await side.send(answer(str(len(await side.body(request))).encode()))


@pytest.fixture(scope="module")
def worker() -> Iterator[RecordingWorker]:
    with RecordingWorker(scripts={"/busy": slow_to_take}, receive_buffer=32 * 1024, limit=16 * 1024) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(worker: RecordingWorker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(CONFIG.format(worker=worker, more=SHORT), tmp_path_factory.mktemp("rate")) as running:
        yield running


def post(path: str, length: int | None) -> bytes:
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n".encode()


def drip(client: RawClient, piece: bytes, every: float, within: float) -> float | None:
    """Seconds until the gateway ended the connection; None: it did not."""
    began = time.monotonic()
    while time.monotonic() - began < within:
        client.send(piece)
        if client.ends(every):
            return time.monotonic() - began
    return None


def test_sl02_as_slowhttptest_sends_it_with_the_defaults(worker: RecordingWorker, tmp_path: Path) -> None:
    """4096 bytes declared, 20 of them each 5 s: 408 soon after 10 s, the worker's connection ended, one line each."""
    with GatewayProcess(CONFIG.format(worker=worker, more=""), tmp_path) as gateway:

        def attack(at: int) -> tuple[float | None, bytes]:
            with RawClient(gateway.port, within=60) as client:
                client.send(post(f"/attack{at}", 4096 if at % 2 else None))
                took = drip(client, b"x" * 20 if at % 2 else b"14\r\n" + b"x" * 20 + b"\r\n", 5, 40)
                return took, bytes(client.received)

        with ThreadPoolExecutor(10) as threads:
            for took, said in threads.map(attack, range(10)):
                assert took is not None
                assert 8 < took < 30
                assert b" 408 " in said.splitlines()[0]
                assert b"[limits] body_rate = 240 B" in said
        for request in worker.to("/attack"):
            wait_until(lambda request=request: worker.connection_of(request).ended, "the worker is released")
            assert not request.complete
        lines = [line for line in gateway.stderr.splitlines() if "slow-body" in line]
        assert len(lines) == 10
        assert "[limits] body_rate = 240 B" in lines[0]


def test_a_body_that_is_slow_but_quick_enough_arrives(gateway: GatewayProcess) -> None:
    """800 bytes each 0.4 s, twice the rate, for longer than any of the times."""
    with RawClient(gateway.port) as client:
        client.send(post("/steady", 800 * 20))
        assert drip(client, b"x" * 800, 0.4, 7.9) is None
        client.send(b"x" * (800 * 20))
        assert client.answer().status == 200


def test_a_head_start_does_not_buy_more_than_body(gateway: GatewayProcess) -> None:
    """100 KB at once, which is 100 s at the rate, and then no more."""
    with RawClient(gateway.port) as client:
        client.send(post("/stops", 1_000_000) + b"x" * 100_000)
        began = time.monotonic()
        assert client.answer().status == 408
        assert 1.5 < time.monotonic() - began < 20


def test_waiting_for_the_worker_is_not_the_clients_slowness(gateway: GatewayProcess) -> None:
    """The worker takes nothing for longer than any of the times; the body is then whole."""
    size = 8 * 1024 * 1024
    with RawClient(gateway.port) as client:
        client.send(post("/busy", size) + b"x" * size)
        got = client.answer()
        assert (got.status, got.body) == (200, str(size).encode())
