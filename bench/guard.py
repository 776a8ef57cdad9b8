"""Does a request still cost what it did?  Run: python -m bench.guard   (15 s; --keep writes the record anew)

System calls of the gateway per request and per message, counted by strace over a fixed number of units, one in flight:
the same on every machine and at any load, so it can fail a build where a timed test could not.
Claim: none costs more than in the kept record, bench/results/guard.json, by half a call or more.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import http, peers, websocket
from bench.harness.options import RESULTS
from bench.harness.rounds import count_calls
from bench.harness.stand import Stand

RECORD = RESULTS / "guard.json"
CASES = (
    *(case for case in http.CASES if case.name in ("get_200b", "page_10kb")),
    *(case for case in websocket.CASES if case.name in ("echo_100b", "echo_64kb", "tls_echo_100b")),
)
MARGIN = 0.5
"""Calls per unit; what the sweep and the log's writer add differs by less."""


def measured() -> dict[str, dict[str, float]]:
    """Calls by case and name.

    Raises:
        CannotTraceError: strace is missing or may not attach.
        RuntimeError: the gateway did not start or a case failed.
    """
    with Stand(["gateway"], tls=True) as stand:
        if not stand.proxies:
            raise RuntimeError(f"{peers.ALL['gateway'].title}: {stand.left_out['gateway']}")
        return {case.name: count_calls(case, stand.proxies[0]) for case in CASES}


def kept(path: Path = RECORD) -> dict[str, dict[str, float]]:
    """The record."""
    found: dict[str, dict[str, float]] = json.loads(path.read_text())["calls"]
    return found


def dearer(now: Mapping[str, Mapping[str, float]], before: Mapping[str, Mapping[str, float]]) -> list[str]:
    """A sentence for each case that costs more than it did."""
    said = []
    for name, calls in now.items():
        total, allowed = sum(calls.values()), sum(before.get(name, {}).values()) + MARGIN
        if name not in before:
            said.append(f"{name}: not in the record; python -m bench.guard --keep writes it")
        elif total > allowed:
            said.append(f"{name}: {total:.2f} system calls, at most {allowed:.2f} allowed: {dict(calls)}")
    return said


def main(argv: Sequence[str]) -> int:
    """Exit status 0 when nothing got dearer."""
    if "--help" in argv:
        print(__doc__)
        return 0
    now = measured()
    for name, calls in now.items():
        print(f"{name}: {sum(calls.values()):.2f} system calls {calls}")
    if "--keep" in argv:
        RECORD.parent.mkdir(parents=True, exist_ok=True)
        RECORD.write_text(
            json.dumps({"bench": "guard", "claim": (__doc__ or "").strip(), "calls": now}, indent=1) + "\n"
        )
        return 0
    said = dearer(now, kept())
    print("\n".join(said) or "nothing costs more than in the record")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
