"""Which core does what: the proxy has one to itself, load and origin share the other."""

from __future__ import annotations

import os
import resource

_AVAILABLE = sorted(os.sched_getaffinity(0))
PINNED = len(_AVAILABLE) >= 2
PROXY_CORE = {_AVAILABLE[0]} if PINNED else set(_AVAILABLE)
LOAD_CORE = {_AVAILABLE[1]} if PINNED else set(_AVAILABLE)
DESCRIPTORS = min(65_536, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
"""Open files a process: a proxied connection takes two, so 10,000 WebSockets need a hard limit above 20,000."""
MAX_TUNNELS = (DESCRIPTORS - 300) // 2


def pin(cores: set[int]) -> None:
    """Keep this process (and what it starts) on `cores`."""
    os.sched_setaffinity(0, cores)


def raise_descriptor_limit() -> int:
    """Let this process (and what it starts) open as many descriptors as it may; returns how many."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return DESCRIPTORS
