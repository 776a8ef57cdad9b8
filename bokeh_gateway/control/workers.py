"""Keeps the workers of one pool running: starts them, sees when they answer, restarts them, ends them.

What it decides is in `restart` (when, and in which words), what it starts in `command`; here is the order of things.
Whoever built it hears of every change by `on_event` and tells the data plane.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from bokeh_gateway.config.address import Address
from bokeh_gateway.control import probe
from bokeh_gateway.control.command import Launch
from bokeh_gateway.control.output import WorkerOutput
from bokeh_gateway.control.restart import RestartRecord, RestartSettings, describe_exit, signal_name
from bokeh_gateway.control.runtime_dir import remove_socket
from bokeh_gateway.control.worker_process import WorkerProcess
from bokeh_gateway.errors import ConfigError


class EventKind(StrEnum):
    """What happened to a worker."""

    STARTING = "starting"
    READY = "ready"
    EXITED = "exited"
    """Without being asked to; it will be started again."""
    CRASH_LOOP = "crash-loop"
    """Said once, after the `exited` that made it one; the restarts go on."""
    STOPPED = "stopped"
    """By `Supervisor.stop`; the last event of a worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEvent:
    """One change in a worker's life."""

    worker: str
    """`demo/1`"""
    kind: EventKind
    pid: int | None = None
    code: int | None = None
    """Exit status, -N for signal N; None when there never was a process."""
    signal: str | None = None
    """`SIGKILL`; None when no signal ended it."""
    seconds: float = 0.0
    """ready: since the start; exited and crash-loop: until the next start."""
    last_lines: tuple[str, ...] = ()
    """Its last output, redacted."""
    detail: str = ""
    """One line for the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorSettings:
    """Times in seconds."""

    start_timeout: float = 60.0
    """From the start to the first answer; an app that loads models at import takes its time."""
    probe_interval: float = 0.1
    probe_timeout: float = 5.0
    starts_at_once: int = 4
    """Workers importing Bokeh at the same time; more only make each other slower."""
    hung_grace: float = 2.0
    """Between SIGTERM and SIGKILL for a worker that did not become ready."""
    restart: RestartSettings = field(default_factory=RestartSettings)

    def __post_init__(self) -> None:
        if self.start_timeout <= 0 or self.probe_interval <= 0 or self.probe_timeout <= 0:
            raise ConfigError("supervisor", self.start_timeout, "seconds above 0")
        if self.starts_at_once < 1:
            raise ConfigError("supervisor.starts_at_once", self.starts_at_once, "a count of 1 or more")


@dataclass(frozen=True, slots=True)
class Taken:
    """A worker that was started before this program was executed anew."""

    pid: int
    output_fd: int
    ready: bool
    began: float = 0.0
    """When it was started, on the monotonic clock; 0: not known."""


class Supervisor:
    """The workers of pool `pool_name`, one for each of `launches`, named `<pool_name>/<n>` from 1.

    Further ones can be added later, and one at a time can be ended.

    Args:
        on_event: called in the loop for each change; it must not block.
        log: takes one line at a time, the workers' output and the supervisor's own words; it must not block.
        suffix: `#2` for the second generation: other processes, so other names.
        taken: processes that run already, by slot; those are kept and not started.
        names: of the workers, where they are others than that.

    Its loop has to run in a thread that lives as long as the workers shall: the kernel ties them to that thread.
    """

    def __init__(
        self,
        pool_name: str,
        launches: Sequence[Launch],
        on_event: Callable[[WorkerEvent], None],
        log: Callable[[str], None],
        settings: SupervisorSettings | None = None,
        suffix: str = "",
        taken: Sequence[Taken | None] = (),
        names: Sequence[str] = (),
    ) -> None:
        self.settings = settings or SupervisorSettings()
        """For workers that are added from now on."""
        self._log = log
        self._on_event = on_event
        names = names or [f"{pool_name}/{number}{suffix}" for number in range(1, len(launches) + 1)]
        self.slots: Final = [Slot(name, launch, self) for name, launch in zip(names, launches, strict=True)]
        for slot, process in zip(self.slots, taken, strict=False):
            slot.taken = process
        self._tasks: list[asyncio.Task[None]] = []
        self._orders: Orders | None = None

    @property
    def states(self) -> dict[str, str]:
        """`{"demo/1": "ready", "demo/2": "crash-loop"}`"""
        return {slot.name: slot.state for slot in self.slots}

    @property
    def pids(self) -> dict[str, int | None]:
        """Process id of each worker, None while it has none."""
        return {slot.name: slot.pid for slot in self.slots}

    async def start(self) -> None:
        """Begins to start all workers; returns before they are ready."""
        loop = asyncio.get_running_loop()
        starting = asyncio.Semaphore(self.settings.starts_at_once)
        orders = self._orders = Orders(self.settings, starting, loop.create_future(), loop.create_future())
        for slot in self.slots:
            self._run(slot, orders)

    def _run(self, slot: Slot, orders: Orders) -> None:
        loop = asyncio.get_running_loop()
        slot.stop = loop.create_future()
        own = replace(orders, settings=self.settings, stop=slot.stop)
        slot.task = loop.create_task(slot.run(own), name=slot.name)
        slot.task.add_done_callback(self._slot_ended)
        self._tasks.append(slot.task)

    def add(self, name: str, launch: Launch) -> Slot:
        """Begins to start one more worker."""
        slot = Slot(name, launch, self)
        self.slots.append(slot)
        if self._orders is not None:
            self._run(slot, self._orders)
        return slot

    async def end(self, slot: Slot, grace: float) -> None:
        """SIGTERM to one worker, SIGKILL after `grace` seconds; returns when it is reaped, and it has no slot then."""
        slot.dismiss(grace)
        if slot.task is not None:
            await asyncio.wait({slot.task})
            self._tasks.remove(slot.task)
        self.slots.remove(slot)

    async def settled(self) -> int:
        """Waits until each worker was ready once, or failed once; how many are ready now."""
        await asyncio.gather(*(slot.first_outcome.wait() for slot in self.slots))
        return sum(slot.state == EventKind.READY for slot in self.slots)

    async def stop(self, grace: float) -> None:
        """SIGTERM to all, SIGKILL after `grace` seconds; returns when all are reaped and their sockets removed.

        A second call, also while the first one waits, kills at once.
        """
        if self._orders is None:
            return
        if not self._orders.stop.done():
            self._orders.stop.set_result(None)
            for slot in self.slots:
                slot.dismiss(grace)
        elif not self._orders.hurry.done():
            self._orders.hurry.set_result(None)
        if self._tasks:
            await asyncio.wait(self._tasks)

    def emit(self, event: WorkerEvent) -> None:
        """Logs `event` and passes it on."""
        self._log(f"worker {event.worker}: {event.detail}")
        self._on_event(event)

    def line(self, text: str) -> None:
        """Passes on one line of a worker's output."""
        self._log(text)

    def _slot_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log(f"worker {task.get_name()}: no longer supervised, a bug in the gateway: {error!r}")


