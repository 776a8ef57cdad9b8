"""What a run of load gives back, whatever it was made of."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Load:
    """Units done, the time from the first to the last, each one's latency in ns, and what went wrong how often."""

    units: int = 0
    seconds: float = 0.0
    latencies_ns: list[int] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    extra: dict[str, float] = field(default_factory=dict)
    """What only one bench knows of, by name."""

    @property
    def per_second(self) -> float:
        """Units a second of wall clock."""
        return self.units / self.seconds if self.seconds else 0.0
