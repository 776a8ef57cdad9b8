"""One gateway process as the master sees it: a child at the end of a channel.

Started by exec, never by a fork of a running loop: so an upgrade starts the new code the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from bokeh_gateway.control.channel import Channel, OnMessage, Payload
from bokeh_gateway.control.reaping import reaped

PACKAGE: Final = Path(__file__).resolve().parents[1]
NOT_INHERITED: Final = ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC")


class Handle(Protocol):
    """What the master holds of a process, whether it is a child or this process itself."""

    pid: int
    exited: asyncio.Future[int]
    """Done with the exit code, -N for signal N."""

    def send(self, kind: str, payload: Payload, fds: Sequence[int] = ()) -> None: ...
    def kill(self) -> None: ...


Spawn = Callable[[OnMessage], Any]
"""`async` start of a process whose messages go to the argument; gives a `Handle`."""


class GatewayProcess:
    """A child process.  Made by `spawn` or `adopt`."""

    def __init__(self, pid: int, sock: socket.socket, on_message: OnMessage, exited: asyncio.Future[int]) -> None:
        self.pid = pid
        self.exited = exited
        self._channel = Channel(sock, asyncio.get_running_loop(), on_message, lambda: None)
        exited.add_done_callback(lambda _: self._channel.close())

    @classmethod
    async def spawn(cls, on_message: OnMessage) -> GatewayProcess:
        """Starts one.

        Raises:
            OSError: no process could be made.
        """
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                # -P: a file in the working folder must not stand in for a module.
                *(sys.executable, "-P", "-m", "bokeh_gateway.process", str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                env=_environment(),
                pass_fds=[theirs.fileno()],
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(process.pid, ours, on_message, asyncio.ensure_future(process.wait()))

    @classmethod
    def adopt(cls, pid: int, channel_fd: int, on_message: OnMessage) -> GatewayProcess:
        """Takes over a child that was started before this program was executed anew."""
        return cls(pid, socket.socket(fileno=channel_fd), on_message, reaped(pid))

    @property
    def channel_fd(self) -> int:
        """Our end of the channel."""
        return self._channel.fileno()

    def send(self, kind: str, payload: Payload, fds: Sequence[int] = ()) -> None:
        """Sends a message; never waits."""
        self._channel.send(kind, payload, fds)

    def kill(self) -> None:
        """SIGKILL."""
        if not self.exited.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def _environment() -> dict[str, str]:
    """Ours, less what speaks to the master only; this package is found there wherever ours was."""
    env = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(PACKAGE.parent), env.get("PYTHONPATH"))))
    return env
