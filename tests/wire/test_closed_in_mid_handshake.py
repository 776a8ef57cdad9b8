"""A worker agrees to a WebSocket in the moment that its browser goes away.

The moment is too short to be met by chance: the data plane runs inside the test, on a loop whose turns it counts.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import uvloop

from bokeh_gateway.balance.board import REQUESTS, TUNNELS
from bokeh_gateway.balance.shared import Shared
from bokeh_gateway.config.address import Address
from bokeh_gateway.config.load import load
from bokeh_gateway.dataplane import DataPlane
from bokeh_gateway.wire.downstream import Downstream
from bokeh_gateway.wire.listener import Listener
from tests.support.certificates import make_certificate
from tests.support.frames import handshake
from tests.support.recording import Recorded, RecordingWorker, Side, switching
from tests.support.waiting import wait_until

CONFIG = """
[gateway]
listen = []
[tls]
listen = ["127.0.0.1:0"]
certfile = "{certificate.certfile}"
keyfile = "{certificate.keyfile}"
[pool.site]
kind = "http"
servers = ["{worker}"]
[log]
access = "off"
"""


async def waits_to_be_pushed(request: Recorded, side: Side) -> None:
    await side.wait_end()
    side.close()


@pytest.mark.parametrize("turns", [0, 1, 2])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_nothing_is_left_of_it(tls: bool, turns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over TLS the news that a connection has ended is on its way for some turns of the loop."""
    agreed = False

    def later(turns: int) -> None:
        nonlocal agreed
        if turns:
            asyncio.get_running_loop().call_soon(later, turns - 1)
            return
        agreed = True
        worker.push(switching(worker.requests[0]))

    def goes_away(connection: Downstream) -> bool:
        later(turns)
        return False

    monkeypatch.setattr(Downstream, "eof_received", goes_away)
    certificate = make_certificate(tmp_path / "certificate")
    path = tmp_path / "gw.toml"
    with RecordingWorker(waits_to_be_pushed) as worker:
        path.write_text(CONFIG.format(worker=worker.address, certificate=certificate))
        loop = uvloop.new_event_loop()
        loop.run_until_complete(_open_and_leave(path, worker, certificate.client if tls else None))
        loop.close()  # not after a failure: uvloop would wait for a TLS connection that nobody ends
        assert agreed


async def _open_and_leave(path: Path, worker: RecordingWorker, tls: ssl.SSLContext | None) -> None:
    loop = asyncio.get_running_loop()
    listener = Listener("gateway.listen", Address("127.0.0.1", 0), tls=tls is not None)
    shared = Shared(4)
    plane = DataPlane(load(path, {}), [_pool(worker)], shared, 0, loop)
    await plane.start([listener])
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=tls)
        writer.write(handshake("/ws"))
        await asyncio.to_thread(worker.wait_for, "/ws")
        writer.close()
        await asyncio.to_thread(wait_until, lambda: not plane.connections and worker.connections[0].ended, "both ends")
        assert not plane.fleet.tunnels
        assert [shared.board.total(kind, 0) for kind in (REQUESTS, TUNNELS)] == [0, 0]
    finally:
        plane.close()


def _pool(worker: RecordingWorker) -> dict[str, Any]:
    member = {
        "name": "site/1", "address": asdict(Address("127.0.0.1", worker.port)), "index": 0, "backup": False,
        "weight": 1.0, "slow_start": 0.0, "up": True, "draining": False, "closed": False, "slow": False,
        "keeps": 15.0, "coming": False, "condemned": False, "started": True,
    }  # fmt: skip
    return {
        "name": "site", "kind": "http", "hold": 0.0, "max_sessions": None, "queue": 0, "queue_timeout": 60.0,
        "failures": 3, "spread": False, "workers": [member],
    }  # fmt: skip
