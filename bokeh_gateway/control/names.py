"""The names that pools follow in the DNS, and what each of them stands for now.

The master asks; gateway processes get the workers in their roster and know of no names.  What asks is imported late:
who follows no name shall not pay for it at every start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from bokeh_gateway.balance.dns_set import Found, NotResolved, changes
from bokeh_gateway.config.address import Address
from bokeh_gateway.config.check import connect_problem
from bokeh_gateway.config.schema import Config
from bokeh_gateway.config.server_name import ServerName
from bokeh_gateway.errors import ConfigError

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

    from bokeh_gateway.control.name_watch import NameWatch

log = logging.getLogger(__name__)

PATIENCE: Final = 8.0
"""Seconds that a start waits for the first answers; a name server that is away must not keep other pools down."""
Answers = dict[ServerName, tuple[Found, ...]]
Kept = tuple[str, str, int, list[tuple[str, int, int, bool]]]
"""A name and what it stands for, in plain values."""


class Names:
    """All names of a configuration.

    Args:
        changed: called in the loop with every answer, also one that says the same.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self.found: Answers = {}
        """What each name stands for; a name that was never answered is missing."""
        self._watches: dict[ServerName, NameWatch] = {}
        self._resolver: tuple[Address, ...] | None = None

    def follow(self, config: Config) -> None:
        """Asks for the names of `config`, and no longer for any other.

        Raises:
            ConfigError: there is nobody to ask.
        """
        wanted = {name for _, name in names_of(config)}
        if config.gateway.resolver != self._resolver:
            self.close()
        for name in self._watches.keys() - wanted:
            self._watches.pop(name).close()
        for name in self.found.keys() - wanted:
            del self.found[name]
        self._resolver = config.gateway.resolver
        for name in wanted - self._watches.keys():
            from bokeh_gateway.control.name_watch import NameWatch

            watch = self._watches[name] = NameWatch(name, _resolver(config), self._taking(name))
            watch.start()

    async def settle(self) -> None:
        """Returns when every name that stands for nobody yet was asked for once, or `PATIENCE` has passed."""
        waiting = [asyncio.ensure_future(w.asked.wait()) for name, w in self._watches.items() if name not in self.found]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=PATIENCE)
            for task in late:
                task.cancel()

    async def look_up_new(self, config: Config) -> None:
        """What names stand for that `config` brings.

        Raises:
            ConfigError: one of them cannot be resolved.
        """
        listed = list(names_of(config))
        if not listed:
            return
        from bokeh_gateway.control.name_watch import look_up

        resolver = _resolver(config)
        new = [(key, name) for key, name in listed if name not in self._watches]
        answers = await asyncio.gather(*(look_up(name, resolver) for _, name in new), return_exceptions=True)
        for (key, name), answer in zip(new, answers, strict=True):
            if isinstance(answer, NotResolved):
                raise ConfigError(key, str(name), f"a name that can be resolved: {answer}")
            if isinstance(answer, BaseException):
                raise answer
            self.found[name] = tuple(answer[0])

    def state(self) -> list[Kept]:
        """In plain values, for the program after an upgrade."""
        return [(n.kind, n.name, n.port, [(*one,) for one in found]) for n, found in self.found.items()]

    def restore(self, state: Sequence[Kept]) -> None:
        """What the program before an upgrade had found, so that a name server that is away changes nothing."""
        for kind, name, port, found in state:
            self.found[ServerName(kind, name, port)] = tuple(Found(*one) for one in found)

    def close(self) -> None:
        """Asks no more."""
        for watch in self._watches.values():
            watch.close()
        self._watches.clear()

    def _taking(self, name: ServerName) -> Callable[[Sequence[Found]], None]:
        def take(answer: Sequence[Found]) -> None:
            change = changes(self.found.get(name, ()), answer)
            if change.add or change.drain:
                log.warning("%s: %s", name, _words(change.add, change.drain))
            self.found[name] = tuple(answer)
            self._changed()

        return take


def names_of(config: Config) -> Iterator[tuple[str, ServerName]]:
    """Every name in the pools, with its key."""
    for pool, settings in config.pool.items():
        for index, server in enumerate(settings.servers):
            if isinstance(server.address, ServerName):
                yield f"pool.{pool}.servers[{index}]", server.address


async def name_problems(config: Config) -> list[str]:
    """Names that cannot be resolved now, and servers behind them that cannot be reached; one sentence each."""
    listed = list(names_of(config))
    if not listed:
        return []
    try:
        resolver = _resolver(config)
    except ConfigError as error:
        return [str(error)]
    found = await asyncio.gather(*(_problems_of(key, name, resolver) for key, name in listed))
    return [line for lines in found for line in lines]


async def _problems_of(key: str, name: ServerName, resolver: Resolver) -> list[str]:
    from bokeh_gateway.control.name_watch import look_up

    try:
        found, _ = await look_up(name, resolver)
    except NotResolved as error:
        return [f"{key}: {name} cannot be resolved now: {error}"]
    addresses = [Address(one.host, one.port) for one in found]
    reasons = await asyncio.gather(*(asyncio.to_thread(connect_problem, address) for address in addresses))
    pairs = zip(addresses, reasons, strict=True)
    return [f"{key}: {name}: {address} cannot be reached now: {reason}" for address, reason in pairs if reason]


def _resolver(config: Config) -> Resolver:
    from bokeh_gateway.control.name_watch import make_resolver

    try:
        return make_resolver(config.gateway.resolver)
    except NotResolved as error:
        raise ConfigError("gateway.resolver", "...", f"a name server, as the system has none: {error}") from error


def _words(add: Sequence[Found], drain: Sequence[Found]) -> str:
    def listed(members: Sequence[Found]) -> str:
        return ", ".join(str(Address(one.host, one.port)) for one in members)

    parts = [f"new: {listed(add)}"] if add else []
    parts += [f"gone: {listed(drain)}; sessions there may end ([timeouts] reload_linger)"] if drain else []
    return "; ".join(parts)
