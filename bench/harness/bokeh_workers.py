"""Real `bokeh serve` processes with signed sessions, on the core of the load, and the count of what their app ran."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.harness import cores, workload
from bench.harness.launch import Running, free_ports

APP = Path(__file__).parents[1] / "apps" / "app.py"
ENVIRONMENT = {"BOKEH_SECRET_KEY": workload.SECRET, "BOKEH_SIGN_SESSIONS": "yes"}
"""For workers and for a parent application that embeds their plots."""


@dataclass(frozen=True, slots=True)
class BokehWorkers:
    """Their ports, and the file to which each run of the app adds its process id."""

    ports: list[int]
    record: Path

    def mark(self) -> int:
        """Where `runs` begins to count."""
        return self.record.stat().st_size

    def runs(self, mark: int) -> Counter[str]:
        """Runs since `mark` by worker."""
        return Counter(self.record.read_bytes()[mark:].decode().split())


@contextmanager
def bokeh_workers(count: int) -> Iterator[BokehWorkers]:
    """`count` workers that serve `/app`, started side by side."""
    with ExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="bench-workers-")))
        workers = BokehWorkers(free_ports(count), folder / "runs")
        workers.record.touch()
        env = {"BENCH_RUNS": str(workers.record), **ENVIRONMENT}
        started = []
        for port in workers.ports:
            argv = [sys.executable, "-m", "bokeh", "serve", str(APP), "--address", "127.0.0.1", "--port", str(port)]
            argv += ["--allow-websocket-origin", "*", "--session-ids", "signed", "--use-xheaders"]
            log = folder / f"{port}.log"
            started.append(exits.enter_context(Running(argv, core=cores.LOAD_CORE, log=log, env=env)))
        for port, worker in zip(workers.ports, started, strict=True):
            worker.wait_for(port)
        yield workers
