"""Probes every worker again and again, and says what that changes.

What an outcome means is decided in `balance.health`; here is when to ask, and whom to tell.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from bokeh_gateway.balance.health import Health, Verdict
from bokeh_gateway.config.address import Address
from bokeh_gateway.control import probe
from bokeh_gateway.control.probe import ProbeResult

log = logging.getLogger(__name__)

JITTER = 0.1
"""Share of the interval by which chance moves a probe, so that probes of many gateways do not fall together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What to ask a worker, and how often; times in seconds."""

    worker: str
    """`apps/127.0.0.1:5100`"""
    address: Address
    path: str | None
    """None: only connect."""
    method: str = "GET"
    interval: float = 5.0
    timeout: float = 10.0


class HealthWatch:
    """All workers that are probed.

    Args:
        on_change: called in the loop with the worker's name, what changed, and why.
    """

    def __init__(self, on_change: Callable[[str, Verdict, str], None]) -> None:
        self._on_change = on_change
        self._health: dict[str, Health] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def watch(self, target: Target, health: Health) -> None:
        """Begins to probe; with a name that is probed already, anew."""
        self.forget(target.worker)
        self._health[target.worker] = health
        self._tasks[target.worker] = asyncio.get_running_loop().create_task(
            self._run(target, health), name=f"health of {target.worker}"
        )

    def forget(self, worker: str) -> None:
        """No more probes of `worker`."""
        self._health.pop(worker, None)
        task = self._tasks.pop(worker, None)
        if task is not None:
            task.cancel()

    def close(self) -> None:
        for worker in list(self._tasks):
            self.forget(worker)

    def lag(self, worker: str) -> float | None:
        """Seconds that the last good probe took, or the present one takes; None when nothing is known."""
        health = self._health.get(worker)
        return None if health is None else health.lag

    async def _run(self, target: Target, health: Health) -> None:
        while True:
            await asyncio.sleep(target.interval * (1 + JITTER * (2 * random.random() - 1)))
            result = await self._probe(target, health)
            self._tell(target, health.probed(result.ok or result.answered, result.seconds), result.error, health)

    async def _probe(self, target: Target, health: Health) -> ProbeResult:
        """The outcome; a worker that keeps the probe waiting is said to be slow before there is one."""
        if target.path is None:
            return await probe.connection(target.address, target.timeout)
        asking = asyncio.ensure_future(probe.metadata(target.address, target.path, target.timeout, target.method))
        try:
            done, _ = await asyncio.wait([asking], timeout=health.settings.max_lag)
            if not done:
                waited = health.settings.max_lag + 1e-6
                self._tell(target, health.waiting(waited), f"a probe waits for {waited:.1f} s already", health)
            return await asking
        finally:
            asking.cancel()

    def _tell(self, target: Target, verdicts: tuple[Verdict, ...], why: str, health: Health) -> None:
        for verdict in verdicts:
            log.warning("worker %s: %s", target.worker, _words(verdict, why, health))
            self._on_change(target.worker, verdict, why)


def _words(verdict: Verdict, why: str, health: Health) -> str:
    settings = health.settings
    match verdict:
        case Verdict.UP:
            return f"answers again ([pool] health.rise = {settings.rise})"
        case Verdict.DOWN:
            return f"out of use, {settings.fall} probes failed ([pool] health.fall); the last: {why}"
        case Verdict.SLOW:
            limit = f"[pool] health.max_lag = {settings.max_lag:g} s"
            return f"its loop is blocked, it gets no new sessions: {why or 'a late answer'} ({limit})"
        case _:
            return f"its loop is free again, it answered a probe in {health.lag:.2f} s"
