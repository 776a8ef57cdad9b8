"""TERM while there is traffic: what is under way ends well, WebSockets are told, nothing new begins."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.frames import CLOSE, handshake, read_frame
from tests.support.gateway import GatewayProcess
from tests.support.raw import RawClient
from tests.support.recording import Recorded, RecordingWorker, Side, answer, switching
from tests.support.waiting import wait_until


async def slow(request: Recorded, side: Side) -> None:
    await asyncio.sleep(2)
    await side.send(answer(b"after all"))


async def never(request: Recorded, side: Side) -> None:
    await side.wait_end()


async def tunnel(request: Recorded, side: Side) -> None:
    await side.send(switching(request))
    await side.wait_end()


@pytest.fixture
def worker() -> Iterator[RecordingWorker]:
    with RecordingWorker(scripts={"/slow": slow, "/never": never, "/ws": tunnel}) as running:
        yield running


def started(worker: RecordingWorker, folder: Path, drain: str) -> GatewayProcess:
    gateway = GatewayProcess(
        f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.site]\nkind = "http"\nservers = ["{worker.address}"]\n'
        f'[timeouts]\ndrain = "{drain}"\n',
        folder,
    )
    gateway.start()
    return gateway


def test_gw05_what_is_under_way_ends_and_websockets_are_told(worker: RecordingWorker, tmp_path: Path) -> None:
    """The request that waits for its worker is answered, idle connections close, a WebSocket gets 1001, status 0."""
    gateway = started(worker, tmp_path, "4 s")
    try:
        with RawClient(gateway.port) as waiting, RawClient(gateway.port) as idle, RawClient(gateway.port) as ws:
            idle.send(b"GET /fine HTTP/1.1\r\nHost: x\r\n\r\n")
            assert idle.answer().status == 200
            ws.send(handshake("/ws"))
            assert ws.answer().status == 101
            waiting.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            worker.wait_for("/slow")
            gateway.signal(signal.SIGTERM)
            assert idle.ends(10)
            wait_until(lambda: not _accepts(gateway.port), "nothing new is accepted")
            assert waiting.answer().body == b"after all"
            assert waiting.ends(10)
            opcode, payload = read_frame(ws.read_exactly)
            assert (opcode, payload[:2]) == (CLOSE, (1001).to_bytes(2, "big"))
        assert gateway.wait_exit() == 0
        gateway.assert_no_traceback()
    finally:
        gateway.kill()


def test_gw05_a_second_term_does_not_wait(worker: RecordingWorker, tmp_path: Path) -> None:
    gateway = started(worker, tmp_path, "600 s")
    try:
        with RawClient(gateway.port) as ws:
            ws.send(handshake("/ws"))
            assert ws.answer().status == 101
            gateway.signal(signal.SIGTERM)
            wait_until(lambda: "draining" in gateway.stderr, "it drains")
            began = time.monotonic()
            gateway.signal(signal.SIGTERM)
            assert gateway.wait_exit() == 0
            assert time.monotonic() - began < 15
    finally:
        gateway.kill()


@pytest.mark.parametrize("terms", [1, 2], ids=["drained", "hurried"])
def test_what_a_stop_cuts_is_in_the_access_log(terms: int, worker: RecordingWorker, tmp_path: Path) -> None:
    """A request whose worker never answers, and a WebSocket whose browser does not answer the close frame."""
    gateway = started(worker, tmp_path, "600 s" if terms > 1 else "0.2 s")
    try:
        with RawClient(gateway.port) as waiting, RawClient(gateway.port) as ws:
            ws.send(handshake("/ws"))
            assert ws.answer().status == 101
            waiting.send(b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n")
            worker.wait_for("/never")
            for _ in range(terms):
                gateway.signal(signal.SIGTERM)
                wait_until(lambda: "draining" in gateway.stderr, "it drains")
            assert gateway.wait_exit() == 0
        (opening,) = (line for line in gateway.access_log() if "event=open" in line)
        (request,) = (line for line in gateway.access_log() if '"GET /never HTTP/1.1" 499' in line)
        (closing,) = (line for line in gateway.access_log() if "event=close" in line)
        assert "reason=gateway-stops" in request
        assert '"GET /ws HTTP/1.1"' in opening
        assert '"GET /ws HTTP/1.1"' in closing
    finally:
        gateway.kill()


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
    except OSError:
        return False
