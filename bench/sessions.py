"""Page views of real Bokeh workers.  Run: python -m bench.sessions   (6 minutes; --short: 70 s; two cores)

A page view is the page, its WebSocket with the token in the page, and the document pulled; eight viewers at a time,
four real `bokeh serve` workers that are the bottleneck (they and the load share one core, the proxy has the other).
Claims: the app runs exactly once for each page view (`runs_per_view`), and page views a second are at least 1.4 of
nginx as Bokeh's guide configures it.  `spread_max` is the busiest worker's share of views beside an even share;
latency is the time to the document.  Kept record: bench/results/sessions.json
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence

from bench.harness import report
from bench.harness.bokeh_workers import BokehWorkers, bokeh_workers
from bench.harness.budget import Budget
from bench.harness.load import Load
from bench.harness.meter import Meter
from bench.harness.options import parse
from bench.harness.page_view import PageFailedError, document
from bench.harness.proxy import Proxy
from bench.harness.rounds import Case, interleave
from bench.harness.stand import Stand
from bench.harness.ws_load import RefusedError

WORKERS, VIEWERS = 4, 8


def case(workers: BokehWorkers) -> Case:
    """Viewers in a closed loop."""

    async def run(proxy: Proxy, meter: Meter) -> Load:
        await document(proxy.port)
        load, mark = Load(), workers.mark()
        with meter:
            budget, started = meter.budget(), time.perf_counter()
            viewers = (_views(proxy.port, budget, load) for _ in range(meter.at_once or VIEWERS))
            await asyncio.gather(*viewers)
            load.seconds = time.perf_counter() - started
        runs = workers.runs(mark)
        if load.units:
            load.extra["runs_per_view"] = runs.total() / load.units
            load.extra["spread_max"] = max(runs.values(), default=0) * len(workers.ports) / max(1, runs.total())
        return load

    return Case(name="four_workers", unit="page view", run=run, skips=_one_worker, calls=False)


def _one_worker(proxy: Proxy) -> str | None:
    return None if proxy.peer.balances else "uses one worker only"


async def _views(port: int, budget: Budget, load: Load) -> None:
    while budget.take():
        began = time.perf_counter_ns()
        try:
            await document(port)
        except (PageFailedError, RefusedError, OSError, TimeoutError) as error:
            load.errors[f"{type(error).__name__}: {error}"[:80]] += 1
            continue
        load.units += 1
        load.latencies_ns.append(time.perf_counter_ns() - began)


def main(argv: Sequence[str] | None = None) -> None:
    """Run as told by the command line."""
    options = parse(__doc__ or "", argv, rounds=(2, 5), seconds=(3.0, 10.0))
    with bokeh_workers(WORKERS) as workers, Stand(options.peers, workers=workers.ports) as stand:
        cases = [case(workers)]
        made = report.rows(cases, interleave(cases, stand.proxies, options))
        report.finish("sessions", __doc__ or "", options, stand, made)


if __name__ == "__main__":
    main(sys.argv[1:])
