"""The end of children that asyncio did not start.  Linux, as upgrades are."""

from __future__ import annotations

import asyncio
import os


def reaped(pid: int) -> asyncio.Future[int]:
    """The exit code, -N for signal N, of a child that asyncio did not start; also of one that ended already."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[int] = loop.create_future()
    fd = os.pidfd_open(pid)

    def ended() -> None:
        loop.remove_reader(fd)
        os.close(fd)
        if not future.done():
            future.set_result(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    loop.add_reader(fd, ended)
    return future
