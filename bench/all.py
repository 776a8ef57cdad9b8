"""Every question, then the page with the plots.  Run: python -m bench.all --short   (under 10 minutes)

All options are handed on to every script; `--skip a,b` leaves some out.  Without --short it takes about an hour.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench import page

SCRIPTS = ("sessions", "embed", "http", "websocket", "idle", "static", "tls", "start", "scale")


def main(argv: Sequence[str]) -> int:
    """Exit status 0 when every script ran."""
    if "--help" in argv:
        print(__doc__, f"\nScripts: {', '.join(SCRIPTS)}")
        return 0
    given, skip = list(argv), set()
    if "--skip" in given:
        at = given.index("--skip")
        skip = set(given[at + 1].split(","))
        del given[at : at + 2]
    failed = []
    began = time.monotonic()
    for name in SCRIPTS:
        if name in skip:
            continue
        print(f"== {name}, {time.monotonic() - began:.0f} s", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", f"bench.{name}", *given], cwd=Path(__file__).parents[1], check=False
        )
        if done.returncode:
            failed.append(name)
    page.main([given[given.index("--out") + 1]] if "--out" in given else [])
    print(f"all in {time.monotonic() - began:.0f} s" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
