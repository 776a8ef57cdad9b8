"""Real `bokeh serve` (or `panel serve`) processes, and the record that the recorder app keeps of its runs."""

from __future__ import annotations

import json
import re
import signal
import socket as sockets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.waiting import wait_until

APPS = Path(__file__).parent / "apps"

RECORD = "TEST_RUN_RECORD"
"""The environment variable that tells the recorder app which file to append to."""


@dataclass(frozen=True)
class Run:
    """One run of the recorder app."""

    pid: int
    session_id: str
    arguments: dict[str, list[str]]
    headers: dict[str, str]
    remote: dict[str, str]


class RunRecord:
    """The file to which every run of the recorder app appends one line, whichever worker ran it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mark = 0
        path.touch()

    @property
    def environment(self) -> dict[str, str]:
        return {RECORD: str(self.path)}

    def mark(self) -> None:
        """`runs` counts from here on."""
        self._mark = self.path.stat().st_size

    def runs(self) -> list[Run]:
        with self.path.open("rb") as file:
            file.seek(self._mark)
            return [Run(**json.loads(line)) for line in file.read().splitlines()]


class BokehWorker(Process):
    """`bokeh serve` on a TCP port of 127.0.0.1 or a unix socket; ready when /metadata of its first app is 200."""

    def __init__(
        self,
        folder: Path,
        *apps: Path,
        name: str = "worker",
        unix: Path | None = None,
        arguments: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = ("bokeh", "serve"),
        prefix: str = "",
        port: int = 0,
    ) -> None:
        self.apps = apps or (APPS / "recorder.py",)
        self.unix = unix
        self.port = 0 if unix else port or free_port()
        self.prefix = "/" + prefix.strip("/") if prefix.strip("/") else ""
        where = ["--unix-socket", str(unix)] if unix else ["--address", "127.0.0.1", "--port", str(self.port)]
        full = [sys.executable, "-m", *command, *map(str, self.apps), *where, *arguments]
        if self.prefix:
            full += ["--prefix", self.prefix]
        super().__init__(name, full, folder, env)

    @property
    def address(self) -> str:
        """As it stands in gw.toml's `servers`."""
        return f"unix:{self.unix}" if self.unix else f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Of its first app, asked without the gateway."""
        return f"http://127.0.0.1:{self.port}{self.prefix}/{self.apps[0].stem}"

    def wait_ready(self) -> None:
        path = f"{self.prefix}/{self.apps[0].stem}/metadata"
        wait_until(lambda: self._answers(path), f"{self.name} answers {path}\n{self.report()}", every=0.1)

    def _answers(self, path: str) -> bool:
        self.require_running()
        try:
            with self._connect() as client:
                client.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
                return b" 200 " in client.recv(64)
        except OSError:
            return False

    def _connect(self) -> sockets.socket:
        client = sockets.socket(sockets.AF_UNIX if self.unix else sockets.AF_INET)
        client.settimeout(5)
        try:
            client.connect(str(self.unix) if self.unix else ("127.0.0.1", self.port))
        except OSError:
            client.close()
            raise
        return client

    def stop(self) -> None:
        self.require_running()
        self.signal(signal.SIGTERM)
        self.wait_exit()
        self.kill()

    def requests(self) -> list[str]:
        """`METHOD path` of what Tornado's access log shows; wants the argument --log-level debug or info."""
        found = re.findall(r"\b\d{3} ([A-Z]+) (\S+) \(", self.stderr + self.stdout)
        return [f"{method} {path}" for method, path in found]


@contextmanager
def bokeh_workers(
    count: int, folder: Path, *apps: Path, unix: bool = False, **options: Any
) -> Iterator[list[BokehWorker]]:
    """`count` workers that run the same apps, started side by side."""
    workers = [
        BokehWorker(folder, *apps, name=f"worker{n}", unix=folder / f"worker{n}.sock" if unix else None, **options)
        for n in range(count)
    ]
    with ExitStack() as stack:
        for worker in workers:
            worker.launch()
            stack.callback(worker.kill)
        for worker in workers:
            worker.wait_ready()
        yield workers


def servers(workers: Sequence[Any]) -> str:
    """The TOML array for `servers = ...` of a pool."""
    return json.dumps([worker.address for worker in workers])
