"""Hosts on one machine: network namespaces on a bridge that stands in a namespace of its own.

Nothing of this machine's own network is touched, and all of it is gone afterwards.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Final, Self

import pytest

from tests.support.programs import requires_program

CLONE_NEWNET: Final = 0x40000000
NETWORK: Final = "10.77.0"


class Hosts:
    """`with Hosts(["gateway", "worker"]) as hosts`: each has an address, and reaches the others.

    The test skips where the kernel, or who runs it, may make no namespaces.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._ip = requires_program("ip")
        self._prefix = f"bgw{os.getpid()}"
        self._made: list[str] = []
        self.address = {name: f"{NETWORK}.{number}" for number, name in enumerate(names, start=11)}

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    @contextlib.contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """What this thread starts and opens meanwhile is on that host."""
        with open("/proc/thread-self/ns/net") as own, open(f"/run/netns/{self._named(name)}") as other:
            _enter(other.fileno())
            try:
                yield
            finally:
                _enter(own.fileno())

    def cut_off(self, name: str) -> None:
        """As a cable that is pulled: nothing comes and nothing goes, and nobody is told."""
        self._run("-n", self._named("switch"), "link", "set", f"to-{name}"[:15], "down")

    def _build(self) -> None:
        made = self._try("netns", "add", self._named("switch"))
        if made is not None:
            pytest.skip(f"no network namespaces can be made here: {made}")
        self._made.append("switch")
        switch = self._named("switch")
        self._run("-n", switch, "link", "add", "bridge", "type", "bridge")
        self._run("-n", switch, "link", "set", "bridge", "up")
        for name, address in self.address.items():
            host, cable = self._named(name), f"to-{name}"[:15]
            self._run("netns", "add", host)
            self._made.append(name)
            self._run("-n", switch, "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", host)
            self._run("-n", switch, "link", "set", cable, "master", "bridge", "up")
            self._run("-n", host, "address", "add", f"{address}/24", "dev", "eth0")
            self._run("-n", host, "link", "set", "eth0", "up")
            self._run("-n", host, "link", "set", "lo", "up")

    def _remove(self) -> None:
        for name in reversed(self._made):
            self._try("netns", "delete", self._named(name))
        self._made.clear()

    def _named(self, name: str) -> str:
        return f"{self._prefix}-{name}"

    def _run(self, *arguments: str) -> None:
        problem = self._try(*arguments)
        if problem is not None and "not supported" in problem.lower():
            pytest.skip(f"this kernel has no {' '.join(arguments)}: {problem}")
        assert problem is None, f"ip {' '.join(arguments)}: {problem}"

    def _try(self, *arguments: str) -> str | None:
        """Why it could not be done."""
        done = subprocess.run([self._ip, *arguments], capture_output=True, text=True, timeout=30)
        return None if done.returncode == 0 else done.stderr.strip() or f"status {done.returncode}"


def _enter(fd: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
