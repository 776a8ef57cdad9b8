"""What requests saw of workers: bad answers in a row take one out of use, until one request has tried it again.

Bad: 5xx, an answer that breaks off or never comes, a WebSocket that ends before its first message.  The last worker
of a pool stays in use whatever it answers: its own error says more than a 503.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from bokeh_gateway.balance.health import Breaker
from bokeh_gateway.balance.pool import Pool, Worker

log = logging.getLogger(__name__)


class Outcomes:
    """Of all workers, as one gateway process sees them.

    Args:
        allowed: bad answers in a row, by pool.
        set_up: takes a worker out of use, or back.
    """

    __slots__ = ("_breakers", "_set_up", "allowed")

    def __init__(self, allowed: Mapping[str, int], set_up: Callable[[Worker, bool], None]) -> None:
        self.allowed = dict(allowed)
        self._set_up = set_up
        self._breakers: dict[Worker, Breaker] = {}

    def bad(self, worker: Worker, pool: Pool, now: float) -> None:
        """One more bad answer."""
        worker.failures += 1
        allowed = self.allowed.get(pool.name)
        if allowed is None:
            return
        breaker = self._breakers.get(worker)
        if breaker is None and worker.failures < allowed:
            return
        if not any(other.available for other in pool.workers if other is not worker):
            return
        if breaker is None:
            breaker = self._breakers[worker] = Breaker()
        elif breaker.trial_at is not None and now < breaker.trial_at:
            return  # of a request that was under way when the worker went out of use
        wait = breaker.opened(now)
        self._set_up(worker, False)
        log.warning(
            "worker %s: out of use after %d bad answers in a row ([pool.%s.health] failures = %d); "
            "one request may try it in %g s",
            worker.name,
            worker.failures,
            pool.name,
            allowed,
            wait,
        )

    def good(self, worker: Worker) -> None:
        """The first good answer after bad ones."""
        worker.failures = 0
        if self._breakers.pop(worker, None) is not None:
            self._set_up(worker, True)
            log.warning("worker %s: a request was answered well, it is in use again", worker.name)

    def offer_trials(self, now: float) -> None:
        """Lets one request through to each worker whose time has come."""
        for worker, breaker in self._breakers.items():
            if not worker.up and breaker.trial_due(now):
                worker.trial = worker.up = True

    def forget(self, worker: Worker) -> None:
        """The worker was started anew, or is gone."""
        worker.failures = 0
        self._breakers.pop(worker, None)
