"""The command line that all scripts share."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import peers

RESULTS = Path(__file__).parents[1] / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How much to run and against whom."""

    short: bool
    peers: Sequence[str]
    rounds: int
    seconds: float
    """Of load in each measurement."""
    limit: float
    """Seconds after which no further round begins."""
    calls: bool
    """Whether system calls are counted too, on a run of their own."""
    only: Sequence[str]
    """Names of cases; empty: all."""
    out: Path | None
    """Folder for the record; None: no record."""


def parse(
    doc: str,
    argv: Sequence[str] | None = None,
    *,
    rounds: tuple[int, int] = (2, 7),
    seconds: tuple[float, float] = (0.25, 2.0),
    limit: tuple[float, float] = (45.0, 900.0),
    default_peers: Sequence[str] = tuple(peers.ALL),
) -> Options:
    """Options of a script whose docstring is `doc`; each pair is the default of the short and of the full form."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--short", action="store_true", help="fewer and shorter rounds: about a minute")
    add("--peers", type=_names, default=list(default_peers), help=f"comma-separated, of: {', '.join(peers.ALL)}")
    add("--only", type=lambda text: text.split(","), default=[], help="comma-separated names of cases; default all")
    add("--rounds", type=int, help=f"interleaved rounds (default {rounds[0]} short, {rounds[1]} full)")
    add("--seconds", type=float, help=f"load in each measurement (default {seconds[0]:g} short, {seconds[1]:g} full)")
    add("--limit", type=float, help=f"no new round after so many seconds (default {limit[0]:g}, {limit[1]:g})")
    add("--no-calls", action="store_true", help="do not count system calls with strace")
    add("--out", type=Path, default=RESULTS, help="folder of the record (default bench/results)")
    add("--no-record", action="store_true", help="print only")
    given = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the proxies end too
    form = 0 if given.short else 1
    return Options(
        short=given.short,
        peers=given.peers,
        rounds=given.rounds or rounds[form],
        seconds=given.seconds or seconds[form],
        limit=given.limit or limit[form],
        calls=not given.no_calls,
        only=given.only,
        out=None if given.no_record else given.out,
    )


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in peers.ALL]
    if unknown:
        raise argparse.ArgumentTypeError(f"no such peer: {', '.join(unknown)}")
    return names
