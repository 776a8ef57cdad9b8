"""Which workers a name server's answer adds and takes away.  Pure.

A worker is named by its address, so that every gateway that asks the same name finds the same keys for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from bokeh_gateway.config.address import Address
from bokeh_gateway.config.schema import ServerAddress
from bokeh_gateway.config.server_name import ServerName

TTL_LEAST: Final = 1.0
TTL_MOST: Final = 60.0
"""Seconds, whatever the answer says: 0 would ask without a pause, a day would miss every deploy."""
RETRY_MOST: Final = 30.0


class NotResolved(Exception):
    """No usable answer; the message says why, in one line."""


class Found(NamedTuple):
    """One server that an answer names."""

    host: str
    """An IP address."""
    port: int
    weight: int = 1
    backup: bool = False
    """Of a lower priority than the best."""


class Change(NamedTuple):
    """What to do so that the workers are those of the answer."""

    add: tuple[Found, ...]
    drain: tuple[Found, ...]
    """Sessions there may end by themselves."""


def changes(present: Collection[Found], answer: Iterable[Found]) -> Change:
    """By address: a weight that changed alone adds and drains nothing."""
    wanted = {(found.host, found.port): found for found in answer}
    known = {(found.host, found.port): found for found in present}
    return Change(
        tuple(sorted(found for place, found in wanted.items() if place not in known)),
        tuple(sorted(found for place, found in known.items() if place not in wanted)),
    )


def bounded_ttl(ttl: float) -> float:
    """Seconds until the name is asked again."""
    return min(max(ttl, TTL_LEAST), TTL_MOST)


def retry_after(failures: int) -> float:
    """Seconds until it is asked again after it could not be answered `failures` times in a row."""
    return min(TTL_LEAST * float(2 ** min(failures, 10)), RETRY_MOST)


def by_priority(records: Iterable[tuple[int, Found]]) -> list[Found]:
    """SRV records with their priorities: the lowest is in use, the others are backups (RFC 2782)."""
    listed = list(records)
    best = min((priority for priority, _ in listed), default=0)
    return [found._replace(backup=priority > best, weight=max(found.weight, 1)) for priority, found in listed]


def resolved(servers: Iterable[ServerAddress], answers: Mapping[ServerName, Sequence[Found]]) -> list[ServerAddress]:
    """The servers with each name replaced by those that it stands for.

    In one order on every host; what is listed first wins where two stand for one address.
    """
    members: dict[Address, ServerAddress] = {}
    for server in servers:
        for member in _members(server, answers):
            if isinstance(member.address, Address):
                members.setdefault(member.address, member)
    return list(members.values())


def _members(server: ServerAddress, answers: Mapping[ServerName, Sequence[Found]]) -> Iterator[ServerAddress]:
    if isinstance(server.address, Address):
        yield server
        return
    for found in sorted(answers.get(server.address, ())):
        change = {
            "address": Address(found.host, found.port),
            "weight": server.weight * found.weight,
            "backup": server.backup or found.backup,
        }
        yield server.model_copy(update=change)
