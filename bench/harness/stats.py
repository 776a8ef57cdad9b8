"""Medians, percentiles and ratios of the figures.  Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed; nearest rank, nan of none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the middle two; nan of none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def spread(values: Sequence[float]) -> float:
    """Largest distance from the median as a share of the median: how far the rounds disagree."""
    centre = median(values)
    if not values or not centre:
        return math.nan
    return max(abs(value - centre) for value in values) / abs(centre)


def ratio(value: float | None, base: float | None) -> float | None:
    """value / base, or None where either is missing or the base is nothing."""
    if value is None or not base or math.isnan(value) or math.isnan(base):
        return None
    return value / base


def rounded(value: float | None, digits: int = 4) -> float | None:
    """`digits` significant digits, for a record that people diff; nan and None become None."""
    if value is None or math.isnan(value):
        return None
    if value == 0 or math.isinf(value):
        return 0.0 if value == 0 else None
    return round(value, digits - 1 - math.floor(math.log10(abs(value))))
