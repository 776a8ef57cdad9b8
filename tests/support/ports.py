"""Ports that nobody listens on."""

from __future__ import annotations

import random
import socket

LOWEST, HIGHEST = 20_000, 32_000  # below Linux' ephemeral range: no client socket takes one between choice and use


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free now; drawn at random, so that test runs beside each other seldom meet."""
    for _ in range(100):
        port = random.randrange(LOWEST, HIGHEST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no free port between {LOWEST} and {HIGHEST}")
