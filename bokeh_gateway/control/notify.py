"""systemd's notification protocol (sd_notify(3)) and socket activation (sd_listen_fds(3)), without its library."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

FIRST_FD: Final = 3
"""SD_LISTEN_FDS_START"""


class Notifier:
    """Tells the service manager what the gateway is doing; does nothing where there is none.

    Args:
        environ: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID are read.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        # A name that begins with @ is an abstract one.
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self.watchdog: Final = _watchdog(environ)
        """Seconds between two signs of life, half of what the manager waits; None: none are wanted."""

    def ready(self, status: str) -> None:
        """Started, or the reload is over."""
        self._send("READY=1", f"STATUS={status}", f"MAINPID={os.getpid()}")

    def reloading(self) -> None:
        """Until the next `ready`."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str) -> None:
        """On the way out."""
        self._send("STOPPING=1", f"STATUS={status}")

    def status(self, text: str) -> None:
        """A line for `systemctl status`."""
        self._send(f"STATUS={text}")

    def alive(self) -> None:
        """The loop runs."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            try:
                sock.sendto("\n".join(lines).encode(), self._address)
            except OSError:
                return  # a manager that does not listen has no use for it; the log says all of this too


def _watchdog(environ: MutableMapping[str, str]) -> float | None:
    microseconds, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not microseconds.isdigit() or int(microseconds) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(microseconds) / 2e6


def activated(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """The listening sockets that the service manager opened for us; each can be taken once."""
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    found: list[socket.socket] = []
    for fd in range(FIRST_FD, FIRST_FD + int(count)):
        os.set_inheritable(fd, False)
        found.append(socket.socket(fileno=fd))
    return found


def serves(bound: socket.socket, host: str, port: int, unix: str) -> bool:
    """Whether `bound` listens where `host` and `port`, or `unix`, say."""
    name = bound.getsockname()
    if bound.family == socket.AF_UNIX:
        return bool(unix) and str(name) == unix
    if unix or name[1] != port:
        return False
    return host == name[0] or (host == "" and name[0] in ("::", "0.0.0.0"))
