"""Follows a name in the DNS: `dns+a://bokeh-workers:5006`, `dns+srv://_bokeh._tcp.workers`.

Asked again when the time to live has passed.  An answer that fails, or names nobody, changes nothing: a name server
that is away must not take the workers with it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Sequence

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.rdatatype
import dns.resolver

from bokeh_gateway.balance.dns_set import TTL_MOST, Found, NotResolved, bounded_ttl, by_priority, retry_after
from bokeh_gateway.config.address import Address
from bokeh_gateway.config.server_name import ServerName

log = logging.getLogger(__name__)

LIFETIME = 5.0
"""Seconds for one question, tries at several servers included."""


def make_resolver(servers: Sequence[Address] = ()) -> dns.asyncresolver.Resolver:
    """Asks `servers`; without any, those of the system, with its search list: `bokeh-workers` alone is a name there.

    Raises:
        NotResolved: the system names no server.
    """
    try:
        resolver = dns.asyncresolver.Resolver(configure=not servers)
    except dns.resolver.NoResolverConfiguration as error:
        raise NotResolved(str(error)) from error
    if servers:
        resolver.nameservers = [dns.nameserver.Do53Nameserver(one.host, one.port) for one in servers]
    resolver.use_search_by_default = True
    resolver.lifetime = LIFETIME
    resolver.cache = None
    return resolver


async def look_up(name: ServerName, resolver: dns.asyncresolver.Resolver) -> tuple[list[Found], float]:
    """The servers that the name stands for, and the time to live in seconds.

    Raises:
        NotResolved: no usable answer.
    """
    try:
        if name.kind == "srv":
            return await _srv(name.name, resolver)
        hosts, ttl = await _addresses(name.name, resolver)
    except (dns.exception.DNSException, OSError) as error:
        raise NotResolved(" ".join(str(error).split()) or type(error).__name__) from error
    return [Found(host, name.port) for host in hosts], ttl


async def _srv(name: str, resolver: dns.asyncresolver.Resolver) -> tuple[list[Found], float]:
    answer = await resolver.resolve(name, dns.rdatatype.SRV)
    ttl = _ttl(answer)
    records: list[tuple[int, Found]] = []
    for record in answer:
        hosts, lifetime = await _addresses(record.target.to_text(), resolver)
        ttl = min(ttl, lifetime)
        records += [(record.priority, Found(host, record.port, record.weight)) for host in hosts]
    return by_priority(records), ttl


async def _addresses(name: str, resolver: dns.asyncresolver.Resolver) -> tuple[list[str], float]:
    """A records; AAAA records where there are none."""
    try:
        answer = await resolver.resolve(name, dns.rdatatype.A)
    except dns.resolver.NoAnswer:
        answer = await resolver.resolve(name, dns.rdatatype.AAAA)
    return [str(ipaddress.ip_address(record.address)) for record in answer], _ttl(answer)


def _ttl(answer: dns.resolver.Answer) -> float:
    return 0.0 if answer.rrset is None else float(answer.rrset.ttl)


class NameWatch:
    """One name, asked again and again.

    Args:
        on_answer: called in the loop with every answer that names somebody.
    """

    def __init__(
        self, name: ServerName, resolver: dns.asyncresolver.Resolver, on_answer: Callable[[Sequence[Found]], None]
    ) -> None:
        self._name = name
        self._resolver = resolver
        self._on_answer = on_answer
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self.asked = asyncio.Event()
        """Set when the first question was answered, or could not be."""

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name=str(self._name))

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while True:
            pause = await self._once()
            self.asked.set()
            await asyncio.sleep(pause)

    async def _once(self) -> float:
        """Asks once; seconds until the next time."""
        try:
            found, ttl = await look_up(self._name, self._resolver)
        except NotResolved as error:
            self._failures += 1
            if self._failures == 1:
                log.warning("%s: %s; the workers stay as they are", self._name, error)
            return retry_after(self._failures)
        if not found:
            log.warning("%s: the answer names nobody; the workers stay as they are", self._name)
            return min(bounded_ttl(ttl), TTL_MOST)
        if self._failures:
            log.warning("%s: answered again after %d failures", self._name, self._failures)
        self._failures = 0
        self._on_answer(found)
        return bounded_ttl(ttl)
