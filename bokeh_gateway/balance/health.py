"""Whether a worker can be used, from what probes and requests saw of it.  Pure: seconds and outcomes in, verdicts out.

Probes decide by thresholds; a refused connection decides at once.  Bad answers to real requests take a worker out of
use for a while, then one request is let through (half-open): its answer decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

TRIAL_AFTER: Final = 5.0
"""Seconds out of use after bad answers; doubled with each failed trial, up to `TRIAL_MOST`."""
TRIAL_MOST: Final = 60.0
RAMP_START: Final = 0.1
"""Share of its weight that a worker begins a slow start with."""


class Verdict(StrEnum):
    """What a probe changed."""

    UP = "up"
    DOWN = "down"
    SLOW = "slow"
    """Its loop is blocked."""
    QUICK = "quick"
    """It is no longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSettings:
    """[pool.<name>.health], as far as it decides; times in seconds."""

    rise: int = 1
    fall: int = 3
    max_lag: float = 2.0


@dataclass(slots=True)
class Health:
    """What probes saw of one worker."""

    settings: HealthSettings
    up: bool = True
    slow: bool = False
    lag: float = 0.0
    """Seconds that the last probe took, or has been taking: how long the worker's loop kept it waiting."""
    successes: int = 0
    failures: int = 0

    def probed(self, ok: bool, seconds: float) -> tuple[Verdict, ...]:
        """A probe was answered well after `seconds`, or failed."""
        if not ok:
            return self._failed()
        self.lag = seconds
        self.failures = 0
        self.successes += 1
        changes: list[Verdict] = []
        if not self.up and self.successes >= self.settings.rise:
            self.up = True
            changes.append(Verdict.UP)
        changes += self._lagging(seconds)
        return tuple(changes)

    def waiting(self, seconds: float) -> tuple[Verdict, ...]:
        """A probe has been waiting for `seconds` by now."""
        self.lag = max(self.lag, seconds)
        return tuple(self._lagging(seconds)) if seconds > self.settings.max_lag else ()

    def _failed(self) -> tuple[Verdict, ...]:
        self.successes = 0
        self.failures += 1
        if self.up and self.failures >= self.settings.fall:
            self.up = False
            return (Verdict.DOWN,)
        return ()

    def _lagging(self, seconds: float) -> list[Verdict]:
        slow = seconds > self.settings.max_lag
        if slow == self.slow:
            return []
        self.slow = slow
        return [Verdict.SLOW if slow else Verdict.QUICK]


@dataclass(slots=True)
class Breaker:
    """What real requests saw of one worker: closed, open until `trial_at`, or half-open while a trial runs."""

    trial_at: float | None = None
    """When one request may try it; None: it is in use."""
    trials: int = 0
    """That failed, in a row."""

    def opened(self, now: float) -> float:
        """Too many bad answers, or a bad one to a trial; returns the seconds until the next trial."""
        wait = min(TRIAL_AFTER * float(2 ** min(self.trials, 10)), TRIAL_MOST)
        self.trials += 1
        self.trial_at = now + wait
        return wait

    def trial_due(self, now: float) -> bool:
        """Whether one request may try it now."""
        return self.trial_at is not None and now >= self.trial_at

    def closed(self) -> None:
        """A good answer."""
        self.trial_at = None
        self.trials = 0


def slow_start_share(weight: float, since: float, duration: float) -> float:
    """The share of a worker of `weight` that came up `since` seconds ago and gets all of it after `duration`."""
    if since >= duration:
        return weight
    return weight * max(RAMP_START, since / duration)
