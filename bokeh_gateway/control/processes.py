"""The gateway processes: started, configured, replaced when one dies, retired when there are too many.

A slot is a place among the N processes and decides which sockets it gets; a row is its line on the board, given again
only when the process that wrote it is gone.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bokeh_gateway.balance.shared import Shared
from bokeh_gateway.control.channel import Payload
from bokeh_gateway.control.gateway_process import GatewayProcess, Handle, Spawn
from bokeh_gateway.control.restart import describe_exit
from bokeh_gateway.observe.metrics import Metrics

log = logging.getLogger(__name__)

ROWS: Final = 256
"""Processes that may count at the same time, those that are being left behind included."""
STEADY: Final = 5.0
"""Seconds that a process must have lived to be replaced without a pause."""
MAX_PAUSE: Final = 5.0
FAILURES_AT_START: Final = 5
"""Processes that may end before the first one ever got ready; then the gateway gives up."""
SILENCE: Final = 10
"""Looks, one a second, without a sign of life from a process until that is said."""
SCRAPE_TIMEOUT: Final = 2.0
"""Seconds for a process to say its counts."""


@dataclass(eq=False)
class Member:
    """One process."""

    slot: int
    """-1: retired, it only keeps what it has."""
    row: int
    handle: Handle
    ready: asyncio.Future[None]
    began: float
    places: set[Any] = field(default_factory=set)
    """Listeners that it has been given."""
    last: dict[str, Any] | None = None
    """Its latest counts."""
    unanswered: int = 0
    """Looks since it was asked for a sign of life; 0: nothing is asked."""


@dataclass(slots=True)
class Shape:
    """What every process is told; the composition root fills it in."""

    count: int
    configure: Callable[[Member, bool], tuple[Payload, list[int]]]
    """The `configure` message for a member, and its descriptors; True for its first one."""
    on_worker: Callable[[str, bool], None]
    """A process found a worker up or down."""
    on_keys_wanted: Callable[[str], None]
    """A process needs the keys of a signer's URL."""


