"""What an idle WebSocket holds.  Run: python -m bench.idle   (5 minutes; --short: 60 s; two cores)

Memory of all processes of a proxy (proportional set size, so shared pages count once) before and after so many open
WebSockets, divided by their number; 100 are open before the first reading, so that what is allocated once is not in it.
Socket buffers are the kernel's and the same for all.  Every proxy is fresh for each case.
Claims: at most 5 KB for a plain WebSocket and 34 KB over TLS.  Kept record: bench/results/idle.json
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence

from bench.harness import cores, report
from bench.harness.load import Load
from bench.harness.meter import Meter
from bench.harness.options import parse
from bench.harness.proxy import Proxy
from bench.harness.rounds import Case, Results, interleave
from bench.harness.stand import Stand
from bench.harness.ws_load import Socket, close, connect_many

FIRST = 100
FULL, SHORT = 10_000, 1_000


def case(name: str, count: int, *, tls: bool) -> Case:
    """`count` WebSockets beyond the first."""

    def fits(proxy: Proxy) -> int:
        return min(count, proxy.peer.max_tunnels - FIRST, cores.MAX_TUNNELS - FIRST)

    async def run(proxy: Proxy, meter: Meter) -> Load:
        port, context = (proxy.tls_port, proxy.context) if tls else (proxy.port, None)
        first = await connect_many(Socket, FIRST, port, context=context)
        more: list[Socket] = []
        try:
            before, started = proxy.memory_bytes(), time.perf_counter()
            with meter:
                more = await connect_many(Socket, fits(proxy), port, context=context, after=FIRST)
            load = Load(units=len(more), seconds=time.perf_counter() - started)
            await asyncio.sleep(0.5)
            load.extra["kb_per_websocket"] = max(0, proxy.memory_bytes() - before) / len(more) / 1024
            load.extra["opened"] = len(more)
            lost = sum(socket.lost for socket in [*first, *more])
            if lost:
                load.errors["lost while idle"] += lost
            return load
        finally:
            close([*first, *more])
            await asyncio.sleep(0.2)

    def skips(proxy: Proxy) -> str | None:
        return None if proxy.running else "no proxy, no memory"

    return Case(name=name, unit="WebSocket opened", run=run, skips=skips, calls=False)


def main(argv: Sequence[str] | None = None) -> None:
    """Run as told by the command line."""
    options = parse(__doc__ or "", argv, rounds=(1, 1))
    count = SHORT if options.short else FULL
    cases = [case("plain", count, tls=False), case("tls", count, tls=True)]
    results: Results = {}
    for one in cases:
        with Stand(options.peers, tls=True) as stand:
            results |= interleave([one], stand.proxies, options)
    report.finish("idle", __doc__ or "", options, stand, report.rows(cases, results))


if __name__ == "__main__":
    main(sys.argv[1:])
