"""How long until the first answer, and memory at rest.  Run: python -m bench.start   (2 minutes; --short: 50 s)

Time from the command to the first 200 through the proxy, CPU until then, and proportional set size of all its processes
once they are at rest.  Every round starts every proxy anew, one at a time.
Claim: none; a Python program starts later than a C one, and the record says by how much.
Kept record: bench/results/start.json
"""

from __future__ import annotations

import http.client
import sys
import time
from collections.abc import Sequence

from bench import peers
from bench.harness import proctree, report, workload
from bench.harness.options import parse
from bench.harness.proxy import Proxy
from bench.harness.rounds import Case, Results, Samples
from bench.harness.stand import Stand, settle

CASE = "first_answer"


async def _unused(*_: object) -> object:
    raise NotImplementedError


def first_answer(proxy: Proxy, until: float) -> None:
    """Returns at the first 200."""
    while time.monotonic() < until:
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=5)
        try:
            connection.request("GET", workload.SMALL_PATH)
            if connection.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException):
            time.sleep(0.002)
        finally:
            connection.close()
    raise TimeoutError("no 200")


def once(stand: Stand, name: str, samples: Samples) -> None:
    """One start."""
    began = time.monotonic()
    proxy = stand.start(peers.ALL[name])
    if proxy is None:
        samples.skipped = stand.left_out[name]
        return
    try:
        first_answer(proxy, began + 20)
        samples.extra.setdefault("ms_to_first_200", []).append((time.monotonic() - began) * 1000)
        spent = proctree.usage(proxy.pids())
        samples.extra.setdefault("cpu_ms_to_first_200", []).append(sum(spent.threads.values()) / 1e6)
        settle([proxy])
        samples.extra.setdefault("mb_at_rest", []).append(proxy.memory_bytes() / 2**20)
        samples.units += 1
    except TimeoutError as error:
        samples.errors[str(error)] += 1
    finally:
        stand.stop(proxy)


def main(argv: Sequence[str] | None = None) -> None:
    """Run as told by the command line."""
    options = parse(__doc__ or "", argv, rounds=(2, 5))
    names = [name for name in options.peers if name != "direct"]
    results: Results = {CASE: {name: Samples() for name in names}}
    until = time.monotonic() + options.limit
    with Stand([]) as stand:
        for turn in range(options.rounds):
            if turn and time.monotonic() > until:
                break
            for name in names:
                if not results[CASE][name].skipped:
                    once(stand, name, results[CASE][name])
        cases = [Case(name=CASE, unit="start", run=_unused)]  # type: ignore[arg-type]
        report.finish("start", __doc__ or "", options, stand, report.rows(cases, results))


if __name__ == "__main__":
    main(sys.argv[1:])
