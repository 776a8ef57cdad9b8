"""Sizes and durations as people write them: the unit is in the value.  Pure.

Sizes: SI prefixes are powers of 1000, IEC prefixes of 1024 (IEC 80000-13).  The numbers are exact: `1.5 KiB` is 1536.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

SIZE_UNITS: Final[Mapping[str, int]] = {
    "B": 1,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": KIB,
    "MiB": MIB,
    "GiB": 1024 * MIB,
}
DURATION_UNITS: Final[Mapping[str, Decimal]] = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "min": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
_SIZE_NAMES: Final = {name.lower(): unit for name, unit in SIZE_UNITS.items()} | {"byte": 1, "bytes": 1}
_DURATION_NAMES: Final = {
    **DURATION_UNITS,
    **dict.fromkeys(("millisecond", "milliseconds"), DURATION_UNITS["ms"]),
    **dict.fromkeys(("sec", "second", "seconds"), DURATION_UNITS["s"]),
    **dict.fromkeys(("m", "minute", "minutes"), DURATION_UNITS["min"]),
    **dict.fromkeys(("hour", "hours"), DURATION_UNITS["h"]),
    **dict.fromkeys(("day", "days"), DURATION_UNITS["d"]),
}
_NUMBER_UNIT: Final = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)\s*\Z", re.ASCII)


def parse_size(text: str) -> int:
    """Bytes in `64 KiB`, `20 MB` or `0`.  A bare number other than 0 has no unit and is refused.

    Raises:
        ValueError: the message says what was expected.
    """
    known = ", ".join(SIZE_UNITS)
    number, unit = _number_and_unit(text, _SIZE_NAMES, f'a size with its unit ({known}), such as "64 KiB"')
    size = number * unit
    if size != int(size):
        raise ValueError("a whole number of bytes")
    return int(size)


def parse_duration(text: str) -> float:
    """Seconds in `10 s`, `500 ms`, `1.5 min`, `365 days` or `0`.  A bare number other than 0 is refused.

    Raises:
        ValueError: the message says what was expected.
    """
    known = ", ".join(DURATION_UNITS)
    number, unit = _number_and_unit(text, _DURATION_NAMES, f'a duration with its unit ({known}), such as "10 s"')
    return float(number * unit)


def format_size(size: int) -> str:
    """The shortest exact way to write `size` bytes: 65536 is `64 KiB`, 1500 is `1500 B`."""
    for name, unit in sorted(SIZE_UNITS.items(), key=lambda item: -item[1]):
        if size >= unit and size % unit == 0 and (unit % KIB == 0 or unit == 1):
            return f"{size // unit} {name}"
    return f"{size} B"


def format_duration(seconds: float) -> str:
    """The largest unit that writes `seconds` as a whole number: 300 is `5 min`, 0.25 is `250 ms`, 1.5 is `1500 ms`."""
    exact = Decimal(repr(float(seconds)))
    for name, unit in sorted(DURATION_UNITS.items(), key=lambda item: -item[1]):
        if exact and exact % unit == 0:
            return f"{int(exact / unit)} {name}"
    return f"{exact:f} s" if exact else "0 s"


def _number_and_unit(text: str, units: Mapping[str, int | Decimal], expected: str) -> tuple[Decimal, int | Decimal]:
    """The number and the worth of its unit; names of units in any case."""
    match = _NUMBER_UNIT.match(text)
    if match is None:
        raise ValueError(expected)
    number = Decimal(match[1])
    if not match[2] and number == 0:
        return number, 1
    unit = units.get(match[2].lower())
    if unit is None:
        raise ValueError(expected)
    return number, unit
