"""What a WebSocket message costs.  Run: python -m bench.websocket   (15 minutes; --short: 90 s; two cores)

Each echo is a round trip: a masked message to the worker's stand-in and the same bytes back, both read whole.
Claims, CPU of one gateway process that reads every frame header, against nginx as Bokeh's guide configures it:
100 B at most 1.2, 4 KB at most 1.1, 64 KB and 1 MB at most 0.35; over TLS 100 B at most 1.2, 64 KB at most 0.6.
`push_fast` sends 4 KB to 64 readers at a fixed rate; its latency is the age of a message at the reader, and what is
added to that of no proxy is at most 1.5 of what nginx adds in the 99th percentile.
`push_slow` sends 64 KB messages to 16 readers, 4 of which take a sixth of what is sent: latency is that of the quick
ones, and `grown_mb` is the memory that the slow ones cost the proxy.  Kept record: bench/results/websocket.json
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.harness import frames, report, workload
from bench.harness.load import Load
from bench.harness.meter import Meter
from bench.harness.options import parse
from bench.harness.proxy import Proxy
from bench.harness.rounds import Case, interleave
from bench.harness.stand import Stand
from bench.harness.ws_load import MASK, PushSocket, close, connect_many, echoes

SIZES = {"100b": (100, 32), "4kb": (4096, 32), "64kb": (65_536, 8), "1mb": (1_048_576, 4)}
"""Payload bytes and connections, by name."""
LATE_SECONDS = 10.0


def _echo(name: str, size: int, connections: int, *, tls: bool) -> Case:
    payload = (b"0123456789abcdef" * (size // 16 + 1))[:size]

    async def run(proxy: Proxy, meter: Meter) -> Load:
        port, context = (proxy.tls_port, proxy.context) if tls else (proxy.port, None)
        async with echoes(meter.at_once or connections, payload, port, context) as group:
            with meter:
                return await group.run(meter.budget())

    return Case(name=f"{'tls_' * tls}echo_{name}", unit="round trip", run=run, skips=_no_tls if tls else _takes_part)


def _takes_part(proxy: Proxy) -> str | None:
    return None


def _no_tls(proxy: Proxy) -> str | None:
    return None if proxy.running else "the worker's stand-in speaks no TLS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """Readers of one fixed stream each; the slow ones read a part of what is sent."""

    name: str
    size: int
    rate: float
    """Messages a second for each reader."""
    quick: int
    slow: int = 0
    pace: float = 0.0
    """Bytes a second that a slow one reads."""

    async def run(self, proxy: Proxy, meter: Meter) -> Load:
        """Units are messages that the quick ones received; their latency is the message's age."""
        quick_count = meter.at_once or self.quick
        each = max(1, round(meter.budget().units(self.rate * quick_count) / quick_count))
        path = f"{workload.PUSH_PATH}?rate={self.rate}&count={each}&size={self.size}"
        slow = await connect_many(lambda request: PushSocket(request, self.pace), self.slow, proxy.port, path)
        quick = await connect_many(PushSocket, quick_count, proxy.port, path)
        before = proxy.memory_bytes()
        try:
            with meter:
                load = await self._listen(slow, quick, each)
            load.extra["grown_mb"] = max(0, proxy.memory_bytes() - before) / 1e6
            return load
        finally:
            close([*slow, *quick])
            await asyncio.sleep(0.01)

    async def _listen(self, slow: Sequence[PushSocket], quick: Sequence[PushSocket], each: int) -> Load:
        started = time.perf_counter()
        for turn, socket in enumerate([*slow, *quick]):
            delay = turn / (len(slow) + len(quick)) / self.rate
            socket.transport.write(frames.encode(frames.TEXT, f"{delay:.6f}".encode(), MASK))
        until = started + each / self.rate + LATE_SECONDS
        while any(socket.messages < each and not socket.lost for socket in quick) and time.perf_counter() < until:
            await asyncio.sleep(0.01)  # looking costs less than an event for each of the messages
        load = Load(units=sum(socket.messages for socket in quick), seconds=time.perf_counter() - started)
        load.latencies_ns = [age for socket in quick for age in socket.ages_ns]
        missing = each * len(quick) - load.units
        if missing:
            load.errors["message missing"] += missing
        return load

    def case(self) -> Case:
        """As a row of the record; a slow reader's system calls belong to no unit, so they are counted without."""
        return Case(name=self.name, unit="message", run=self.run, calls=not self.slow)


PUSHES = (
    Push(name="push_fast", size=4096, rate=25.0, quick=64),
    Push(name="push_slow", size=65_536, rate=24.0, quick=12, slow=4, pace=256 * 1024),
)
CASES = (
    *(_echo(name, size, count, tls=False) for name, (size, count) in SIZES.items()),
    *(_echo(name, size, count, tls=True) for name, (size, count) in SIZES.items()),
    *(push.case() for push in PUSHES),
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run as told by the command line."""
    options = parse(__doc__ or "", argv)
    with Stand(options.peers, tls=True) as stand:
        made = report.rows(CASES, interleave(CASES, stand.proxies, options))
        names = {push.name for push in PUSHES}
        report.finish("websocket", __doc__ or "", options, stand, report.added_latency(made, names))


if __name__ == "__main__":
    main(sys.argv[1:])
