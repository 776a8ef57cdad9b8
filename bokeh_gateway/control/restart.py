"""When a worker that ended is started again, and how its end is told.  Pure: `now` and the jitter come in.

The worker is never given up: a database that is back, or a file that was saved, mends it without anybody's help.
"""

from __future__ import annotations

import signal
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from bokeh_gateway.errors import ConfigError

MINUTE: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartSettings:
    """How eagerly a worker is restarted; all times in seconds."""

    first_delay: float = 0.5
    """After the first failure: a worker that was killed once is back in about a second."""
    max_delay: float = 30.0
    jitter: float = 0.25
    """Share of a delay that chance may take off, so that workers that fell together do not rise together."""
    healthy_after: float = 10.0
    """Seconds of readiness after which earlier failures are forgotten."""
    crash_loop_after: int = 5
    """Failures in a row that make it a crash loop: with these delays about 15 s after the first."""
    starts_per_minute: int = 10
    """Bound that holds even for a worker that becomes ready each time."""

    def __post_init__(self) -> None:
        if not 0 < self.first_delay <= self.max_delay:
            raise ConfigError(
                "restart.first_delay", self.first_delay, f"seconds, above 0 up to max_delay = {self.max_delay}"
            )
        if not 0 <= self.jitter < 1:
            raise ConfigError("restart.jitter", self.jitter, "a share, 0 up to below 1")
        if self.crash_loop_after < 1 or self.starts_per_minute < 1:
            raise ConfigError("restart", (self.crash_loop_after, self.starts_per_minute), "counts of 1 or more")


def restart_delay(failures: int, settings: RestartSettings, jitter: float = 0.0) -> float:
    """Seconds to wait before restarting a worker that failed `failures` times in a row.

    0 failures is 0.0; then `first_delay`, doubling, never above `max_delay`; `jitter`, 0 to 1, takes off up to its
    share.
    """
    if failures <= 0:
        return 0.0
    doublings = min(failures - 1, 32)  # 2**32 half seconds are above any delay; a larger power would only cost
    return min(settings.first_delay * float(2**doublings), settings.max_delay) * (1 - settings.jitter * jitter)


def wait_for_turn(starts: deque[float], now: float, settings: RestartSettings) -> float:
    """Seconds until one more start keeps to `starts_per_minute`; `starts`: times of the latest ones, oldest first."""
    if len(starts) < settings.starts_per_minute:
        return 0.0
    return max(0.0, starts[-settings.starts_per_minute] + MINUTE - now)


@dataclass(slots=True)
class RestartRecord:
    """One worker's history of starts and failures."""

    settings: RestartSettings
    failures: int = 0
    """In a row."""
    starts: deque[float] = field(default_factory=deque)
    _ready_at: float | None = None

    @property
    def crash_loop(self) -> bool:
        return self.failures >= self.settings.crash_loop_after

    def started(self, now: float) -> None:
        """The process exists."""
        self.starts.append(now)
        while len(self.starts) > self.settings.starts_per_minute:
            self.starts.popleft()
        self._ready_at = None

    def ready(self, now: float) -> None:
        """It answers requests."""
        self._ready_at = now

    def ended(self, now: float, jitter: float) -> float:
        """It ended without being asked to; seconds to wait before the next start."""
        was_healthy = self._ready_at is not None and now - self._ready_at >= self.settings.healthy_after
        self.failures = 1 if was_healthy else self.failures + 1
        return max(restart_delay(self.failures, self.settings, jitter), wait_for_turn(self.starts, now, self.settings))


_MEANING: Final = {
    signal.SIGKILL: "if nobody did that by hand: out of memory (see the kernel's log), or over a memory limit",
    signal.SIGSEGV: "a crash in compiled code; PYTHONFAULTHANDLER=1 in the pool's env shows where",
    signal.SIGBUS: "a crash in compiled code, or a full disk under a mapped file",
    signal.SIGABRT: "a library gave up",
    signal.SIGILL: "a package was built for another processor",
    signal.SIGXCPU: "its limit of CPU time was reached",
    signal.SIGTERM: "somebody outside the gateway asked it to stop",
    signal.SIGINT: "somebody outside the gateway interrupted it",
}
_CODES: Final = {
    0: "it stopped by itself",
    1: "an error, see its last lines",
    2: "it did not understand its command line",
    127: "its command was not found",
}


def signal_name(code: int) -> str | None:
    """`SIGKILL` for -9, as `subprocess` counts; None when it was no signal."""
    if code >= 0:
        return None
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def describe_exit(code: int) -> str:
    """`killed by SIGKILL (...)` or `exit status 1 (...)`: how it ended, and what that mostly means."""
    name = signal_name(code)
    if name is None:
        meaning = _CODES.get(code)
        return f"exit status {code}" + (f" ({meaning})" if meaning else "")
    known = _MEANING.get(signal.Signals(-code)) if not name.startswith("signal ") else None
    return f"killed by {name}" + (f" ({known})" if known else "")
