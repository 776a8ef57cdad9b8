"""What a worker pushes faster than the browser reads waits at the worker, not in the gateway's memory.

The figure is printed: `python -m pytest tests/e2e/test_memory.py -s`; RATE_MIB=1 takes the full 50 seconds.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.support.certificates import Certificate
from tests.support.frames import BINARY, frame, handshake
from tests.support.gateway import MIB, GatewayProcess
from tests.support.raw import RawClient
from tests.support.recording import Recorded, RecordingWorker, Side, switching
from tests.support.workers import servers

PUSHED = 50
"""Messages of 1 MB each."""
MB = 1_000_000
RATE = float(os.environ.get("RATE_MIB", "10")) * MB
"""Bytes a second that the browser reads."""
PIECE = 100_000
ALLOWED = 10 * MIB


async def push(request: Recorded, side: Side) -> None:
    """As fast as it can."""
    await side.send(switching(request))
    message = frame(BINARY, bytes(MB), masked=False)
    for _ in range(PUSHED):
        await side.send(message)
    side.close()


@pytest.mark.parametrize("tls", [pytest.param(False, id="plain"), pytest.param(True, id="tls")])
def test_a_worker_that_pushes_50_mb_to_a_slow_browser(tls: bool, certificate: Certificate, tmp_path: Path) -> None:
    with RecordingWorker(push) as worker:
        text = (
            f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nkind = "http"\nservers = {servers([worker])}\n'
            f'[timeouts]\ndrain = "1 s"\n[tls]\nlisten = ["127.0.0.1:0"]\nredirect_http = false\n'
            f'certfile = "{certificate.certfile}"\nkeyfile = "{certificate.keyfile}"\n'
        )
        with GatewayProcess(text, tmp_path) as gateway:
            _read_slowly(gateway, certificate, tls, pieces=2)  # what is allocated once
            gateway.forget_peak_memory()
            idle = gateway.memory()
            began = time.monotonic()
            taken = _read_slowly(gateway, certificate, tls)
            seconds = time.monotonic() - began
            more = gateway.peak_memory() - idle
            print(
                f"\n{'TLS' if tls else 'plain'}: {taken / MB:.0f} MB pushed, read at {taken / MB / seconds:.1f} MB/s; "
                f"idle {idle / MB:.1f} MB, peak {more / MB:.2f} MB more"
            )
            assert taken >= PUSHED * MB
            assert more < ALLOWED


def _read_slowly(gateway: GatewayProcess, certificate: Certificate, tls: bool, pieces: int = 10**9) -> int:
    """Bytes read until the worker has no more, at RATE at most."""
    port, context = (gateway.tls_port, certificate.client) if tls else (gateway.port, None)
    with RawClient(port, 600.0, context, receive_buffer=65536) as browser:
        browser.send(handshake("/push"))
        browser.read_until(rb"\r\n\r\n")
        taken, began = len(browser.received), time.monotonic()
        browser.received.clear()
        while not browser.closed and taken < pieces * PIECE:
            browser.receive(PIECE)
            taken += len(browser.received)
            browser.received.clear()
            # The rate itself is what is tested: a browser that is busy for so long.
            time.sleep(max(0.0, began + taken / RATE - time.monotonic()))
        return taken
