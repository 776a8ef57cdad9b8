"""What a bench knows of a proxy: its version, how to configure and start it, and what it cannot do."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness import cores


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a proxy is to stand in front of, and where."""

    folder: Path
    """Private and empty; configuration, logs, sockets and process ids go there."""
    port: int
    tls_port: int
    spare_port: int
    """For whoever needs one more, as CHP for its control interface."""
    workers: Sequence[int]
    """Loopback ports; all serve `/app`."""
    tls: bool
    """Whether `tls_port` is to answer too."""
    certfile: Path
    keyfile: Path
    static: Path | None = None
    """Bokeh's static folder, for proxies that are told to serve it themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One program to start in the foreground."""

    argv: Sequence[str]
    ports: Sequence[int]
    """Those that answer once it is ready."""
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A proxy."""

    name: str
    title: str
    version: Callable[[], str | None]
    """None: not installed."""
    prepare: Callable[[Site], list[Command]]
    """Writes the configuration and says what to start; nothing to start means load goes to the worker itself."""
    note: str = ""
    """What sets it apart in a comparison, in a sentence."""
    balances: bool = True
    """Spreads over several workers."""
    max_tunnels: int = cores.MAX_TUNNELS
    """WebSockets open at once that its configuration carries."""


def output(*argv: str) -> str | None:
    """What a program prints when asked for its version, or None when there is no such program."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except (FileNotFoundError, PermissionError):
        return None
    return (done.stdout + done.stderr).strip()


def as_root() -> bool:
    """Servers that drop privileges need to be told to which account, and only root may."""
    return os.geteuid() == 0
