"""HAProxy passing TCP connections on, with the PROXY header that a test asks for."""

from __future__ import annotations

from pathlib import Path

from tests.support.ports import free_port
from tests.support.processes import Process, wait_port
from tests.support.programs import requires_program

_CONFIG = """
global
    maxconn 200
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen it
    bind 127.0.0.1:{port}
    server gateway 127.0.0.1:{target} {send}
"""


class HAProxy(Process):
    """Sends what comes to its `port` on to `target`; `send` is `send-proxy`, `send-proxy-v2`, ..."""

    def __init__(self, folder: Path, target: int, send: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        config = folder / "haproxy.cfg"
        config.write_text(_CONFIG.format(port=self.port, target=target, send=send))
        super().__init__("haproxy", [requires_program("haproxy"), "-db", "-f", str(config)], folder)

    def wait_ready(self) -> None:
        wait_port(self.port, self)
