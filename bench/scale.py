"""Does the cost of a message grow?  Run: python -m bench.scale   (10 minutes; --short: 60 s; two cores)

`websockets_N`: round trips of 100 B, ten in flight, taking turns over N open WebSockets.  `workers_N`: GET 200 B over
N workers.  `pick_N` and `affinity_N`: choosing a worker for a new session, and finding that of a foreign session id,
alone and without a network, in the gateway's own code.
Claim: a message costs the same however many connections are open.  Kept record: bench/results/scale.json
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

from bench.harness import report, workload
from bench.harness.http_load import clients
from bench.harness.load import Load
from bench.harness.meter import Meter
from bench.harness.options import Options, parse
from bench.harness.proxy import Proxy
from bench.harness.rounds import Case, Results, interleave
from bench.harness.stand import Stand
from bench.harness.ws_load import echoes

FULL_SOCKETS, SHORT_SOCKETS = (10, 100, 1_000, 10_000), (10, 1_000)
FULL_WORKERS, SHORT_WORKERS = (1, 4, 16, 64), (1, 64)
SIMULATED = (1, 4, 64, 512, 4_096)
IN_FLIGHT, CONNECTIONS = 10, 32
PEERS = ("gateway", "nginx_guide", "nginx_tuned", "haproxy", "caddy")


def sockets_case(count: int) -> Case:
    """`count` WebSockets open, ten messages in flight."""

    async def run(proxy: Proxy, meter: Meter) -> Load:
        async with echoes(count, b"x" * 100, proxy.port) as group:
            with meter:
                return await group.run(meter.budget(), meter.at_once or IN_FLIGHT)

    def skips(proxy: Proxy) -> str | None:
        return None if count <= proxy.peer.max_tunnels else f"carries {proxy.peer.max_tunnels} WebSockets"

    return Case(name=f"websockets_{count}", unit="round trip", run=run, skips=skips)


def workers_case(count: int) -> Case:
    """GET 200 B; the stand has `count` workers."""

    async def run(proxy: Proxy, meter: Meter) -> Load:
        text = workload.get(workload.SMALL_PATH, f"127.0.0.1:{proxy.port}")
        async with clients(proxy.port, text, workload.SMALL, meter.at_once or CONNECTIONS) as group:
            with meter:
                return await group.run(meter.budget())

    return Case(name=f"workers_{count}", unit="request", run=run)


def simulated() -> list[report.Row]:
    """Microseconds of CPU of one choice among so many workers, the best of five runs."""
    from bokeh_gateway.balance.affinity import choose
    from bokeh_gateway.balance.pick import least_loaded
    from bokeh_gateway.balance.pool import Pool, Worker
    from bokeh_gateway.config.address import Address

    made: list[report.Row] = []
    for count in SIMULATED:
        workers = [Worker(f"w{i}", Address(host="127.0.0.1", port=1024 + i), index=i) for i in range(count)]
        pool = Pool("apps", "bokeh", workers)
        loads = [float(i * 7919 % 101) for i in range(count)]
        times = max(20, 20_000 // count)
        for name, one in (
            ("pick", lambda turn, w=workers, x=loads: least_loaded(w, x, turn)),
            ("affinity", lambda turn, p=pool: choose(p, f"foreign-{turn}")),
        ):
            cost = min(_cpu_us(one, times) for _ in range(5))
            made.append({"case": f"{name}_{count}", "proxy": "gateway", "unit": "choice", "cpu_us": round(cost, 2)})
    return made


def _cpu_us(one: Callable[[int], object], times: int) -> float:
    began = time.thread_time_ns()
    for turn in range(times):
        one(turn)
    return (time.thread_time_ns() - began) / times / 1000


def over_workers(options: Options) -> tuple[list[Case], Results]:
    """A stand for each number of workers."""
    cases: list[Case] = []
    results: Results = {}
    for count in SHORT_WORKERS if options.short else FULL_WORKERS:
        cases.append(workers_case(count))
        with Stand(options.peers, workers=count) as stand:
            results |= interleave(cases[-1:], stand.proxies, options)
    return cases, results


def main(argv: Sequence[str] | None = None) -> None:
    """Run as told by the command line."""
    options = parse(__doc__ or "", argv, rounds=(2, 5), default_peers=PEERS)
    cases = [sockets_case(count) for count in (SHORT_SOCKETS if options.short else FULL_SOCKETS)]
    with Stand(options.peers) as stand:
        made = report.rows(cases, interleave(cases, stand.proxies, options))
    made += report.rows(*over_workers(options))
    made += simulated()
    report.finish("scale", __doc__ or "", options, stand, made)


if __name__ == "__main__":
    main(sys.argv[1:])
