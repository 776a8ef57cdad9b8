"""Waiting for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

GENEROUS = 40.0
"""Seconds that anything which will happen may take on two busy cores."""


def wait_until(condition: Callable[[], T], what: str, within: float = GENEROUS, every: float = 0.02) -> T:
    """The first true value of `condition()`; AssertionError naming `what` when it stays false for `within` seconds."""
    deadline = time.monotonic() + within
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what}")
        time.sleep(every)
    return value
