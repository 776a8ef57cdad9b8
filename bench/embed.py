"""Do embedded plots show the customised session?  Run: python -m bench.embed   (3 minutes; --short: 40 s; two cores)

As a parent application does it: `pull_session` through the proxy, change the document, then the autoload.js, the
WebSocket and the document of a browser that was given the session by `server_session`.  Three real workers.
Claim: the changed document reaches the browser every time (`share` 1.0; 50 in the full form); nginx, HAProxy, Apache
and Caddy as usually configured send page and WebSocket to any worker.  Kept record: bench/results/embed.json
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from collections.abc import Sequence

from bench.harness import report, workload
from bench.harness.bokeh_workers import ENVIRONMENT, bokeh_workers
from bench.harness.load import Load
from bench.harness.meter import Meter
from bench.harness.options import parse
from bench.harness.page_view import PageFailedError, document
from bench.harness.proxy import Proxy
from bench.harness.rounds import Case, interleave
from bench.harness.stand import Stand
from bench.harness.ws_load import RefusedError

WORKERS = 3
FULL, SHORT = 50, 10
AUTOLOAD = f"{workload.APP}/autoload.js?bokeh-autoload-element=e1&bokeh-app-path={workload.APP}"


async def shows(port: int) -> bool:
    """Whether one embedded plot shows what the parent made of it."""
    from bench.harness import parent  # not before main() has set what Bokeh reads at import

    text, session_id = secrets.token_hex(8), parent.new_session_id()
    await asyncio.to_thread(parent.customise, port, session_id, text)
    return text.encode() in await document(port, AUTOLOAD, f"Bokeh-Session-Id: {session_id}\r\n")


def case(count: int) -> Case:
    """`count` embedded plots, one after another."""

    async def run(proxy: Proxy, meter: Meter) -> Load:
        load, shown, started = Load(), 0, time.perf_counter()
        with meter:
            for _ in range(count):
                began = time.perf_counter_ns()
                try:
                    shown += await shows(proxy.port)
                except (PageFailedError, RefusedError, OSError, TimeoutError, RuntimeError) as error:
                    load.errors[f"{type(error).__name__}: {error}"[:80]] += 1
                load.units += 1
                load.latencies_ns.append(time.perf_counter_ns() - began)
        load.seconds = time.perf_counter() - started
        load.extra |= {"shown": shown, "share": shown / count}
        return load

    def skips(proxy: Proxy) -> str | None:
        return None if proxy.peer.balances else "uses one worker only"

    return Case(name="customised", unit="embedded plot", run=run, skips=skips, calls=False)


def main(argv: Sequence[str] | None = None) -> None:
    """Run as told by the command line."""
    options = parse(__doc__ or "", argv, rounds=(1, 1))
    os.environ.update(ENVIRONMENT)
    with bokeh_workers(WORKERS) as workers, Stand(options.peers, workers=workers.ports) as stand:
        cases = [case(SHORT if options.short else FULL)]
        made = report.rows(cases, interleave(cases, stand.proxies, options))
        report.finish("embed", __doc__ or "", options, stand, made)


if __name__ == "__main__":
    main(sys.argv[1:])
