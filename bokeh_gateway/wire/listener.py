"""Listening sockets: bound by the master, so that a port in use is said before anything starts; served by processes.

Of several processes each has a socket of its own at the same port (SO_REUSEPORT): the kernel deals connections out
evenly, where one shared socket would give most of them to whoever wakes first.  The master keeps every socket open, so
connections that wait for a process that died are served by its successor.  Unix sockets are shared.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from bokeh_gateway.errors import ConfigError
from bokeh_gateway.wire.door import Door
from bokeh_gateway.wire.downstream import Downstream

if TYPE_CHECKING:
    import ssl

    from bokeh_gateway.config.address import Address
    from bokeh_gateway.wire.edge import Edge

BACKLOG: Final = 4096
"""Connections that the kernel keeps until we accept them; it takes less where net.core.somaxconn is lower."""


class Listener:
    """One address that is listened on."""

    def __init__(
        self,
        key: str,
        address: Address,
        *,
        tls: bool,
        sockets: Sequence[socket.socket] | None = None,
        families: int | None = None,
    ) -> None:
        """Binds, unless it is given `sockets` that are bound, in groups of `families`.  `key` is for the error.

        Raises:
            ConfigError: the address cannot be bound.
        """
        self.address = address
        self.tls = tls
        try:
            self.sockets = _bind(address) if sockets is None else list(sockets)
        except OSError as error:
            raise ConfigError(key, str(address), f"an address that can be bound ({error.strerror or error})") from error
        self.families = families or len(self.sockets)
        """Sockets of one process: one for each address family."""
        self.proxied = ""
        self._serving: list[asyncio.Server | Door] = []

    def turned(self) -> Listener:
        """The same sockets, for TLS where these were for plain connections, or the other way round.  Not for unix ones,
        whose file is removed with their listener."""
        sockets = [bound.dup() for bound in self.sockets]
        return Listener("", self.address, tls=not self.tls, sockets=sockets, families=self.families)

    def share(self, processes: int) -> None:
        """Makes a socket for each of so many processes; never fewer than there are."""
        first = self.sockets[0]
        if self.address.unix or processes == 1 or first.family not in (socket.AF_INET, socket.AF_INET6):
            return
        # Only now: a first bind that asked for sharing would succeed beside another gateway on the same port.
        originals = self.sockets[: self.families]
        for bound in originals:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        while len(self.sockets) < processes * self.families:
            self.sockets += [_beside(bound) for bound in originals]

    def part(self, slot: int, processes: int) -> list[socket.socket]:
        """The sockets of process `slot` of so many."""
        groups = [self.sockets[i : i + self.families] for i in range(0, len(self.sockets), self.families)]
        if len(groups) == 1:
            return groups[0]
        return [bound for i, group in enumerate(groups) if i % processes == slot for bound in group]

    @property
    def port(self) -> int:
        """The port that was bound, 0 for a unix socket."""
        return 0 if self.address.unix else int(self.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """How a browser on this machine reaches it; `unix:...` for a unix socket."""
        if self.address.unix:
            return str(self.address)
        scheme, usual = ("https", 443) if self.tls else ("http", 80)
        host = "127.0.0.1" if self.address.wildcard else self.address.host
        host = f"[{host}]" if ":" in host else host
        return f"{scheme}://{host}{'' if self.port == usual else f':{self.port}'}/"

    async def serve(self, edge: Callable[[], Edge], context: ssl.SSLContext | None, proxied: str = "") -> None:
        """Accepts from now on; again, for another answer than before.

        A new connection gets the `edge` of its time, which a reload may have changed.  `proxied`: the setting that
        makes a PROXY header come first, "": none does.
        """
        self._stop()
        loop = asyncio.get_running_loop()
        port, secure = self.port, self.tls
        self.proxied = proxied

        def connection() -> Downstream:
            return Downstream(edge(), secure=secure, port=port)

        for bound in self.sockets:
            if context is None and not proxied:
                # A server closes its socket; ours may be served in another way after a reload.
                self._serving.append(await loop.create_server(connection, sock=bound.dup(), backlog=BACKLOG))
            else:
                bound.listen(BACKLOG)
                self._serving.append(Door(bound, edge, port, context, proxied))

    def _stop(self) -> None:
        for server in self._serving:
            server.close()
        self._serving.clear()

    def close(self) -> None:
        """Accepts no more; open connections stay."""
        self._stop()
        for bound in self.sockets:
            bound.close()

    def remove(self) -> None:
        """Closes, and removes the file of a unix socket."""
        self.close()
        if self.address.unix:
            with contextlib.suppress(OSError):
                os.unlink(self.address.unix)


def _beside(bound: socket.socket) -> socket.socket:
    """Another socket at the same address."""
    other = socket.socket(bound.family, socket.SOCK_STREAM)
    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if bound.family == socket.AF_INET6:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        other.bind(bound.getsockname())
        other.listen(BACKLOG)
    except OSError:
        other.close()
        raise
    return other


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
