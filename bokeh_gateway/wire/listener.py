"""Listening sockets: bound early, so that a port in use is said before anything starts; served when all is ready."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from bokeh_gateway.errors import ConfigError
from bokeh_gateway.wire.downstream import Downstream

if TYPE_CHECKING:
    import ssl

    from bokeh_gateway.config.address import Address
    from bokeh_gateway.wire.edge import Edge

BACKLOG: Final = 4096
"""Connections that the kernel keeps until we accept them; it takes less where net.core.somaxconn is lower."""
TLS_SHUTDOWN: Final = 5.0
"""Seconds for a browser to answer our close_notify."""


class Listener:
    """One address that is listened on."""

    def __init__(self, key: str, address: Address, *, tls: bool) -> None:
        """Binds; `key` is the setting, for the error.

        Raises:
            ConfigError: the address cannot be bound.
        """
        self.address = address
        self.tls = tls
        try:
            self._sockets = _bind(address)
        except OSError as error:
            raise ConfigError(key, str(address), f"an address that can be bound ({error.strerror or error})") from error
        self._servers: list[asyncio.Server] = []

    @property
    def port(self) -> int:
        """The port that was bound, 0 for a unix socket."""
        return 0 if self.address.unix else int(self._sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """How a browser on this machine reaches it; `unix:...` for a unix socket."""
        if self.address.unix:
            return str(self.address)
        scheme, usual = ("https", 443) if self.tls else ("http", 80)
        host = "127.0.0.1" if self.address.wildcard else self.address.host
        host = f"[{host}]" if ":" in host else host
        return f"{scheme}://{host}{'' if self.port == usual else f':{self.port}'}/"

    async def serve(
        self,
        edge: Callable[[], Edge],
        context: ssl.SSLContext | None,
        handshake_timeout: float,
    ) -> None:
        """Accepts from now on.  A new connection gets the `edge` of its time, which a reload may have changed."""
        loop = asyncio.get_running_loop()
        port, secure = self.port, self.tls

        def connection() -> Downstream:
            return Downstream(edge(), secure=secure, port=port)

        for bound in self._sockets:
            if context is None:
                server = await loop.create_server(connection, sock=bound, backlog=BACKLOG)
            else:
                server = await loop.create_server(
                    connection,
                    sock=bound,
                    backlog=BACKLOG,
                    ssl=context,
                    ssl_handshake_timeout=handshake_timeout,
                    ssl_shutdown_timeout=TLS_SHUTDOWN,
                )
            self._servers.append(server)

    def close(self) -> None:
        """Accepts no more; open connections stay."""
        for server in self._servers:
            server.close()
        for bound in self._sockets:
            bound.close()
        if self.address.unix:
            with contextlib.suppress(OSError):
                os.unlink(self.address.unix)


def _bind(address: Address) -> list[socket.socket]:
    if address.unix:
        return [_bind_unix(address.unix)]
    host = address.host or None
    found = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    port = address.port
    try:
        for family, _, _, _, where in dict.fromkeys(found):
            if family == socket.AF_INET6 and not socket.has_ipv6:
                continue
            try:
                bound = socket.socket(family, socket.SOCK_STREAM)
            except OSError:
                if len(found) > 1:  # a kernel without IPv6, asked for every address
                    continue
                raise
            sockets.append(bound)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.bind((where[0], port, *where[2:]))
            port = bound.getsockname()[1]
    except OSError:
        for bound in sockets:
            bound.close()
        raise
    return sockets


def _bind_unix(path: str) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.lstat(path).st_mode) and not _answers(path):
                os.unlink(path)  # left by a gateway that was killed
        bound.bind(path)
    except OSError:
        bound.close()
        raise
    return bound


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
        return True
