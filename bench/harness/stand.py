"""The test stand: one origin, every proxy that was asked for in front of it, each pinned, all gone at the end."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from bench import peers
from bench.harness import certs, cores, proctree
from bench.harness.launch import Running, StartFailedError, free_ports
from bench.harness.proxy import Proxy
from bench.peers.peer import Peer, Site

REPOSITORY = Path(__file__).parents[2]
QUIET_SECONDS, QUIET_SHARE, SETTLE_SECONDS = 0.4, 0.02, 90.0


class Stand:
    """Use as a context manager.

    names: peers to start; those not installed or not starting are in `left_out` with the reason.
    workers: ports of workers that run already, or a number of ports on which our own origin answers.
    """

    def __init__(
        self, names: Sequence[str], *, workers: int | Sequence[int] = 3, tls: bool = False, static: Path | None = None
    ) -> None:
        self._names, self._workers, self._tls, self._static = names, workers, tls, static
        self._exits = ExitStack()
        self.proxies: list[Proxy] = []
        self.left_out: dict[str, str] = {}
        self._versions: dict[str, str] = {}

    def __enter__(self) -> Stand:
        cores.raise_descriptor_limit()
        self._exits.callback(cores.pin, os.sched_getaffinity(0))
        cores.pin(cores.LOAD_CORE)
        self.folder = Path(self._exits.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        self.folder.chmod(0o755)
        try:
            self.certfile, self.keyfile = certs.create(self.folder)
            self.workers = list(self._workers) if not isinstance(self._workers, int) else self._origin(self._workers)
            for name in self._names:
                self.start(peers.ALL[name])
            settle(self.proxies)
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._exits.close()

    def versions(self) -> dict[str, str]:
        """Of every proxy that was started."""
        return {name: version for name, version in self._versions.items() if version}

    def _origin(self, count: int) -> list[int]:
        ports = free_ports(count)
        argv = [sys.executable, "-m", "bench.harness.origin", *map(str, ports)]
        log = self.folder / "origin.log"
        self._exits.enter_context(Running(argv, core=cores.LOAD_CORE, log=log, ports=ports, cwd=REPOSITORY))
        return ports

    def start(self, peer: Peer) -> Proxy | None:
        """Start one peer, which ends with the stand or by `stop`; None where that fails: `left_out` says why."""
        version = peer.version()
        if version is None:
            return self._leave_out(peer, "not installed")
        folder = Path(tempfile.mkdtemp(prefix=f"{peer.name}-", dir=self.folder))
        folder.chmod(0o755)
        port, tls_port, spare, _ = free_ports(4)
        site = Site(
            folder=folder, port=port, tls_port=tls_port, spare_port=spare, workers=self.workers,
            tls=self._tls, certfile=self.certfile, keyfile=self.keyfile, static=self._static,
        )  # fmt: skip
        running: list[Running] = []
        commands = peer.prepare(site)
        try:
            for command in commands:
                program = Running(
                    command.argv, core=cores.PROXY_CORE, log=folder / "output.log",
                    ports=command.ports, env=command.env, cwd=command.cwd,
                )  # fmt: skip
                running.append(self._exits.enter_context(program))
        except StartFailedError as error:
            return self._leave_out(peer, f"did not start: {error}")
        proxy = Proxy(
            peer=peer, version=version, running=running, folder=folder, tls_port=tls_port,
            port=port if commands else self.workers[0], core=cores.PROXY_CORE,
            context=certs.client_context(self.certfile),
        )  # fmt: skip
        self._versions[peer.name] = version
        self.proxies.append(proxy)
        return proxy

    def stop(self, proxy: Proxy) -> None:
        """End one proxy before the others."""
        self.proxies.remove(proxy)
        for program in proxy.running:
            program.stop()

    def _leave_out(self, peer: Peer, reason: str) -> None:
        self.left_out[peer.name] = reason.splitlines()[0]
        print(f"left out {peer.name}: {reason}", file=sys.stderr)


def settle(proxies: Sequence[Proxy]) -> None:
    """Wait until nobody works any more: the gateway compresses static files at first, and that is no request's cost."""
    until = time.monotonic() + SETTLE_SECONDS
    pids = [pid for proxy in proxies for pid in proxy.pids()]
    while time.monotonic() < until:
        before = proctree.usage(pids)
        time.sleep(QUIET_SECONDS)
        if proctree.usage(pids).since(before) < QUIET_SHARE * QUIET_SECONDS * 1e9:
            return
    print(f"a proxy still works {SETTLE_SECONDS:g} s after its start; figures include that", file=sys.stderr)