@dataclass(frozen=True, slots=True)
class Orders:
    """What all slots of a supervisor share, but for `stop`."""

    settings: SupervisorSettings
    starting: asyncio.Semaphore
    stop: asyncio.Future[None]
    """Done when the worker shall end; each slot has one of its own."""
    hurry: asyncio.Future[None]
    """Done when they shall end at once."""


class Slot:
    """One place in the pool: the same name, command and socket through all restarts."""

    def __init__(self, name: str, launch: Launch, supervisor: Supervisor) -> None:
        self.name: Final = name
        self.launch: Final = launch
        self.state = str(EventKind.STOPPED)
        """An `EventKind`; `exited` while it waits for the next start."""
        self.pid: int | None = None
        self.began = 0.0
        """When the process was started, on the monotonic clock."""
        self.grace = 0.0
        self.stop: asyncio.Future[None] | None = None
        self.task: asyncio.Task[None] | None = None
        self.first_outcome: Final = asyncio.Event()
        self.taken: Taken | None = None
        """The process that its first life begins with."""
        self.process: WorkerProcess | None = None
        self._supervisor = supervisor

    def dismiss(self, grace: float) -> None:
        """Asks it to end, within `grace` seconds."""
        self.grace = grace
        if self.stop is not None and not self.stop.done():
            self.stop.set_result(None)

    async def run(self, orders: Orders) -> None:
        """Until `orders.stop` is done.  Cancelling it kills the worker."""
        record = RestartRecord(orders.settings.restart)
        try:
            while not orders.stop.done():
                await self._one_life(orders, record)
        finally:
            remove_socket(self.launch.socket)
            self.first_outcome.set()
            self._tell(EventKind.STOPPED, detail="stopped")

    async def _one_life(self, orders: Orders, record: RestartRecord) -> None:
        """From one start to the moment of the next, or to the end of all."""
        output = WorkerOutput(self.name, self._supervisor.line)
        process: WorkerProcess | None = None
        code, why = None, ""
        try:
            async with orders.starting:
                if orders.stop.done():
                    return
                self.began = time.monotonic()
                record.started(self.began)
                taken, self.taken = self.taken, None
                if taken is not None and taken.began:
                    self.began = taken.began
                try:
                    process = self.process = await self._begin(taken, output)
                except OSError as exc:
                    why = f"could not be started: {exc}"
                if process is not None and taken is not None and taken.ready:
                    ready = True
                    self._go_on(record, process)
                else:
                    ready = process is not None and await self._become_ready(orders, record, process)
            if process is not None:
                code, why = await self._until_end(orders, process, ready)
        finally:
            if process is not None:
                await process.end(0.0)  # at once, and nothing but a look when it has ended
            self.pid = self.process = None
        if not orders.stop.done():
            await self._after_failure(orders, record, code, why, output.last_lines)

    async def _begin(self, taken: Taken | None, output: WorkerOutput) -> WorkerProcess:
        """Raises:
        OSError: no process could be made.
        """
        if taken is not None:
            return WorkerProcess.adopt(taken.pid, taken.output_fd, output)
        remove_socket(self.launch.socket)
        return await WorkerProcess.spawn(self.launch, output)

    def _go_on(self, record: RestartRecord, process: WorkerProcess) -> None:
        """It was ready before the upgrade, and serves."""
        self.pid = process.pid
        record.ready(time.monotonic())
        self._tell(EventKind.READY, detail=f"runs on through the upgrade, process {process.pid}")
        self.first_outcome.set()

    async def _become_ready(self, orders: Orders, record: RestartRecord, process: WorkerProcess) -> bool:
        began = time.monotonic()
        self.pid = process.pid
        self._tell(EventKind.STARTING, detail=f"starting, process {process.pid}")
        if not await self._wait_ready(orders, process):
            return False
        now = time.monotonic()
        record.ready(now)
        self._tell(EventKind.READY, seconds=now - began, detail=f"ready after {now - began:.1f} s")
        self.first_outcome.set()
        return True

    async def _until_end(self, orders: Orders, process: WorkerProcess, ready: bool) -> tuple[int, str]:
        """The exit code and its reading, of a worker that ended by itself, never answered, or was stopped."""
        if ready:
            await _first_of(process.exited, orders.stop)
        if orders.stop.done():
            return await process.end(self.grace, orders.hurry), ""
        hung = not process.exited.done()
        code = await process.end(orders.settings.hung_grace, orders.hurry)
        if hung:
            return code, f"did not answer within {orders.settings.start_timeout:g} s and was ended"
        return code, f"ended by {describe_exit(code)}" if code < 0 else f"ended with {describe_exit(code)}"

    async def _wait_ready(self, orders: Orders, process: WorkerProcess) -> bool:
        probing = asyncio.ensure_future(self._probe(orders.settings))
        try:
            await _first_of(probing, process.exited, orders.stop, timeout=orders.settings.start_timeout)
            return probing.done() and not process.exited.done() and not orders.stop.done()
        finally:
            probing.cancel()

    async def _probe(self, settings: SupervisorSettings) -> None:
        """Returns when the worker answered for every app."""
        address = Address(unix=self.launch.socket)
        for path in self.launch.probe_paths or ("/",):
            # Polled: another process cannot set an Event.
            while not (result := await probe.metadata(address, path, settings.probe_timeout)).answered:  # noqa: ASYNC110
                await asyncio.sleep(settings.probe_interval)
            if not result.ok and self.launch.probe_paths:
                self._supervisor.line(f"worker {self.name}: is up, but for GET {path} {result.error}")

    async def _after_failure(
        self, orders: Orders, record: RestartRecord, code: int | None, why: str, lines: tuple[str, ...]
    ) -> None:
        was_loop = record.crash_loop
        wait = record.ended(time.monotonic(), random.random())
        self._tell(EventKind.EXITED, code, wait, lines, f"{why}; next start in {wait:.1f} s")
        if record.crash_loop and not was_loop:
            text = f"crash loop: failed {record.failures} times in a row, see {self.launch.setting}; its last lines:"
            self._tell(EventKind.CRASH_LOOP, code, wait, lines, text)
            for line in lines:
                self._supervisor.line(f"worker {self.name}: | {line}")
        if record.crash_loop:
            self.state = EventKind.CRASH_LOOP
        self.first_outcome.set()
        await _first_of(orders.stop, timeout=wait)

    def _tell(
        self,
        kind: EventKind,
        code: int | None = None,
        seconds: float = 0.0,
        last: tuple[str, ...] = (),
        detail: str = "",
    ) -> None:
        self.state = kind
        name = None if code is None else signal_name(code)
        self._supervisor.emit(
            WorkerEvent(
                worker=self.name,
                kind=kind,
                pid=self.pid,
                code=code,
                signal=name,
                seconds=seconds,
                last_lines=last,
                detail=detail,
            )
        )


async def _first_of(*futures: asyncio.Future[int] | asyncio.Future[None], timeout: float | None = None) -> None:
    """Waits for the first of `futures` or `timeout` seconds, and cancels none of them."""
    await asyncio.wait(futures, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
