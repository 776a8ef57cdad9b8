"""What a proxy spent while load ran: CPU time from the kernel, or system calls counted by strace."""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import TracebackType

from bench.harness import proctree
from bench.harness.budget import Budget
from bench.harness.proxy import Proxy

SETTLE_SECONDS = 0.03
"""For what a proxy still does after its last answer: logs, closing."""
ATTACH_SECONDS = 10.0


class Meter:
    """`with meter:` around the load; connecting and warming up stay outside.

    at_once: how many units the load should keep in flight, if the meter wants a certain number.
    """

    at_once: int | None = None

    def __init__(self, proxy: Proxy, seconds: float) -> None:
        self._proxy = proxy
        self._seconds = seconds
        self.cpu_ns = 0
        self.others_share = 0.0
        """Share of the proxy's core that went to anyone else."""

    def budget(self) -> Budget:
        """How much load to run."""
        return Budget(seconds=self._seconds)

    def __enter__(self) -> Meter:
        self._before = proctree.usage(self._proxy.pids())
        self._busy = proctree.core_busy_ns(self._proxy.core)
        self._started = time.monotonic_ns()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        time.sleep(SETTLE_SECONDS)
        wall = time.monotonic_ns() - self._started
        busy = proctree.core_busy_ns(self._proxy.core) - self._busy
        self.cpu_ns = proctree.usage(self._proxy.pids()).since(self._before)
        self.others_share = max(0.0, (busy - self.cpu_ns) / wall)


class CallMeter(Meter):
    """Counts system calls by name over a fixed number of units, one at a time so that runs agree."""

    at_once = 1

    def __init__(self, proxy: Proxy, count: int) -> None:
        super().__init__(proxy, 60.0)
        self._count = count
        self.calls: Counter[str] = Counter()

    def budget(self) -> Budget:
        return Budget(seconds=self._seconds, count=self._count)

    def __enter__(self) -> CallMeter:
        self._folder = tempfile.TemporaryDirectory(prefix="bench-strace-")
        self._table = Path(self._folder.name) / "table"
        pids = self._proxy.pids()
        argv = ["strace", "-c", "-f", "-o", str(self._table), *(f"-p{pid}" for pid in pids)]
        said = Path(self._folder.name) / "said"
        with said.open("wb") as output:
            self._strace = subprocess.Popen(argv, stderr=output)
        deadline = time.monotonic() + ATTACH_SECONDS
        while said.read_text().count("attached") < len(pids):
            if self._strace.poll() is not None or time.monotonic() > deadline:
                self._stop()
                raise CannotTraceError(said.read_text().strip())
            time.sleep(0.01)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        time.sleep(SETTLE_SECONDS)
        self._stop()

    def _stop(self) -> None:
        if self._strace.poll() is None:
            self._strace.send_signal(signal.SIGINT)
        self._strace.wait(ATTACH_SECONDS)
        if self._table.exists():
            self.calls = parse_table(self._table.read_text())
        self._folder.cleanup()


class CannotTraceError(RuntimeError):
    """strace is missing or may not attach."""


def parse_table(text: str) -> Counter[str]:
    """Calls by name from the summary of `strace -c`; the total is left out."""
    calls: Counter[str] = Counter()
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 5 and fields[0].replace(".", "", 1).isdigit() and fields[-1] != "total":
            calls[fields[-1]] += int(fields[3])
    return calls
