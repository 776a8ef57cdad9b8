"""Browsers that wait for a session where every worker has as many as it may: first come, first served.  Pure.

A browser waits by asking again; the ticket that it shows keeps its place.  One that does not ask for `LOST` seconds
has gone away.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from typing import Final, NamedTuple

LOST: Final = 20.0
"""Seconds after which a browser that asks every five has gone."""


class Ticket(NamedTuple):
    """A place: those who joined earlier are served earlier."""

    joined: float
    """Seconds, the loop's clock, which all processes of a machine share."""
    name: str
    """Tells two of the same moment apart; random, 16 hexadecimal digits."""


@dataclass(slots=True)
class SessionQueue:
    """Of one pool."""

    size: int
    timeout: float
    """Seconds for which a ticket is good."""
    seen: dict[Ticket, float] = field(default_factory=dict)
    """When the holder of each ticket asked last."""
    _tickets: list[Ticket] = field(init=False)
    """In order."""

    def __post_init__(self) -> None:
        self._tickets = sorted(self.seen)

    def __len__(self) -> int:
        return len(self._tickets)

    def expired(self, ticket: Ticket, now: float) -> bool:
        """Whether its holder has to join anew."""
        return not 0.0 <= now - ticket.joined < self.timeout

    def ask(self, ticket: Ticket, room: int, now: float) -> int | None:
        """0: a session is free for the holder of `ticket`; else its place, from 1; None: the queue is full.

        `room`: sessions that are free now.  The ticket may be one that another gateway process gave.
        """
        self.expire(now)
        if ticket not in self.seen:
            if len(self._tickets) >= self.size and room <= len(self._tickets):
                return None
            insort(self._tickets, ticket)
        self.seen[ticket] = now
        place = self._tickets.index(ticket) + 1
        if place > room:
            return place
        self._remove(ticket)
        return 0

    def expire(self, now: float) -> None:
        """Forgets those who went away, and those whose time is over."""
        gone = [t for t, seen in self.seen.items() if now - seen > LOST or self.expired(t, now)]
        for ticket in gone:
            self._remove(ticket)

    def _remove(self, ticket: Ticket) -> None:
        self._tickets.remove(ticket)
        del self.seen[ticket]
