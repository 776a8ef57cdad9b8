"""A gateway process: the data plane at the end of a channel to its master.

    python -P -m bokeh_gateway.process CHANNEL_FD

It does what the master says, in order.  When the master is gone it accepts no more, and what is open gets `[timeouts]
drain` to end: a master that dies takes its supervised workers with it, but other workers' sessions need not be cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

import uvloop
from tornado.httputil import HTTPServerConnectionDelegate

from bokeh_gateway.balance.pool import Worker
from bokeh_gateway.balance.shared import Shared
from bokeh_gateway.config.address import Address
from bokeh_gateway.config.schema import Config
from bokeh_gateway.control.channel import Channel, Payload
from bokeh_gateway.dataplane import STOP_LIMIT, DataPlane
from bokeh_gateway.errors import GatewayError
from bokeh_gateway.observe.logging_setup import configure, set_level
from bokeh_gateway.wire.listener import Listener


class Plane:
    """Does what the master's messages say.  `run` returns when it is to end.

    Args:
        say: sends a message to the master.
    """

    def __init__(
        self,
        say: Callable[[str, Payload], None],
        applications: Mapping[str, HTTPServerConnectionDelegate] | None = None,
    ) -> None:
        self._say = say
        self._applications = applications
        self._loop = asyncio.get_running_loop()
        self._plane: DataPlane | None = None
        self._shared: Shared | None = None
        self._columns = self._rows = 1
        self._orders: asyncio.Queue[tuple[str, Payload, list[int]]] = asyncio.Queue()
        self._hurried: asyncio.Future[None] = self._loop.create_future()
        self._ending: asyncio.Task[None] | None = None
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._drain_limit = 0.0

    def take(self, kind: str, payload: Payload, fds: list[int]) -> None:
        """One message from the master."""
        if kind == "ping":
            self._say("pong", {})
            return
        if kind == "stop":
            self.hurry()
        self._orders.put_nowait((kind, payload, fds))

    def master_gone(self) -> None:
        """No more messages will come."""
        self.end(None, STOP_LIMIT)

    def hurry(self) -> None:
        """Ends at once."""
        if not self._hurried.done():
            self._hurried.set_result(None)

    def end(self, limit: float | None, setting: str) -> None:
        """Accepts no more; returns from `run` when all connections ended, or `limit` seconds have passed."""
        if self._ending is None:
            self._ending = self._loop.create_task(
                self._drain(self._drain_limit if limit is None else limit, setting), name="draining"
            )

    async def run(self) -> None:
        """Until it is to end."""
        following = self._loop.create_task(self._follow(), name="orders")
        try:
            await asyncio.wait({following, self._ended}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
        finally:
            following.cancel()
            if self._ending is not None:
                self._ending.cancel()
            if self._plane is not None:
                self._say("metrics", {"id": 0, "snapshot": self._plane.snapshot()})
                self._plane.close()
            if self._shared is not None:
                self._shared.close()

    async def _drain(self, limit: float, setting: str) -> None:
        if self._plane is not None:
            await self._plane.drain(limit, self._hurried, setting)
        if not self._ended.done():
            self._ended.set_result(None)

    async def _follow(self) -> None:
        while True:
            kind, payload, fds = await self._orders.get()
            await self._do(kind, payload, fds)

    async def _do(self, kind: str, payload: Payload, fds: list[int]) -> None:
        plane = self._plane
        if kind == "configure":
            await self._configure(payload, fds)
        elif kind == "stop":
            self.end(0.0, "")
        elif kind in ("drain", "retire"):
            self.end(payload["seconds"], payload["setting"])
        elif plane is None:
            return
        elif kind == "roster":
            self._use(payload)
            plane.fleet.apply(payload["roster"])
        elif kind == "rows":
            self._use(payload)
        elif kind == "worker":
            plane.fleet.tell(payload["name"], payload["change"])
        elif kind == "keys":
            plane.told_keys(payload)
        elif kind == "session":
            plane.told_session(payload["sid"], payload["sealed"])
        elif kind == "reopen":
            plane.reopen_logs()
        elif kind == "metrics":
            self._say("metrics", {"id": payload["id"], "snapshot": plane.snapshot()})

    def _use(self, payload: Payload) -> None:
        """What is used of the board."""
        self._columns = payload.get("columns", self._columns)
        self._rows = payload.get("rows", self._rows)
        if self._shared is not None:
            self._shared.board.use(self._columns, self._rows)

    async def _configure(self, payload: Payload, fds: list[int]) -> None:
        config: Config = payload["config"]
        self._drain_limit = config.timeouts.drain
        set_level(config.log.level)
        try:
            if self._plane is None:
                await self._begin(config, payload, fds)
            else:
                self._use(payload)
                listeners = self._listeners(payload["listeners"], fds)
                await self._plane.reconfigure(config, payload["roster"], listeners)
        except (GatewayError, OSError) as error:
            self._say("failed", {"why": str(error)})
            if self._plane is None:
                self.end(0.0, "")
            return
        self._say("ready", {})

    async def _begin(self, config: Config, payload: Payload, fds: list[int]) -> None:
        memory, *fds = fds
        try:
            columns, rows = payload["board"]
            self._shared = Shared(columns, rows, memory)
        finally:
            os.close(memory)
        self._use(payload)
        self._plane = DataPlane(
            config,
            payload["roster"],
            self._shared,
            payload["row"],
            self._loop,
            applications=self._applications,
            on_found=self._found,
            ask_keys=self._ask_keys,
            tell_session=self._tell_session,
            keys=payload["keys"],
        )
        await self._plane.start(self._listeners(payload["listeners"], fds))

    def _listeners(self, listed: list[dict[str, Any]], fds: list[int]) -> list[Listener]:
        """All that are listed; those that are new here come with descriptors."""
        listeners: list[Listener] = []
        for entry in listed:
            address = Address(**entry["address"])
            own, fds = fds[: entry["fds"]], fds[entry["fds"] :]
            known = self._plane.listener((entry["tls"], address)) if self._plane is not None else None
            sockets = [socket.socket(fileno=fd) for fd in own]
            if known is None:
                known = Listener("", address, tls=entry["tls"], sockets=sockets)
            else:
                for unneeded in sockets:
                    unneeded.close()
            listeners.append(known)
        return listeners

    def _ask_keys(self, url: str) -> None:
        self._say("keys_wanted", {"url": url})

    def _tell_session(self, sid: str, sealed: bytes | None) -> None:
        self._say("session", {"sid": sid, "sealed": sealed})

    def _found(self, worker: Worker) -> None:
        self._say("worker", {"name": worker.name, "up": worker.up})


async def _serve(fd: int) -> None:
    loop = asyncio.get_running_loop()
    sock = socket.socket(fileno=fd)
    plane = Plane(lambda kind, payload: channel.send(kind, payload))
    channel = Channel(sock, loop, plane.take, plane.master_gone)
    # Sent to the whole group by a terminal or a service manager; the master has its own word with us.
    loop.add_signal_handler(signal.SIGTERM, plane.end, None, STOP_LIMIT)
    try:
        await plane.run()
    finally:
        channel.close()


def main() -> int:
    """Runs the process; its exit status."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    handler = configure("info")
    try:
        uvloop.run(_serve(int(sys.argv[1])))
    finally:
        handler.flush()
        handler.writer.flush()
        with contextlib.suppress(OSError):
            handler.writer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
