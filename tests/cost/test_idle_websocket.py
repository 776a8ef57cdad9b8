"""What an idle WebSocket holds: a handshake's objects must not stay for the hours that it is open."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from tests.support.frames import handshake
from tests.support.gateway import KIB, GatewayProcess
from tests.support.raw import RawClient
from tests.support.recording import Recorded, RecordingWorker, Side, switching

WARM, COUNT = 200, 800
HEADERS = [f"X-Header-{number}: {number:040}" for number in range(12)]
"""As many as a browser sends."""
MOST = 6 * KIB
"""Twice what it takes; with the objects of its handshake it was 13."""

CONFIG = """
[gateway]
listen = ["127.0.0.1:0"]
[pool.site]
kind = "http"
servers = ["{worker}"]
[log]
access = "off"
"""


async def agrees(request: Recorded, side: Side) -> None:
    await side.send(switching(request))
    await side.wait_end()


def test_an_idle_websocket_holds_little(tmp_path: Path) -> None:
    with (
        RecordingWorker(agrees) as worker,
        GatewayProcess(CONFIG.format(worker=worker.address), tmp_path) as gateway,
        ExitStack() as stack,
    ):

        def opened(count: int) -> None:
            for _ in range(count):
                client = stack.enter_context(RawClient(gateway.port))
                client.send(handshake("/ws", *HEADERS))
                assert client.answer().status == 101

        opened(WARM)
        before = gateway.memory()
        opened(COUNT)
        each = (gateway.memory() - before) / COUNT
        print(f"{each / KIB:.1f} KiB a WebSocket")
        assert each < MOST
