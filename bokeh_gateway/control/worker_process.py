"""One worker process: started on a leash, in a session of its own, with its output read, and ended as a group.

A session of its own: Ctrl-C in a terminal reaches the gateway only, which then ends the workers in its own time.
Its output comes through a pipe that is read here and not by asyncio's subprocess streams: those would hold back the
news of the worker's end for as long as a child of it keeps the pipe open.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Final

from bokeh_gateway.control.command import Launch, find_program
from bokeh_gateway.control.output import WorkerOutput
from bokeh_gateway.control.reaping import reaped

LEASH: Final = str(Path(__file__).with_name("leash.py"))
READ_SIZE: Final = 65536
"""Bytes read in one turn of the loop."""
FLOOD_PAUSE: Final = 0.05
"""Seconds between reads while lines are being dropped: a flood then costs the loop some 1 MB of reading a second."""


class Read(Enum):
    """What came of one read."""

    DATA = "data"
    NOTHING = "nothing now"
    END = "end of file"


class WorkerProcess:
    """A running worker.  Made by `spawn` or `adopt`."""

    def __init__(
        self, pid: int, ended: asyncio.Future[int], output_fd: int, lifeline: int, output: WorkerOutput
    ) -> None:
        self.pid: Final = pid
        self._ended = ended
        self._fd = output_fd
        self._lifeline = lifeline
        self._output = output
        self._loop = asyncio.get_running_loop()
        self._resume: asyncio.TimerHandle | None = None
        self._loop.add_reader(output_fd, self._readable)
        self.exited: Final = self._loop.create_task(self._watch(), name=f"worker {self.pid}")
        """Done when the process is reaped and its output read; the result is the exit code, -N for signal N."""

    @classmethod
    async def spawn(cls, launch: Launch, output: WorkerOutput) -> WorkerProcess:
        """Starts `launch`.

        Raises:
            OSError: no process could be made, or its working folder is not there.
        """
        use_pipe = sys.platform != "linux"
        python, search_path = launch.python or sys.executable, launch.env.get("PATH", os.defpath)
        read_fd, write_fd = os.pipe()
        leash_fd, lifeline = os.pipe() if use_pipe else (-1, -1)
        try:
            process = await asyncio.create_subprocess_exec(
                *leashed(find_program(launch.argv, python, search_path), pipe=use_pipe),
                stdin=leash_fd if use_pipe else asyncio.subprocess.DEVNULL,
                stdout=write_fd,
                stderr=write_fd,
                cwd=launch.cwd,
                env=dict(launch.env),
                start_new_session=True,
            )
        except BaseException:
            _close((read_fd, lifeline))
            raise
        finally:
            _close((write_fd, leash_fd))
        os.set_blocking(read_fd, False)
        return cls(process.pid, asyncio.ensure_future(process.wait()), read_fd, lifeline, output)

    @classmethod
    def adopt(cls, pid: int, output_fd: int, output: WorkerOutput) -> WorkerProcess:
        """A child that this process started before it was executed anew."""
        return cls(pid, reaped(pid), output_fd, -1, output)

    @property
    def output_fd(self) -> int:
        """Where its output is read."""
        return self._fd

    def signal_group(self, number: signal.Signals) -> None:
        """Sends `number` to the worker and to whatever it started."""
        # The group's id is the worker's pid, which is not given away again while a member of the group lives.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def end(self, grace: float, hurry: asyncio.Future[None] | None = None) -> int:
        """SIGTERM; SIGKILL after `grace` seconds or as soon as `hurry` is done.  Returns the exit code."""
        if not self.exited.done():
            self.signal_group(signal.SIGTERM)
            waiting: set[asyncio.Future[int] | asyncio.Future[None]] = {self.exited}
            if hurry is not None:
                waiting.add(hurry)
            await asyncio.wait(waiting, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        if not self.exited.done():
            self.signal_group(signal.SIGKILL)
        return await self.exited

    async def _watch(self) -> int:
        try:
            code = await self._ended
        finally:
            self.signal_group(signal.SIGKILL)  # what it started and left behind
            self._drain()
            self._loop.remove_reader(self._fd)
            if self._resume is not None:
                self._resume.cancel()
            _close((self._fd, self._lifeline))
        return code

    def _drain(self) -> None:
        """The last words: what fits into a pipe, never more than a child that still writes could make of it."""
        for _ in range(16):
            if self._read() is not Read.DATA:
                break
        self._output.close(time.monotonic())

    def _readable(self) -> None:
        if self._read() is Read.END:
            self._loop.remove_reader(self._fd)  # it closed its output, and may live on
        elif self._output.over_budget:
            self._loop.remove_reader(self._fd)
            self._resume = self._loop.call_later(FLOOD_PAUSE, self._loop.add_reader, self._fd, self._readable)

    def _read(self) -> Read:
        try:
            data = os.read(self._fd, READ_SIZE)
        except BlockingIOError:
            return Read.NOTHING
        self._output.feed(data, time.monotonic())
        return Read.DATA if data else Read.END


def leashed(command: Iterable[str], *, pipe: bool) -> tuple[str, ...]:
    """`command` run by leash.py."""
    # Isolated and without site: the leash needs no package, and the environment is meant for the worker.
    mode = ("--pipe",) if pipe else ()
    return (sys.executable, "-I", "-S", LEASH, *mode, str(os.getpid()), "--", *command)


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)
