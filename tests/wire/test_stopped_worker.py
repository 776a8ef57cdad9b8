"""A worker that is there for the kernel and for nobody else: stopped, as one whose machine has gone without a word."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port
from tests.support.processes import Process, wait_port
from tests.support.raw import raw_exchange
from tests.support.waiting import wait_until

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Server(Process):
    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--protocol", "HTTP/1.1", str(self.port)]
        super().__init__("server", command, folder)

    def wait_ready(self) -> None:
        wait_port(self.port, self)


def test_up20_a_stopped_worker_is_a_504_and_serves_again_when_it_goes_on(tmp_path: Path) -> None:
    """New connections are still accepted by the kernel, idle ones look alive: only the deadline tells."""
    with Server(tmp_path / "server") as server:
        text = (
            f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.site]\nkind = "http"\nservers = ["127.0.0.1:{server.port}"]\n'
            '[timeouts]\nresponse = "2 s"\ndrain = "1 s"\n'
        )
        with GatewayProcess(text, tmp_path) as gateway:
            assert raw_exchange(gateway.port, GET, quiet=0).status == 200
            server.signal(signal.SIGSTOP)
            for _ in range(2):  # on the connection from before, and on a new one
                began = time.monotonic()
                assert raw_exchange(gateway.port, GET, quiet=0).status in {503, 504}
                assert time.monotonic() - began < 12
            server.signal(signal.SIGCONT)
            wait_until(lambda: raw_exchange(gateway.port, GET, quiet=0).status == 200, "it serves again")
