"""Accepts connections of which something is to be known before they are served: a TLS handshake, a PROXY header.

A connection counts from here on, so that half a handshake holds a place like anything else.  Where neither is wanted,
the loop's own server accepts, and nothing here is passed through.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from bokeh_gateway.http.forwarded import normalise
from bokeh_gateway.http.proxy_protocol import BadProxyHeader, ProxyHeader
from bokeh_gateway.wire.downstream import Downstream

if TYPE_CHECKING:
    from bokeh_gateway.wire.edge import Edge

log = logging.getLogger(__name__)

BATCH: Final = 64
"""Connections accepted before others get their turn."""
TLS_SHUTDOWN: Final = 5.0
"""Seconds for a browser to answer our close_notify."""
PAUSE: Final = 1.0
"""Seconds without accepting where the system has no file or memory left for a connection."""
_SCARCE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Door:
    """Accepts at one listening socket until it is closed."""

    def __init__(
        self,
        bound: socket.socket,
        edge: Callable[[], Edge],
        port: int,
        context: ssl.SSLContext | None,
        proxied: str,
    ) -> None:
        """`proxied`: the setting that makes a PROXY header come first, from trusted proxies only; "": it does not."""
        self._bound = bound
        self._edge = edge
        self._port = port
        self._context = context
        self._proxied = proxied
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        bound.setblocking(False)
        self._loop.add_reader(bound.fileno(), self._accept)

    def close(self) -> None:
        """Accepts no more; who is inside already goes on."""
        self._loop.remove_reader(self._bound.fileno())
        if self._pause is not None:
            self._pause.cancel()

    def _accept(self) -> None:
        for _ in range(BATCH):
            try:
                sock, peername = self._bound.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno not in _SCARCE:
                    raise
                log.warning("no connection is accepted for %g s: %s; see `ulimit -n`", PAUSE, error.strerror)
                self._loop.remove_reader(self._bound.fileno())
                self._pause = self._loop.call_later(PAUSE, self._go_on)
                return
            self._welcome(sock, peername)

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._bound.fileno(), self._accept)

    def _welcome(self, sock: socket.socket, peername: object) -> None:
        sock.setblocking(False)
        peer = normalise(str(peername[0]) if isinstance(peername, tuple) and peername else "")
        edge = self._edge()
        if self._proxied and not edge.trusted.trusts(peer):
            log.warning(
                "closed a connection of %s: %s wants a PROXY header, and it is no trusted proxy: "
                "[gateway] trusted_proxies says who is",
                peer,
                self._proxied,
            )
            sock.close()
            return
        connection = Downstream(edge, secure=self._context is not None, port=self._port)
        if not connection.arrive(peer):
            sock.close()
            return
        task = self._loop.create_task(self._serve(sock, connection), name="arrival")
        connection.transport = cast("asyncio.Transport", Arrival(task))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, sock: socket.socket, connection: Downstream) -> None:
        try:
            if self._proxied:
                try:
                    heard = await self._hear(sock, connection)
                except BaseException:
                    sock.close()
                    raise
                if not heard:
                    sock.close()
                    return
            if self._context is None:
                await self._loop.connect_accepted_socket(lambda: connection, sock)
            else:
                await self._loop.connect_accepted_socket(
                    lambda: connection,
                    sock,
                    ssl=self._context,
                    ssl_handshake_timeout=connection.edge.timeouts.tls_handshake,
                    ssl_shutdown_timeout=TLS_SHUTDOWN,
                )
        except OSError as error:
            # Scanners and browsers that leave do this all day; what ends a handshake is no failure of ours.
            log.debug("%s: the connection ended before its first request: %s", connection.remote_ip, error)
        finally:
            if connection.arriving:
                connection.released()

    async def _hear(self, sock: socket.socket, connection: Downstream) -> bool:
        """Reads the PROXY header and nothing behind it; whether the connection is to be served."""
        timeout = connection.edge.timeouts.header
        header = ProxyHeader()
        try:
            async with asyncio.timeout(timeout):
                begun = await self._read(sock, header)
        except TimeoutError:
            why = f"its PROXY header did not come within [timeouts] header = {timeout:g} s"
        except BadProxyHeader as bad:
            why = str(bad)
        else:
            if header.whole:
                return not header.client or connection.speaks_for(header.client, header.port)
            if not begun:
                return False  # a load balancer's check that the port is open
            why = "it ended before its PROXY header did"
        log.warning("closed a connection of %s: %s; %s wants one", connection.remote_ip, why, self._proxied)
        return False

    async def _read(self, sock: socket.socket, header: ProxyHeader) -> bool:
        """Until the header is whole or the connection ends; whether any of it came."""
        begun = False
        while not header.whole:
            await self._readable(sock)
            # Looked at first: what is behind the header is for TLS, or the request's.
            ahead = sock.recv(512, socket.MSG_PEEK)
            if not ahead:
                break
            begun = True
            sock.recv(header.feed(ahead))
        return begun

    async def _readable(self, sock: socket.socket) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        self._loop.add_reader(sock.fileno(), wake)
        try:
            await ready
        finally:
            self._loop.remove_reader(sock.fileno())


class Arrival:
    """Stands for the transport of a connection that has none yet."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def abort(self) -> None:
        self._task.cancel()

    close = abort
