"""When a worker is to be replaced by a fresh one, and how many workers a pool should have.  Pure.

Bokeh keeps a part of what ended sessions used, so a worker's memory grows with the pages that it served; replacing it
while its sessions end by themselves costs nobody anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final

from bokeh_gateway.units import format_duration

SPREAD: Final = 0.1
"""Share of `max_age` by which workers that started together are replaced apart."""
SPARE: Final = 0.5
"""Share of `load_factor` below which one worker fewer would do: the gap keeps the number from flapping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecycleSettings:
    """Of one pool; None: no limit."""

    max_rss: int | None = None
    """Bytes of memory, with the worker's children."""
    max_age: float | None = None
    """Seconds since its start."""
    max_served: int | None = None
    """Pages that made a session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """A worker so far."""

    rss: int = 0
    age: float = 0.0
    served: int = 0


def worn_out(life: Life, settings: RecycleSettings, share: float = 1.0) -> str | None:
    """Why the worker is to be replaced, naming the setting; None: it is not.

    `share`, 1.0 at most, shortens its `max_age`, so that workers that started together are not all replaced together.
    """
    if settings.max_rss is not None and life.rss > settings.max_rss:
        return f"{life.rss / 1e6:.0f} MB of memory, max_rss = {settings.max_rss / 1e6:g} MB"
    if settings.max_age is not None and life.age > settings.max_age * share:
        return f"{format_duration(round(life.age))} old, max_age = {format_duration(settings.max_age)}"
    if settings.max_served is not None and life.served >= settings.max_served:
        return f"served {life.served} pages, max_served = {settings.max_served}"
    return None


def share_of(seed: int) -> float:
    """The share of `max_age` that a worker gets; `seed` is random, but always the same for one worker."""
    return 1.0 - SPREAD * (seed % 1024) / 1024


def workers_wanted(sessions: int, workers: int, load_factor: float, least: int, most: int) -> int:
    """How many workers a pool of `workers` with `sessions` in all should have.

    More as soon as they have more than `load_factor` sessions each; one fewer at a time, when the others would then
    have less than half of that.
    """
    needed = ceil(sessions / load_factor)
    if needed > workers:
        return min(needed, most)
    if workers > least and sessions < (workers - 1) * load_factor * SPARE:
        return max(workers - 1, least)
    if workers > least and not sessions:
        return max(workers - 1, least)
    return max(least, min(workers, most))
