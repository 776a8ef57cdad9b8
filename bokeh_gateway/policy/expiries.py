"""Open WebSockets and when the credential that opened them ends.  Pure: `now` is passed in; any object is a tunnel.

A newer credential of the same subject, seen on any request, moves the end of all his WebSockets.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


@dataclass(slots=True)
class _Subject(Generic[T]):
    expires: float
    tunnels: set[T] = field(default_factory=set)


class Expiries(Generic[T]):
    """Which WebSockets must end now.  Holds no more than what is open."""

    __slots__ = ("_next", "_subjects")

    def __init__(self) -> None:
        self._subjects: dict[str, _Subject[T]] = {}
        self._next = float("inf")

    def opened(self, tunnel: T, subject: str, expires: float) -> None:
        """A WebSocket opened by a credential that ends at `expires`, seconds of the epoch."""
        entry = self._subjects.get(subject)
        if entry is None:
            entry = self._subjects[subject] = _Subject(expires)
        entry.tunnels.add(tunnel)
        self._renew(entry, expires)
        self._next = min(self._next, entry.expires)

    def closed(self, tunnel: T, subject: str) -> None:
        """It ended by itself."""
        entry = self._subjects.get(subject)
        if entry is not None:
            entry.tunnels.discard(tunnel)
            if not entry.tunnels:
                del self._subjects[subject]

    def seen(self, subject: str, expires: float) -> None:
        """A request came with a credential of this subject."""
        entry = self._subjects.get(subject)
        if entry is not None:
            self._renew(entry, expires)

    def due(self, now: float, newest: Callable[[str], float] = lambda _subject: 0.0) -> list[T]:
        """The WebSockets whose credentials have ended, each once.

        `newest`: when the newest credential of a subject ends that was seen elsewhere.
        """
        if now < self._next:
            return []
        ended = []
        for subject, entry in self._subjects.items():
            if entry.expires <= now:
                self._renew(entry, newest(subject))
                if entry.expires <= now:
                    ended.append(subject)
        tunnels = [tunnel for subject in ended for tunnel in self._subjects.pop(subject).tunnels]
        self._next = min((entry.expires for entry in self._subjects.values()), default=float("inf"))
        return tunnels

    def subjects(self) -> list[str]:
        """Who has a WebSocket open."""
        return list(self._subjects)

    def signed_out(self, subject: str) -> list[T]:
        """The WebSockets of somebody who signed out."""
        entry = self._subjects.pop(subject, None)
        return list(entry.tunnels) if entry is not None else []

    @staticmethod
    def _renew(entry: _Subject[T], expires: float) -> None:
        entry.expires = max(entry.expires, expires)
