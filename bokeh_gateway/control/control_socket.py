"""The control socket: how `bokeh-gateway ctl` reaches a running gateway.  One JSON object a line, each way.

Who may open the socket may do anything with the gateway: its mode is 0600.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from bokeh_gateway.control.command import MAX_SOCKET_PATH
from bokeh_gateway.control.control_path import KEY, make_folder
from bokeh_gateway.control.runtime_dir import remove_socket
from bokeh_gateway.errors import ConfigError

log = logging.getLogger(__name__)

MAX_LINE: Final = 1 << 20
"""Bytes of a line; a status of 256 workers has some 60 KB."""

LONGEST: Final = 366 * 86400.0
"""Seconds for sessions to end: more is for ever, and not every timer can count to that."""

Answer = dict[str, Any]
Handler = Callable[[str, str, float | None], Awaitable[Answer]]
"""Command, its target, "" where it has none, and seconds for sessions to end, None: as configured ->
`{"ok": true, ...}` or `{"ok": false, "error": "..."}`."""


class ControlSocket:
    """Listens at `path` and hands each command to `handler`."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self._path = path
        self._handler = handler
        self._sock: socket.socket | None = None
        self._server: asyncio.Server | None = None

    @property
    def path(self) -> Path:
        """Where it listens."""
        return self._path

    def adopt(self, fd: int) -> None:
        """Takes over the socket that listened here before this program was executed anew."""
        self._sock = socket.socket(fileno=fd)

    def fileno(self) -> int:
        """The descriptor that `adopt` takes; -1: it does not listen."""
        return -1 if self._sock is None else self._sock.fileno()

    def bind(self) -> None:
        """Raises:
        ConfigError: it cannot listen there.
        """
        if self._sock is not None:
            return
        path = str(self._path)
        if len(os.fsencode(path)) > MAX_SOCKET_PATH:
            raise ConfigError(KEY, path, f"a path of at most {MAX_SOCKET_PATH} bytes")
        make_folder(self._path)
        if _answers(path):
            raise ConfigError(KEY, path, "a socket of its own: another gateway listens there")
        remove_socket(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)  # 0600 from the first moment on
        try:
            sock.bind(path)
        except OSError as exc:
            sock.close()
            raise ConfigError(KEY, path, f"a socket that can be made ({exc.strerror})") from exc
        finally:
            os.umask(mask)
        self._sock = sock

    async def start(self) -> None:
        """Answers from now on.

        Raises:
            ConfigError: it cannot listen there.
        """
        self.bind()
        assert self._sock is not None
        self._server = await asyncio.start_unix_server(self._serve, sock=self._sock, limit=MAX_LINE)

    def close(self) -> None:
        if self._sock is None:
            return
        remove_socket(str(self._path))
        if self._server is not None:
            self._server.close()
        self._sock.close()
        self._server = self._sock = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):  # ValueError: a line without end
            pass
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> Answer:
        try:
            asked = json.loads(line)
            command, target, drain = str(asked["command"]), str(asked.get("target", "")), asked.get("drain")
            drain = None if drain is None else _seconds(drain)
        except (ValueError, KeyError, TypeError, AttributeError):
            return {"ok": False, "error": 'expected a line such as {"command": "drain", "target": "apps/1"}'}
        return await self._handler(command, target, drain)


def _seconds(value: Any) -> float:
    """Raises:
    ValueError: it is no number.
    """
    seconds = float(value)
    if math.isnan(seconds):
        raise ValueError("not a number")
    return min(max(0.0, seconds), LONGEST)


def _answers(path: str) -> bool:
    """Whether somebody listens there."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as sock:
        sock.settimeout(1.0)
        try:
            sock.connect(path)
        except OSError:
            return False
        return True


def ask(path: Path, command: str, target: str = "", timeout: float | None = None, drain: float | None = None) -> Answer:
    """What the gateway that listens at `path` answers.  `drain`: seconds for sessions to end.

    Raises:
        OSError: there is none, or it ended meanwhile.
    """
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as sock:
        sock.settimeout(timeout)
        sock.connect(str(path))
        sock.sendall(json.dumps({"command": command, "target": target, "drain": drain}).encode() + b"\n")
        with sock.makefile("rb") as file:
            line = file.readline(MAX_LINE)
    if not line:
        raise ConnectionError("the gateway ended before it answered")
    answer: Answer = json.loads(line)
    return answer
