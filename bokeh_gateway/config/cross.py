"""Rules that join several keys or tables.  Pure.

They run on whatever was understood, so that one mistyped value does not hide what else is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bokeh_gateway.config.address import Address
from bokeh_gateway.config.auth import Auth
from bokeh_gateway.config.cross_auth import auth_mistakes, embeds, route_mistakes, ticket_mistakes
from bokeh_gateway.config.mistake import KeyMistake, Path, closest, key_text, mistake
from bokeh_gateway.config.schema import Gateway, Metrics, Pool, Route, Sessions, Timeouts, Tls
from bokeh_gateway.config.server_name import ServerName
from bokeh_gateway.errors import ConfigError
from bokeh_gateway.units import format_duration

POOL_NAME: Final = re.compile(r"[A-Za-z0-9_-]+\Z")
TARGETS: Final = ("pool", "static", "redirect")
MOST_WORKERS: Final = 64
NUMBERS: Final = ("min_workers", "max_workers")
ONLY_WITH_SERVE: Final = (
    *("command", "workers", "args", "env", "cwd", "start_timeout"),
    *("max_rss", "max_age", "max_served", *NUMBERS, "load_factor"),
)


@dataclass(slots=True)
class Parts:
    """What was understood of a file.  A table that was not is None, or missing from its mapping."""

    data: Mapping[str, Any]
    """The whole file as it was written."""
    gateway: Gateway | None = None
    tls: Tls | None = None
    sessions: Sessions | None = None
    timeouts: Timeouts | None = None
    metrics: Metrics | None = None
    auth: Auth | None = None
    pools: dict[str, Pool] = field(default_factory=dict)
    routes: dict[int, Route] = field(default_factory=dict)

    def raw(self, name: str, kind: type) -> Any:
        """A table as written; empty when it is absent or is no table at all."""
        value = self.data.get(name)
        return value if isinstance(value, kind) else kind()


def cross_check(parts: Parts) -> list[ConfigError]:
    """Every mistake that no single value shows."""
    rules = (
        _pools,
        _routes,
        _same_route_twice,
        _default_route,
        _listeners,
        _proxied,
        _loops,
        _tls,
        _sessions,
        _timeouts,
        _auth,
    )
    return [found for rule in rules for found in rule(parts)]


def _pools(parts: Parts) -> Iterator[ConfigError]:
    """Names, and exactly one of servers and serve; on the file as written."""
    for name, table in parts.raw("pool", dict).items():
        if not POOL_NAME.match(name):
            yield KeyMistake(f'pool."{name}"', "a pool name of letters, digits, _ and -")
        if isinstance(table, dict):
            yield from _pool(("pool", name), table)
    for name, pool in parts.pools.items():
        yield from _same_server_twice(name, pool)
        yield from _health(name, pool)
        yield from _scaling(name, pool)


def _pool(path: Path, table: Mapping[str, Any]) -> Iterator[ConfigError]:
    has_servers, has_serve = bool(table.get("servers")), bool(table.get("serve"))
    if has_servers == has_serve:
        what = "one of them, not both" if has_servers else "what answers"
        yield KeyMistake(key_text(path), f"either servers or serve, {what}")
    if table.get("kind") == "http" and table.get("strip_cookies"):
        yield KeyMistake(key_text((*path, "strip_cookies")), 'kind "bokeh": elsewhere no token repeats cookies')
    if table.get("kind") == "http" and has_serve:
        yield KeyMistake(key_text((*path, "serve")), 'servers in a pool of kind "http"; only Bokeh workers can be run')
    if has_servers and not has_serve:
        for key in ONLY_WITH_SERVE:
            if key in table:
                yield KeyMistake(
                    key_text((*path, key)), "to stand beside serve: it is for workers that the gateway runs"
                )


def _health(name: str, pool: Pool) -> Iterator[ConfigError]:
    health = pool.health
    if health.max_lag >= health.timeout:
        expected = f"less than timeout = {format_duration(health.timeout)}, or a blocked worker would be taken for dead"
        yield mistake(("pool", name, "health", "max_lag"), format_duration(health.max_lag), expected)
    if pool.servers and all(server.backup for server in pool.servers):
        yield KeyMistake(f"pool.{name}.servers", "one server at least that is no backup")


def _scaling(name: str, pool: Pool) -> Iterator[ConfigError]:
    """min_workers <= workers <= max_workers, and something that decides between them."""
    path: Path = ("pool", name)
    for key in NUMBERS:
        number = getattr(pool, key)
        if number is not None and pool.load_factor is None:
            yield KeyMistake(key_text((*path, key)), "to stand beside load_factor, which decides how many there are")
        if number is not None and number > MOST_WORKERS:
            yield mistake((*path, key), number, f"{MOST_WORKERS} or less")
    if pool.fewest > pool.most:
        yield KeyMistake(key_text((*path, "max_workers")), f"{pool.fewest} or more, the fewest that there are to be")
    elif "workers" in pool.model_fields_set and not pool.fewest <= pool.workers <= pool.most:
        yield mistake(
            (*path, "workers"), pool.workers, f"from min_workers = {pool.fewest} to max_workers = {pool.most}"
        )
    elif pool.load_factor is not None and pool.fewest == pool.most:
        yield KeyMistake(key_text((*path, "load_factor")), "min_workers and max_workers that differ")


def _same_server_twice(name: str, pool: Pool) -> Iterator[ConfigError]:
    seen: dict[Address | ServerName, int] = {}
    for index, server in enumerate(pool.servers):
        first = seen.setdefault(server.address, index)
        if first != index:
            path = ("pool", name, "servers", index)
            yield mistake(
                path, str(server), f"another server than servers[{first}]; weight = 2 gives one more sessions"
            )


def _routes(parts: Parts) -> Iterator[ConfigError]:
    """Exactly one target; the pool exists; on the file as written."""
    names = list(parts.raw("pool", dict))
    for index, table in enumerate(parts.raw("route", list)):
        if not isinstance(table, dict):
            continue
        path: Path = ("route", index)
        targets = [key for key in TARGETS if key in table]
        if len(targets) != 1:
            found = f", not {' and '.join(targets)}" if targets else ""
            yield KeyMistake(key_text(path), f"exactly one of pool, static and redirect{found}")
        pool = table.get("pool")
        if isinstance(pool, str) and pool not in names:
            known = f"the name of a pool ({', '.join(names) or 'there is none'})"
            yield mistake((*path, "pool"), pool, known + closest(pool, names))
        if table.get("strip_prefix") and "pool" not in table:
            yield KeyMistake(key_text((*path, "strip_prefix")), "to stand beside pool")


def _same_route_twice(parts: Parts) -> Iterator[ConfigError]:
    seen: dict[tuple[str | None, str], int] = {}
    for index, route in parts.routes.items():
        first = seen.setdefault((route.host, route.path), index)
        if first != index:
            host = f" on {route.host}" if route.host else ""
            yield mistake(("route", index, "path"), route.path, f"another host or path than route[{first}]{host} has")


def _default_route(parts: Parts) -> Iterator[ConfigError]:
    if parts.raw("route", list):
        return
    names = list(parts.raw("pool", dict))
    if not names:
        yield KeyMistake(
            "pool", 'a table such as [pool.apps] with servers = ["127.0.0.1:5006"], or with serve = ["app.py"]'
        )
    if len(names) > 1:
        yield KeyMistake("route", f"a [[route]] for each pool, as there are several: {', '.join(names)}")


def _listeners(parts: Parts) -> Iterator[ConfigError]:
    """There is one, and none is named twice."""
    seen: dict[Address, str] = {}
    for path, address in _listens(parts):
        if not address.unix and not address.port:
            continue
        first = seen.setdefault(address, key_text(path))
        if first != key_text(path):
            yield mistake(path, str(address), f"another address than {first}")
    if parts.gateway and not parts.gateway.listen and not parts.raw("tls", dict):
        yield KeyMistake("gateway.listen", 'an address to listen on, such as "127.0.0.1:8080"')


def _listens(parts: Parts) -> Iterator[tuple[Path, Address]]:
    for name, table in (("gateway", parts.gateway), ("tls", parts.tls), ("metrics", parts.metrics)):
        for index, address in enumerate(table.listen if table else ()):
            yield (name, "listen", index), address


def _proxied(parts: Parts) -> Iterator[ConfigError]:
    """The PROXY protocol where there is a listener, and somebody to believe."""
    for name, table in (("gateway", parts.gateway), ("tls", parts.tls)):
        for index, address in enumerate(table.proxy_protocol if table else ()):
            if table and address not in table.listen:
                yield mistake((name, "proxy_protocol", index), str(address), f"one of {name}.listen")
            elif parts.gateway and not parts.gateway.trusted_proxies:
                expected = "the load balancers' addresses: without them nobody's PROXY header is believed"
                yield KeyMistake("gateway.trusted_proxies", f"{expected} ({name}.proxy_protocol)")


def _loops(parts: Parts) -> Iterator[ConfigError]:
    """A server that is the gateway itself."""
    own = list(_listens(parts))
    for name, pool in parts.pools.items():
        for index, server in enumerate(pool.servers):
            for path, address in own:
                if isinstance(server.address, Address) and server.address.reaches(address):
                    expected = (
                        f"a worker's address: {key_text(path)} is the gateway itself, requests would go in a circle"
                    )
                    yield mistake(("pool", name, "servers", index), str(server), expected)


def _tls(parts: Parts) -> Iterator[ConfigError]:
    if parts.tls and not parts.tls.listen:
        yield KeyMistake("tls.listen", 'where TLS is accepted, such as ["0.0.0.0:443"]')


def _sessions(parts: Parts) -> Iterator[ConfigError]:
    sessions = parts.sessions
    if sessions is None:
        return
    if sessions.mode != "unsigned" and sessions.secret_key is None:
        yield KeyMistake(
            "sessions.secret_key",
            f'the workers\' secret key, here or in BOKEH_SECRET_KEY, as mode is "{sessions.mode}"',
        )
    if sessions.token_expiration != int(sessions.token_expiration):
        expected = "whole seconds, as `bokeh serve --session-token-expiration`"
        yield mistake(("sessions", "token_expiration"), format_duration(sessions.token_expiration), expected)


def _timeouts(parts: Parts) -> Iterator[ConfigError]:
    timeouts = parts.timeouts
    if timeouts and timeouts.websocket_ping >= timeouts.websocket_idle:
        expected = (
            f"less than websocket_idle = {format_duration(timeouts.websocket_idle)}, or quiet tabs would be closed"
        )
        yield mistake(("timeouts", "websocket_ping"), format_duration(timeouts.websocket_ping), expected)


def _auth(parts: Parts) -> Iterator[ConfigError]:
    if parts.auth:
        yield from auth_mistakes(parts.auth)
        if embeds(parts.raw("embed", dict)) and parts.gateway and parts.sessions and parts.gateway.processes != 1:
            yield from ticket_mistakes(parts.auth, parts.sessions)
        for index, route in parts.routes.items():
            yield from route_mistakes(("route", index), route, parts.auth)
