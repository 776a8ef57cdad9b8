"""Does a request still cost what it did?  Run: python -m bench.guard   (15 s; --keep writes the record anew)

System calls of the gateway per request and per message, counted by strace over a fixed number of units, one in flight,
and the calls of its Python code, counted by the interpreter: the same on every machine and at any load, so it can fail
a build where a timed test could not.  Python's calls are compared on the interpreter version of the record only.
Claim: none costs more than in the kept record, bench/results/guard.json, by half a system call, or by a twentieth
of Python's calls.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import http, peers, websocket
from bench.harness.options import RESULTS
from bench.harness.proxy import Proxy
from bench.harness.rounds import Case, count_calls, run_units
from bench.harness.stand import Stand, settle
from bench.peers.peer import Command, Peer, Site

RECORD = RESULTS / "guard.json"
CASES = (
    *(case for case in http.CASES if case.name in ("get_200b", "page_10kb")),
    *(case for case in websocket.CASES if case.name in ("echo_100b", "echo_64kb", "tls_echo_100b")),
)
PYTHON_CASES = ("get_200b", "page_10kb", "echo_100b")
PYTHON_UNITS = 200
PYTHON_MARGIN = 1.05
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
SHIM = Path(__file__).parent / "harness" / "shim"
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


def python_calls() -> dict[str, float]:
    """Calls per unit that the gateway's Python code makes, to functions of Python and of C, in PYTHON_CASES.

    Raises:
        RuntimeError: the gateway did not start or a case failed.
    """
    cases = [case for case in CASES if case.name in PYTHON_CASES]
    with tempfile.NamedTemporaryFile(prefix="bench-calls-") as file, Stand([], tls=True) as stand:
        file.write(bytes(8))
        file.flush()
        proxy = stand.start(_counting(peers.ALL["gateway"], file.name))
        if proxy is None:
            raise RuntimeError(stand.left_out["gateway"])
        settle([proxy])
        return {case.name: _per_unit(case, proxy, Path(file.name)) for case in cases}


def _per_unit(case: Case, proxy: Proxy, file: Path) -> float:
    """Of twice as many units those of the first half are taken away: connecting and closing are in both."""
    few, many = (_calls(case, proxy, file, units) for units in (PYTHON_UNITS, 2 * PYTHON_UNITS))
    return round((many - few) / PYTHON_UNITS, 1)


def _calls(case: Case, proxy: Proxy, file: Path, units: int) -> int:
    before = int.from_bytes(file.read_bytes()[:8], sys.byteorder)
    run_units(case, proxy, units)
    return int.from_bytes(file.read_bytes()[:8], sys.byteorder) - before


def _counting(peer: Peer, file: str) -> Peer:
    def prepare(site: Site) -> list[Command]:
        made = []
        for command in peer.prepare(site):
            path = os.pathsep.join([str(SHIM), command.env["PYTHONPATH"]])
            made.append(replace(command, env={**command.env, "PYTHONPATH": path, "BENCH_PYTHON_CALLS": file}))
        return made

    return replace(peer, prepare=prepare)


def kept(path: Path = RECORD) -> dict[str, Any]:
    """The record: `calls`, `python_calls`, and the `python` that made them."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def slower(now: Mapping[str, float], before: Mapping[str, float]) -> list[str]:
    """A sentence for each case whose Python code calls more than it did, or where none was counted."""
    blind = [f"{name}: no call of Python code was counted" for name, calls in now.items() if calls < 1]
    if blind:
        return blind
    limits = {name: before.get(name, 0.0) * PYTHON_MARGIN + 1 for name in now}
    return [
        f"{name}: {calls:.1f} calls of Python code, at most {limits[name]:.1f} allowed"
        for name, calls in now.items()
        if calls > limits[name]
    ]


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
    now, python = measured(), python_calls()
    for name, calls in now.items():
        print(f"{name}: {sum(calls.values()):.2f} system calls {calls}")
    for name, count in python.items():
        print(f"{name}: {count:.1f} calls of Python code")
    if "--keep" in argv:
        record = {"bench": "guard", "claim": (__doc__ or "").strip(), "python": PYTHON, "calls": now}
        RECORD.parent.mkdir(parents=True, exist_ok=True)
        RECORD.write_text(json.dumps(record | {"python_calls": python}, indent=1) + "\n")
        return 0
    record = kept()
    said = dearer(now, record["calls"])
    if record["python"] == PYTHON:
        said += slower(python, record["python_calls"])
    print("\n".join(said) or "nothing costs more than in the record")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
