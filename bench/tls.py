"""What a TLS handshake costs.  Run: python -m bench.tls   (3 minutes; --short: 40 s; two cores)

Handshakes one after another with an ECDSA P-256 certificate, each with one GET of 200 B and the end of the connection:
`full`, and `resumed` with the ticket of an earlier one, which is checked.  Python's ssl is the client.
Claim: none; the record says how many a core does and how a proxy compares.  Kept record: bench/results/tls.json
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
import time
from collections.abc import Sequence

from bench.harness import report, workload
from bench.harness.budget import Budget
from bench.harness.load import Load
from bench.harness.meter import Meter
from bench.harness.options import parse
from bench.harness.proxy import Proxy
from bench.harness.rounds import Case, interleave
from bench.harness.stand import Stand


def visit(proxy: Proxy, session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool, int]:
    """(its session, whether it was resumed, ns of the handshake) of one connection with one GET."""
    with socket.create_connection(("127.0.0.1", proxy.tls_port), timeout=20) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.perf_counter_ns()
        with proxy.context.wrap_socket(plain, server_hostname="localhost", session=session) as secure:
            took = time.perf_counter_ns() - began
            secure.sendall(workload.get(workload.SMALL_PATH, f"127.0.0.1:{proxy.tls_port}"))
            answer = b""
            while len(answer.partition(b"\r\n\r\n")[2]) < workload.SMALL:
                part = secure.recv(65_536)
                if not part:
                    raise ConnectionError("ended before the answer")
                answer += part
            return secure.session, bool(secure.session_reused), took


def _case(name: str, *, resumed: bool) -> Case:
    def blocking(proxy: Proxy, session: ssl.SSLSession | None, budget: Budget) -> Load:
        load, started = Load(), time.perf_counter()
        while budget.take():
            try:
                _, reused, took = visit(proxy, session)
            except OSError as error:
                load.errors[str(error)[:80]] += 1
                continue
            load.units += 1
            load.latencies_ns.append(took)
            if reused is not resumed:
                load.errors["resumed" if reused else "not resumed"] += 1
        load.seconds = time.perf_counter() - started
        return load

    async def run(proxy: Proxy, meter: Meter) -> Load:
        session, _, _ = await asyncio.to_thread(visit, proxy, None)
        with meter:
            return await asyncio.to_thread(blocking, proxy, session if resumed else None, meter.budget())

    def skips(proxy: Proxy) -> str | None:
        return None if proxy.running else "the worker's stand-in speaks no TLS"

    return Case(name=name, unit="handshake, GET and close", run=run, skips=skips)


CASES = (_case("full", resumed=False), _case("resumed", resumed=True))


def main(argv: Sequence[str] | None = None) -> None:
    """Run as told by the command line."""
    options = parse(__doc__ or "", argv)
    with Stand(options.peers, tls=True) as stand:
        report.finish(
            "tls", __doc__ or "", options, stand, report.rows(CASES, interleave(CASES, stand.proxies, options))
        )


if __name__ == "__main__":
    main(sys.argv[1:])
