"""`bokeh-gateway serve app.py`: the gateway without a configuration file."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.gateway import READY
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.waiting import wait_until


class ServeProcess(Process):
    """`arguments` follow the app."""

    def __init__(self, folder: Path, app: Path, *arguments: str) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "bokeh_gateway.cli", "serve", str(app), *arguments]
        super().__init__("serve", [*command, "--listen", f"127.0.0.1:{self.port}"], folder)

    def wait_ready(self) -> None:
        def ready() -> bool:
            self.require_running()
            return READY.search(self.stderr) is not None

        wait_until(ready, "the ready line", 90)