class Processes:
    """All of them.  `failed` is done when none can be started at all."""

    def __init__(self, spawn: Spawn, shared: Shared, shape: Shape) -> None:
        self._spawn = spawn
        self._shared = shared
        self.shape = shape
        self.members: list[Member] = []
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._failures = 0
        self._starting: dict[int, int] = {}
        """Rows of the processes that are being started, by slot: nobody else is to take either."""
        self._ever_ready = False
        self.failed: Final[asyncio.Future[None]] = self._loop.create_future()
        self.retired = Metrics()
        """Counts of processes that are gone: a sum over processes must never go back."""
        self._scrapes = itertools.count(1)
        self._answers: dict[int, dict[Member, asyncio.Future[None]]] = {}

    @property
    def rows(self) -> int:
        """Rows that sums look at."""
        return max((member.row for member in self.members), default=0) + 1

    @property
    def active(self) -> list[Member]:
        """Those that accept connections."""
        return [member for member in self.members if member.slot >= 0]

    # Starting.

    async def start(self) -> None:
        """Starts all; returns when each was ready once, or none can be."""
        for slot in range(self.shape.count):
            await self._start_one(slot)
        await asyncio.wait({self.failed, asyncio.ensure_future(self.all_ready())}, return_when=asyncio.FIRST_COMPLETED)

    async def all_ready(self) -> None:
        """Until every slot has a process that took its configuration."""
        while not self._stopping:
            waiting = [member.ready for member in self.active if not member.ready.done()]
            if not waiting and len(self.active) >= self.shape.count:
                return
            await asyncio.wait(waiting, timeout=0.05) if waiting else await asyncio.sleep(0.05)

    def shortage(self, count: int) -> str | None:
        """Why so many cannot be started beside all that there are; None: they can."""
        if len(self.members) + len(self._starting) + count <= ROWS:
            return None
        leaving = len(self.members) - len(self.active)
        return (
            f"{leaving} gateway processes of earlier reloads or upgrades still keep WebSockets, and there is room for "
            f"{ROWS} in all ([timeouts] reload_linger ends them)"
        )

    def _free_row(self) -> int | None:
        taken = {*self._starting.values(), *(member.row for member in self.members)}
        return next((row for row in range(ROWS) if row not in taken), None)

    async def _start_one(self, slot: int) -> None:
        if slot in self._starting or any(member.slot == slot for member in self.members):
            return  # a reload and the end of a process may both want it
        row = self._free_row()
        if row is None:
            log.error("no gateway process could be started: %s", self.shortage(1))
            self._again(slot)
            return
        self._starting[slot] = row
        try:
            await self._start_at(slot, row)
        finally:
            del self._starting[slot]

    async def _start_at(self, slot: int, row: int) -> None:
        box: list[Member] = []

        def receive(kind: str, payload: Payload, _fds: list[int]) -> None:
            self._received(box[0], kind, payload)

        began = self._loop.time()
        try:
            handle: Handle = await self._spawn(receive)
        except OSError as error:
            log.error("no gateway process could be started: %s", error)
            self._again(slot)
            return
        if self._stopping or slot >= self.shape.count:  # a reload wants fewer by now
            handle.kill()
            return
        member = Member(slot, row, handle, self._loop.create_future(), began)
        box.append(member)
        self.members.append(member)
        handle.exited.add_done_callback(lambda future: self._ended(member, future.result()))
        payload, fds = self.shape.configure(member, True)
        handle.send("configure", payload, fds)
        self._tell_rows()

    def state(self) -> tuple[list[dict[str, Any]], list[int]]:
        """All processes in plain values, and the descriptors of their channels."""
        listed: list[dict[str, Any]] = [
            {"pid": m.handle.pid, "channel": m.handle.channel_fd, "row": m.row, "accepts": m.slot >= 0, "last": m.last}
            for m in self.members
            if isinstance(m.handle, GatewayProcess) and not m.handle.exited.done()
        ]
        return listed, [entry["channel"] for entry in listed]

    def totals(self) -> dict[str, Any]:
        """Counts of processes that are gone."""
        return self.retired.snapshot()

    def restore(self, listed: Sequence[Mapping[str, Any]], totals: dict[str, Any]) -> list[Member]:
        """The processes of the program before this one; those that still accept are to be retired."""
        self.retired.absorb(totals)
        accepting: list[Member] = []
        for entry in listed:
            self.members.append(self._restored(entry))
            if entry["accepts"]:
                accepting.append(self.members[-1])
        return accepting

    def _restored(self, entry: Mapping[str, Any]) -> Member:
        box: list[Member] = []

        def receive(kind: str, payload: Payload, _fds: list[int]) -> None:
            self._received(box[0], kind, payload)

        handle = GatewayProcess.adopt(entry["pid"], entry["channel"], receive)
        member = Member(-1, entry["row"], handle, self._loop.create_future(), self._loop.time(), last=entry["last"])
        box.append(member)
        handle.exited.add_done_callback(lambda future: self._ended(member, future.result()))
        return member

    def _tell_rows(self) -> None:
        self._shared.board.use(self._shared.board.columns, max(self.rows, 1))
        self.send_all("rows", {"rows": self.rows})

    def look(self) -> None:
        """Once a second: says which process does not answer.

        It is not ended, as nobody but the operator can tell whether it comes back, with all its WebSockets.  Looks are
        counted and not seconds: a master that was stopped itself has to read first what came meanwhile.
        """
        for member in self.active:
            member.unanswered += 1
            if member.unanswered == 1:
                member.handle.send("ping", {})
            elif member.unanswered == SILENCE + 1:
                log.error(
                    "gateway process %d has not answered for %d s: whoever it accepts waits, and so does a reload; "
                    "if it is to be replaced: kill -9 %d",
                    *(member.handle.pid, SILENCE, member.handle.pid),
                )

    # Talking.

    def send_all(self, kind: str, payload: Payload) -> None:
        """The same message to every process, retired ones too."""
        if kind in ("rows", "roster"):
            payload = {"rows": self.rows, **payload}
        for member in self.members:
            member.handle.send(kind, payload)

    async def reconfigure(self) -> None:
        """Sends the present configuration to all that accept; starts and retires as `shape.count` says."""
        for member in self.active:
            if member.slot >= self.shape.count:
                continue
            member.ready = self._loop.create_future()
            payload, fds = self.shape.configure(member, False)
            member.handle.send("configure", payload, fds)
        have = {member.slot for member in self.active}
        for slot in range(self.shape.count):
            if slot not in have:
                await self._start_one(slot)

    def retire(self, member: Member, seconds: float, setting: str) -> None:
        """It accepts no more and ends with its connections."""
        member.slot = -1
        member.handle.send("retire", {"seconds": seconds, "setting": setting})

    def _received(self, member: Member, kind: str, payload: Payload) -> None:
        if kind == "ready":
            self._ever_ready = True
            if not member.ready.done():
                member.ready.set_result(None)
        elif kind == "failed":
            log.error("gateway process %d could not take its configuration: %s", member.handle.pid, payload["why"])
            if not member.ready.done():
                member.ready.set_result(None)
        elif kind == "worker":
            self.shape.on_worker(payload["name"], payload["up"])
        elif kind == "pong":
            if member.unanswered > SILENCE:
                log.warning("gateway process %d answers again", member.handle.pid)
            member.unanswered = 0
        elif kind == "keys_wanted":
            self.shape.on_keys_wanted(payload["url"])
        elif kind == "session":
            self.send_all("session", payload)
        elif kind == "metrics":
            member.last = payload["snapshot"]
            waiting = self._answers.get(payload["id"], {}).get(member)
            if waiting is not None and not waiting.done():
                waiting.set_result(None)

    async def collect(self, into: Metrics) -> Metrics:
        """Adds the counts of all processes, and of those that are gone; one that does not answer in time: its last."""
        number = next(self._scrapes)
        answers = self._answers[number] = {member: self._loop.create_future() for member in self.members}
        self.send_all("metrics", {"id": number})
        try:
            if answers:
                await asyncio.wait(answers.values(), timeout=SCRAPE_TIMEOUT)
        finally:
            del self._answers[number]
        for member in self.members:
            if member.last is not None:
                into.absorb(member.last)
        into.absorb(self.retired.snapshot())
        return into

    # Ending.

    def _ended(self, member: Member, code: int) -> None:
        self.members.remove(member)
        self._shared.clear_row(member.row, self._loop.time())
        if member.last is not None:
            self.retired.absorb(_lasting(member.last))
        for answers in self._answers.values():
            waiting = answers.get(member)
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
        if not member.ready.done():
            member.ready.set_result(None)
        if self._stopping or member.slot < 0:
            if code and not self._stopping:
                log.error(
                    "gateway process %d, whose WebSockets were left to it: %s", member.handle.pid, describe_exit(code)
                )
            else:
                log.info("gateway process %d has ended", member.handle.pid)
            return
        log.error("gateway process %d: %s; it is replaced", member.handle.pid, describe_exit(code))
        self._again(member.slot, steady=self._loop.time() - member.began > STEADY)

    def _again(self, slot: int, *, steady: bool = False) -> None:
        self._failures = 0 if steady else self._failures + 1
        if not self._ever_ready and self._failures >= FAILURES_AT_START and not self.failed.done():
            self.failed.set_result(None)
            return
        # The first failure may be an accident; from the second on something is wrong.
        pause = 0.0 if self._failures <= 1 else min(0.1 * 2.0**self._failures, MAX_PAUSE)
        task = self._loop.create_task(self._replace(slot, pause))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _replace(self, slot: int, pause: float) -> None:
        await asyncio.sleep(pause)
        if not self._stopping and slot < self.shape.count:
            await self._start_one(slot)

    async def drain(self, seconds: float, hurried: asyncio.Future[None]) -> None:
        """All accept no more and end with their connections, or after `seconds`; at once when `hurried` is done."""
        self._stopping = True
        for member in self.members:
            member.handle.send("drain", {"seconds": seconds, "setting": "[timeouts] drain"})
        ends = [member.handle.exited for member in self.members]
        if ends:
            everyone = asyncio.ensure_future(asyncio.wait(ends))
            wanted: set[asyncio.Future[Any]] = {everyone, hurried}
            await asyncio.wait(wanted, timeout=seconds + 5.0, return_when=asyncio.FIRST_COMPLETED)
            everyone.cancel()
        await self.stop()

    async def stop(self) -> None:
        """Ends all at once."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        ends = [member.handle.exited for member in self.members]
        for member in self.members:
            member.handle.send("stop", {})
        if ends:
            _, late = await asyncio.wait(ends, timeout=2.0)
            for member in list(self.members):
                if late:
                    member.handle.kill()
            if late:
                await asyncio.wait(late)


def _lasting(snapshot: dict[str, Any]) -> dict[str, Any]:
    """What still counts of a process that is gone: totals, but nothing that is open now."""
    gauges = {counters.name for counters in vars(Metrics()).values() if getattr(counters, "gauge", False)}
    series = {name: values for name, values in snapshot["series"].items() if name not in gauges}
    return {**snapshot, "series": series}
