"""What moves the bytes: everything that one gateway process holds, built from a configuration and a roster of workers.

It starts no worker, reads no file of settings and handles no signal: the master does, and sends what is to be done
(`process.Plane`).
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import time
from typing import Any, Final
from urllib.parse import urlsplit

from tornado.httputil import HTTPServerConnectionDelegate

from bokeh_gateway.balance.pool import Worker
from bokeh_gateway.balance.shared import Shared
from bokeh_gateway.bokeh.assets import Assets, AssetsError, find_assets
from bokeh_gateway.config.address import Address
from bokeh_gateway.config.schema import Config, Log, Route
from bokeh_gateway.endpoint.auth_build import Doors, Together, requirement
from bokeh_gateway.endpoint.auth_signed_out import SignedOut
from bokeh_gateway.endpoint.auth_together import Claims, Newest
from bokeh_gateway.endpoint.dispatch import Dispatch, DispatchSettings
from bokeh_gateway.endpoint.embedding import embedding, response_headers
from bokeh_gateway.endpoint.failure import explain
from bokeh_gateway.endpoint.fleet import GOES_ON_ELSEWHERE, Fleet, Roster
from bokeh_gateway.endpoint.reconnect import Reconnect
from bokeh_gateway.endpoint.record import Recorder
from bokeh_gateway.endpoint.rotation import Rotation
from bokeh_gateway.endpoint.router import Mount, Router
from bokeh_gateway.endpoint.static_files import StaticFiles
from bokeh_gateway.endpoint.static_folder import StaticFolder
from bokeh_gateway.http.forwarded import TrustedProxies, public_url
from bokeh_gateway.observe.access_log import AccessLog
from bokeh_gateway.observe.gone_workers import KEPT, LOOK_EVERY, GoneWorkers
from bokeh_gateway.observe.log_writer import LogWriter
from bokeh_gateway.observe.metrics import Metrics
from bokeh_gateway.policy.credentials import cookie_pattern
from bokeh_gateway.policy.limits import SessionRate
from bokeh_gateway.policy.origin import OriginPolicy
from bokeh_gateway.policy.reconnect import ReconnectPolicy
from bokeh_gateway.policy.session import SessionPolicy
from bokeh_gateway.wire.edge import Edge
from bokeh_gateway.wire.listener import Listener
from bokeh_gateway.wire.sweep import Sweep
from bokeh_gateway.wire.tls import Certificates
from bokeh_gateway.wire.tunnel import TunnelSettings

log = logging.getLogger(__name__)

STOP_LIMIT: Final = "[timeouts] drain"
"""Whose time it is when the gateway stops; another setting's when it goes on with other processes."""
_TURNS: Final = 20
"""Of the loop, until all have heard that their connections were cut, and log and metrics of them."""

Place = tuple[bool, Address]
"""TLS or not, and where: what makes a listener the same one after a reload."""


