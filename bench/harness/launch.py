"""Start a process on a core, wait until its port answers, and end it (and what it started) by process id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from bench.harness import cores, proctree

START_SECONDS = 90.0
STOP_SECONDS = 5.0


class StartFailedError(RuntimeError):
    """The process ended or stayed deaf; the message carries the end of its output."""


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on now, outside the range from which outgoing connections are numbered."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports: list[int] = []
    candidate = 10_000 + (os.getpid() * 37) % 15_000
    while len(ports) < count:
        candidate = candidate + 1 if candidate + 1 < min(low, 32_768) else 10_000
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
        ports.append(candidate)
    return ports


class Running:
    """One started program.  Use as a context manager: it is gone afterwards, whatever happened."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        core: set[int],
        log: Path,
        ports: Sequence[int] = (),
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.log = log
        self.started = time.monotonic()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=cwd,
                env={**os.environ, **(env or {})},
                preexec_fn=_prepare(core),
            )
        try:
            for port in ports:
                self.wait_for(port)
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """The process that was started; its children are found by `proctree.tree`."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether the started process itself still runs."""
        return self._process.poll() is None

    def status(self) -> int | None:
        """Exit status, -N for signal N, or None while it runs."""
        return self._process.poll()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """TERM, then KILL for whatever of the tree is left; waits for the end."""
        pids = proctree.tree([self.pid])
        _signal([self.pid], signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline and (self._process.poll() is None or _alive(pids)):
            time.sleep(0.01)
        _signal(_alive(pids), signal.SIGKILL)
        self._process.wait()

    def wait_for(self, port: int) -> None:
        """Returns when the port answers.

        Raises:
            StartFailedError: the program ended, or the port stayed closed.
        """
        while True:
            if self._process.poll() is not None:
                raise StartFailedError(f"ended with {self._process.returncode}: {self.tail()}")
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            if time.monotonic() > self.started + START_SECONDS:
                raise StartFailedError(f"port {port} not open after {START_SECONDS} s: {self.tail()}")
            time.sleep(0.002)

    def tail(self, size: int = 1500) -> str:
        """The end of what it printed."""
        return self.log.read_bytes()[-size:].decode(errors="replace")


def _prepare(core: set[int]) -> Callable[[], None]:
    def in_child() -> None:
        cores.pin(core)
        cores.raise_descriptor_limit()

    return in_child


def _alive(pids: Sequence[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists() and not _zombie(pid)]


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
