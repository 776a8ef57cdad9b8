"""For a process with this folder on its PYTHONPATH the time of day is off by the seconds in the file TEST_CLOCK.

The monotonic clock stays what it is, as when somebody sets the machine's clock.
"""

from __future__ import annotations

import datetime as dates
import os
import time
from typing import Any

_FILE = os.environ["TEST_CLOCK"]
_time, _datetime = time.time, dates.datetime


def _shift() -> float:
    with open(_FILE) as file:
        return float(file.read() or 0)


class _Meta(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _datetime)


class _Shifted(_datetime, metaclass=_Meta):
    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return _datetime.now(tz) + dates.timedelta(seconds=_shift())


time.time = lambda: _time() + _shift()
dates.datetime = _Shifted  # type: ignore[misc]
