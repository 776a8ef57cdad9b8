"""How long the fuzz tests go on: a few seconds, or `FUZZ_SECONDS` each where that is set."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from hypothesis import HealthCheck, settings

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
# Not derandomized, as hypothesis does under CI: going on would only repeat the same examples.
ONCE = settings(max_examples=300, deadline=None, derandomize=False, suppress_health_check=list(HealthCheck))


def keep_on(test: Callable[[], None]) -> None:
    """Runs a hypothesis test once, then again with new examples until `FUZZ_SECONDS` are over."""
    end = time.monotonic() + SECONDS
    test()
    while time.monotonic() < end:
        test()
