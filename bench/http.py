"""What a proxied HTTP request costs.  Run: python -m bench.http   (10 minutes; --short: 90 s; two cores)

Claims, CPU of one gateway process with all policies and its access log on:
GET 200 B and 10 KB at most 0.6 of nginx as Bokeh's guide configures it and 1.1 of tuned nginx; GET 1.27 MB at most 0.6.
`page_10kb` is the same size as HTML that names a session, so that the gateway's session work is in it.
`half_load` sends requests at half of the rate that nginx (guide) can take, evenly spaced, and compares the latency that
a proxy adds to that of no proxy.  Kept record: bench/results/http.json
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bench.harness import report, workload
from bench.harness.http_load import clients
from bench.harness.load import Load
from bench.harness.meter import Meter
from bench.harness.options import Options, parse
from bench.harness.proxy import Proxy
from bench.harness.rounds import Case, Results, interleave
from bench.harness.stand import Stand
from bench.harness.stats import median

UPLOAD = b"u" * 1_000_000
CONNECTIONS, LARGE_CONNECTIONS = 32, 4
RATE_CONNECTIONS = 64


def _closed_loop(name: str, request: tuple[str, bytes | None], expected: int, connections: int) -> Case:
    path, body = request

    async def run(proxy: Proxy, meter: Meter) -> Load:
        host = f"127.0.0.1:{proxy.port}"
        text = workload.get(path, host) if body is None else workload.post(path, host, body)
        async with clients(proxy.port, text, expected, meter.at_once or connections) as group:
            with meter:
                return await group.run(meter.budget())

    return Case(name=name, unit="request", run=run)


CASES = (
    _closed_loop("get_200b", (workload.SMALL_PATH, None), workload.SMALL, CONNECTIONS),
    _closed_loop("get_10kb", (workload.MEDIUM_PATH, None), workload.MEDIUM, CONNECTIONS),
    _closed_loop("page_10kb", (workload.APP, None), workload.MEDIUM, CONNECTIONS),
    _closed_loop("get_1mb", (workload.LARGE_PATH, None), workload.LARGE, LARGE_CONNECTIONS),
    _closed_loop("post_1mb", (workload.UPLOAD_PATH, UPLOAD), 2, LARGE_CONNECTIONS),
)


def half_load(rate: float) -> Case:
    """GET 200 B at `rate` requests a second."""

    async def run(proxy: Proxy, meter: Meter) -> Load:
        text = workload.get(workload.SMALL_PATH, f"127.0.0.1:{proxy.port}")
        async with clients(proxy.port, text, workload.SMALL, RATE_CONNECTIONS) as group:
            with meter:
                return await group.run_at(rate, meter.budget())

    return Case(name="half_load", unit="request", run=run, calls=False)


def half_of_nginx(results: Results) -> float:
    """Half the requests a second that nginx (guide) answered in this run; of the slowest proxy where it is missing."""
    rates = {name: median(samples.per_second) for name, samples in results["get_200b"].items() if samples.cpu_us}
    return rates.get("nginx_guide", min(rates.values(), default=2000.0)) / 2


def main(argv: Sequence[str] | None = None) -> None:
    """Run as told by the command line."""
    options: Options = parse(__doc__ or "", argv)
    with Stand(options.peers) as stand:
        results = interleave(CASES, stand.proxies, options)
        made = report.rows(CASES, results)
        if "get_200b" in results and (not options.only or "half_load" in options.only):
            case = half_load(half_of_nginx(results))
            made += report.added_latency(report.rows([case], interleave([case], stand.proxies, options)), {case.name})
        report.finish("http", __doc__ or "", options, stand, made)


if __name__ == "__main__":
    main(sys.argv[1:])