class DataPlane:
    """One process's part of the gateway.

    Args:
        applications: Tornado applications mounted by route path.
        ask_keys: asks the master for the keys of a signer's URL.
        tell_session: tells all processes of a session that was refreshed (`told_session`).
        keys: what it told of them (`told_keys`).
    """

    def __init__(
        self,
        config: Config,
        roster: Roster,
        shared: Shared,
        row: int,
        loop: asyncio.AbstractEventLoop,
        *,
        applications: Mapping[str, HTTPServerConnectionDelegate] | None = None,
        on_found: Callable[[Worker], None] | None = None,
        ask_keys: Callable[[str], None] = lambda _url: None,
        tell_session: Callable[[str, bytes | None], None] = lambda _sid, _sealed: None,
        keys: Mapping[str, Any] | None = None,
    ) -> None:
        """Raises:
        ConfigError: the access log cannot be opened.
        GatewayError: the certificates cannot be used.
        """
        self._loop = loop
        self._config = config
        self._applications = dict(applications or {})
        self.metrics = Metrics()
        self._gone = GoneWorkers(KEPT)
        self._seconds = 0
        self._sweep = Sweep(loop)
        self._listeners: dict[Place, Listener] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._doors: Doors | None = None
        self._shared = shared
        self._tally = shared.tally(row)
        self._together = Together(
            SignedOut(shared.sign_outs, shared.sign_out_count),
            Newest(shared.sign_ins),
            Claims(shared.sign_ins),
            shared.rates(b"wrong passwords"),
            ask_keys,
            tell_session,
        )
        self._door_settings: object = None
        self._keys = keys
        self._certificates = Certificates(config.tls) if config.tls is not None else None
        self._writer = self._open_log(config.log)
        self._recorder = Recorder(self._access_log(), self.metrics)
        self.fleet = Fleet({}, shared, loop, self._sweep, self.metrics, config.timeouts.connect, row)
        self.fleet.on_found = on_found
        self.fleet.apply(roster)
        self._assets = self._find_assets(config)
        self._https = self._https_port(config, ())
        self._edge = self._make_edge(config)
        self._sweep.every(self._each_second)

    # Building.

    @staticmethod
    def _open_log(settings: Log) -> LogWriter | None:
        return None if settings.access == "off" else LogWriter(str(settings.access), warn=log.warning)

    def _access_log(self) -> AccessLog | None:
        return None if self._writer is None else AccessLog(self._writer, self._config.log.format)

    def _find_assets(self, config: Config) -> StaticFiles | None:
        found: list[Assets] = []
        for python in _pythons(config):
            try:
                found.append(find_assets(Path(python) if python else None))
            except AssetsError as error:
                log.warning("static files of %s are asked of the workers: %s", python or sys.executable, error)
        return StaticFiles(*found, cache_dir=config.static.cache_dir) if found else None

    def _make_edge(self, config: Config) -> Edge:
        self._open_doors(config)
        trusted = TrustedProxies([str(network) for network in config.gateway.trusted_proxies])
        limits, timeouts = config.limits, config.timeouts
        folders = {str(route.static): StaticFolder(route.static) for route in config.route if route.static}
        secrets = config.sessions.secrets
        rate = limits.sessions_per_client_per_minute
        self.fleet.token_lifetime = config.sessions.token_expiration
        self.fleet.placement.patience = timeouts.response
        settings = DispatchSettings(
            router=Router(self._mounts(config)),
            fleet=self.fleet,
            origins=OriginPolicy(
                (*config.origins.allow, *config.embed.origins), config.origins.required, self._own_hosts(config)
            ),
            sessions=SessionPolicy(config.sessions.mode, secrets, config.sessions.token_leeway),
            secret=secrets[0] if config.sessions.mode == "signed" else None,
            tunnel=TunnelSettings(
                max_message=limits.max_message,
                ping=timeouts.websocket_ping,
                idle=timeouts.websocket_idle,
                send=timeouts.send,
            ),
            trusted=trusted,
            assets=self._assets,
            folders=folders,
            applications=self._pages(),
            https_port=self._https,
            gate=self._doors.gate if self._doors is not None else None,
            rate=SessionRate(rate, self._shared.rates(b"sessions")) if rate is not None else None,
            embedding=embedding(config),
            reconnect=self._reconnect(config),
            rotation=Rotation(secrets[0]) if config.sessions.mode != "unsigned" and len(secrets) > 1 else None,
            token_warn_size=limits.token_warn_size,
            on_open=self._recorder.opened,
            on_close=self._recorder.closed,
        )
        self._tally.share(limits.connections_per_client is not None)
        hsts = config.tls.hsts if config.tls is not None else None
        return Edge(
            delegate=Dispatch(settings),
            limits=limits,
            timeouts=timeouts,
            trusted=trusted,
            sweep=self._sweep,
            on_done=self._recorder.exchange,
            explain=explain,
            on_bad_head=self._recorder.bad_head,
            on_error=self.metrics.errors.add,
            public=public_url(config.gateway.public_url) if config.gateway.public_url is not None else None,
            hsts=b"Strict-Transport-Security: max-age=%d\r\n" % int(hsts) if hsts else b"",
            tally=self._tally,
        )

    def _mounts(self, config: Config) -> list[Mount]:
        mounts = [_mount(route, config) for route in config.route]
        if not mounts and len(config.pool) == 1:
            (name,) = config.pool
            mounts.append(Mount("", b"", pool=name, label="/", unwanted_cookies=_unwanted_cookies(name, config)))
        mounts += [Mount("", path.rstrip("/").encode(), label=path) for path in self._applications]
        if self._doors is not None:
            mounts += [mount for mount, _ in self._doors.pages]
        return mounts

    def _reconnect(self, config: Config) -> Reconnect | None:
        sessions = config.sessions
        if sessions.reconnect is None:
            return None
        policy = ReconnectPolicy(
            window=sessions.reconnect,
            lifetime=sessions.token_expiration,
            leeway=sessions.token_leeway,
            secrets=sessions.secrets if sessions.mode != "unsigned" else (),
        )
        return Reconnect(policy, self.fleet)

    def _open_doors(self, config: Config) -> None:
        """The sign-in: made anew when [auth] or the routes that it serves have changed."""
        settings = (config.auth, config.route)
        if settings == self._door_settings:
            return
        before, after = self._doors, None
        if config.auth.methods:
            after = Doors(config, self._loop, self._sweep, self._together, before)
            if self._keys is not None:
                after.told_keys(**self._keys)
        self._doors, self._door_settings = after, settings
        if before is not None:
            before.close()

    def _pages(self) -> dict[str, HTTPServerConnectionDelegate]:
        """Tornado applications by the label of the route that they answer for."""
        pages = dict(self._applications)
        if self._doors is not None:
            pages.update((mount.label, page) for mount, page in self._doors.pages)
        return pages

    def _own_hosts(self, config: Config) -> list[str]:
        hosts = [route.host for route in config.route if route.host]
        if config.gateway.public_url is not None:
            hosts.append(urlsplit(config.gateway.public_url).hostname or "")
        if self._certificates is not None:
            hosts += self._certificates.names()
        return [host for host in hosts if host]

    @staticmethod
    def _https_port(config: Config, listeners: Sequence[Listener]) -> int | None:
        if config.tls is None or not config.tls.redirect_http:
            return None
        if config.gateway.public_url is not None and config.gateway.public_url.startswith("https://"):
            return urlsplit(config.gateway.public_url).port or 443
        return next((listener.port for listener in listeners if listener.tls and listener.port), None)

    # Running.

    @property
    def connections(self) -> int:
        """Browsers' connections that are open."""
        return len(self._edge.connections)

    async def start(self, listeners: Sequence[Listener]) -> None:
        """Accepts from now on."""
        self._sweep.start()
        await self._listen(listeners)
        self._warm()

    async def reconfigure(self, config: Config, roster: Roster, listeners: Sequence[Listener]) -> None:
        """What is new counts for new connections.  `listeners`: all of them; those that are not among them close.

        Raises:
            ConfigError: the access log cannot be opened.
            GatewayError: the certificates cannot be used.  Nothing was changed.
        """
        old = self._config
        writer = self._open_log(config.log) if config.log.access != old.log.access else self._writer
        try:
            certificates = self._certificates
            if config.tls is None:
                certificates = None
            elif certificates is None:
                certificates = Certificates(config.tls)
            else:
                certificates.reload(config.tls)
        except BaseException:
            if writer is not None and writer is not self._writer:
                writer.close()
            raise
        self._certificates, self._config = certificates, config
        if writer is not self._writer or config.log != old.log:
            old_writer, self._writer = self._writer, writer
            self._recorder.flush()
            self._recorder.access = self._access_log()
            if old_writer is not None and old_writer is not writer:
                old_writer.close(deadline=0.1)
        self.fleet.apply(roster)
        if _pythons(config) != _pythons(old) or config.static != old.static:
            self._assets = self._find_assets(config)
            self._warm()
        await self._listen(listeners)
        self._edge = self._with_connections(self._make_edge(config))
        self.reopen_logs()

    async def _listen(self, listeners: Sequence[Listener]) -> None:
        places = {(listener.tls, listener.address): listener for listener in listeners}
        for place in self._listeners.keys() - places.keys():
            self._listeners.pop(place).close()
        context = self._certificates.context if self._certificates is not None else None
        fresh = [place for place in places if place not in self._listeners]
        for place in fresh:
            self._listeners[place] = places[place]
        https = self._https_port(self._config, list(self._listeners.values()))
        if https != self._https:
            self._https = https
            self._edge = self._with_connections(self._make_edge(self._config))
        for place, listener in places.items():
            proxied = self._proxied(place)
            if place in fresh or listener.proxied != proxied:
                await self._listeners[place].serve(lambda: self._edge, context if listener.tls else None, proxied)

    def _proxied(self, place: Place) -> str:
        """The setting that makes a PROXY header come first there; "": there is none."""
        tls, address = place
        table = self._config.tls if tls else self._config.gateway
        if table is None or address not in table.proxy_protocol:
            return ""
        return f"[{'tls' if tls else 'gateway'}] proxy_protocol"

    def _with_connections(self, edge: Edge) -> Edge:
        edge.connections = self._edge.connections
        return edge

    def listener(self, place: Place) -> Listener | None:
        """The one that listens there."""
        return self._listeners.get(place)

    def told_keys(self, keys: Mapping[str, Any]) -> None:
        """The master told what a signer publishes: `url`, `document`, `pause`."""
        self._keys = keys
        if self._doors is not None:
            self._doors.told_keys(**keys)

    def told_session(self, sid: str, sealed: bytes | None) -> None:
        """A process refreshed a session of [auth.oidc], or could not."""
        if self._doors is not None and self._doors.oidc is not None:
            self._doors.oidc.told(sid, sealed)

    def reopen_logs(self) -> None:
        """The access log's file, by its name."""
        self._recorder.flush()
        if self._writer is not None:
            self._writer.reopen()

    def snapshot(self) -> dict[str, Any]:
        """The metrics of this process as they are now."""
        self._recorder.flush()
        return self.metrics.snapshot()

    def _each_second(self, now: float) -> None:
        self._recorder.flush()
        if self._writer is not None:
            self._writer.flush()
            self.metrics.log_lines_dropped.set(to=self._writer.dropped)
        self.metrics.connections.set(to=len(self._edge.connections))
        self._seconds += 1
        if self._seconds % LOOK_EVERY == 0:
            self._gone.look([self.metrics], {worker.name for worker in self.fleet.workers()}, now)
        if self._doors is not None:
            self._doors.gate.expire(time())

    def _warm(self) -> None:
        if self._assets is not None:
            task: asyncio.Task[None] = self._loop.create_task(self._assets.warm())
            self._tasks.add(task)
            task.add_done_callback(self._warmed)

    def _warmed(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("static files could not be compressed ahead", exc_info=task.exception())

    # Ending.

    def stop_listening(self) -> None:
        """Nothing new; connections that wait for a request close."""
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()
        for connection in list(self._edge.connections):
            connection.finish_up()

    async def drain(self, limit: float, hurried: asyncio.Future[None], setting: str) -> None:
        """What is under way gets `limit` seconds to end; then WebSockets get a close frame, and what is left is cut."""
        stops = setting == STOP_LIMIT
        self.stop_listening()
        deadline = self._loop.time() + limit
        if self.connections:
            log.warning(
                "draining: %d connections, %d of them WebSockets, have %s = %g s%s",
                self.connections,
                len(self.fleet.tunnels),
                setting,
                limit,
                "; a second signal stops at once" if stops else "",
            )
        while self.connections and self._loop.time() < deadline and not hurried.done():
            await asyncio.wait([hurried], timeout=0.05)
        for tunnel in list(self.fleet.tunnels):
            if stops:
                tunnel.end(1001, "the gateway stops")
            else:
                tunnel.end(GOES_ON_ELSEWHERE, "a reload or upgrade has replaced this gateway process")
        deadline = self._loop.time() + 1.0
        while self.connections and self._loop.time() < deadline and not hurried.done():
            await asyncio.wait([hurried], timeout=0.01)
        for connection in list(self._edge.connections):
            connection.cut()
        for _ in range(_TURNS):
            if not self.connections:
                break
            await asyncio.sleep(0)

    def close(self) -> None:
        """Cuts what is left and lets go of everything."""
        for task in self._tasks:
            task.cancel()
        self._sweep.stop()
        self.fleet.close()
        for connection in list(self._edge.connections):
            connection.transport.abort()
        for listener in self._listeners.values():
            listener.close()
        if self._doors is not None:
            self._doors.close()
        self._recorder.flush()
        if self._writer is not None:
            self._writer.close()


def _pythons(config: Config) -> list[Path | str | None]:
    """Interpreters whose packages' assets are served."""
    if not config.static.bokeh:
        return []
    pools = [pool for pool in config.pool.values() if pool.kind == "bokeh"]
    return sorted({pool.python or config.static.python for pool in pools}, key=str)


def _mount(route: Route, config: Config) -> Mount:
    return Mount(
        route.host or "",
        route.path.rstrip("/").encode(),
        pool=route.pool or "",
        folder=str(route.static) if route.static else "",
        redirect=route.redirect or "",
        strip=route.strip_prefix,
        headers=response_headers(config, route),
        label=f"{route.host or ''}{route.path}",
        unwanted_cookies=_unwanted_cookies(route.pool, config),
        auth=requirement(route, config),
    )


def _unwanted_cookies(pool: str | None, config: Config) -> re.Pattern[bytes] | None:
    settings = config.pool.get(pool or "")
    return cookie_pattern(settings.strip_cookies) if settings is not None else None
