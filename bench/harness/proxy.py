"""One proxy that runs, as a bench sees it."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.harness import proctree
from bench.harness.launch import Running
from bench.peers.peer import Peer


@dataclass(slots=True, kw_only=True)
class Proxy:
    """Where it listens, and its processes; none of its own where load goes straight to a worker."""

    peer: Peer
    version: str
    port: int
    tls_port: int
    context: ssl.SSLContext
    core: set[int]
    folder: Path
    running: Sequence[Running] = ()

    @property
    def name(self) -> str:
        """As given to --peers."""
        return self.peer.name

    def pids(self) -> list[int]:
        """All its processes now."""
        return proctree.tree([program.pid for program in self.running])

    def memory_bytes(self) -> int:
        """Proportional set size of all its processes."""
        return proctree.memory_bytes(self.pids())

    def last_words(self) -> str:
        """How it ended, and the end of what it printed."""
        return "\n".join(f"exit status {program.status()}\n{program.tail()}" for program in self.running)

    def alive(self) -> bool:
        """Whether what was started still runs."""
        return all(program.alive() for program in self.running)
