"""The figures of workers that are gone are forgotten after a while.

Every recycled worker has a name of its own, so that without this a scrape would grow for as long as the gateway runs.
Whoever sums over several processes hides them first: if each process forgot at a time of its own, the sum would seem to
fall, and a monitor takes that for a restart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from bokeh_gateway.observe.metrics import Metrics

SHOWN: Final = 900.0
"""Seconds that a scrape still has them: its last counts, and what a person comes to look for."""
KEPT: Final = 1200.0
"""Seconds that they are kept where they are counted; longer than shown, see above."""
LOOK_EVERY: Final = 60
"""Seconds between two looks at what is kept."""


class GoneWorkers:
    """Those that `look` did not find, and since when.  Time comes in as `now`."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._since: dict[str, float] = {}

    def look(self, counted: Iterable[Metrics], present: Collection[str], now: float) -> None:
        """Takes the figures of workers that have been gone for long out of all of `counted`."""
        counted = list(counted)
        named = {name for metrics in counted for name in metrics.workers()}
        busy = {name for metrics in counted for name in metrics.busy_workers()}
        self._since = {name: self._since.get(name, now) for name in named if name not in present and name not in busy}
        over = {name for name, since in self._since.items() if now - since >= self._patience}
        if over:
            for metrics in counted:
                metrics.forget(over)
