"""The composition root, the only place that knows every part: builds the gateway, runs it, ends it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import time
from typing import Final
from urllib.parse import urlsplit

from tornado.httputil import HTTPServerConnectionDelegate

from bokeh_gateway.balance.board import Board
from bokeh_gateway.balance.health import Health, Verdict
from bokeh_gateway.balance.pool import Pool, Worker
from bokeh_gateway.bokeh.assets import Assets, AssetsError, find_assets
from bokeh_gateway.config.address import Address
from bokeh_gateway.config.schema import Config, Route
from bokeh_gateway.control.command import Launch, unused_lifetime, worker_command
from bokeh_gateway.control.health_watch import HealthWatch
from bokeh_gateway.control.probe_target import health_settings, probe_target
from bokeh_gateway.control.runtime_dir import RuntimeDir
from bokeh_gateway.control.workers import EventKind, Supervisor, WorkerEvent
from bokeh_gateway.endpoint.auth_build import Doors, requirement
from bokeh_gateway.endpoint.dispatch import Dispatch, DispatchSettings
from bokeh_gateway.endpoint.embedding import embedding, response_headers
from bokeh_gateway.endpoint.failure import explain
from bokeh_gateway.endpoint.fleet import Fleet
from bokeh_gateway.endpoint.metrics_page import metrics_delegate
from bokeh_gateway.endpoint.reconnect import Reconnect
from bokeh_gateway.endpoint.record import Recorder
from bokeh_gateway.endpoint.router import Mount, Router
from bokeh_gateway.endpoint.static_files import StaticFiles
from bokeh_gateway.endpoint.static_folder import StaticFolder
from bokeh_gateway.errors import ConfigError, ConfigErrors, GatewayError
from bokeh_gateway.http.forwarded import TrustedProxies, public_url
from bokeh_gateway.observe.access_log import AccessLog
from bokeh_gateway.observe.log_writer import LogWriter
from bokeh_gateway.observe.metrics import Metrics
from bokeh_gateway.policy.limits import SessionRate
from bokeh_gateway.policy.origin import OriginPolicy
from bokeh_gateway.policy.reconnect import ReconnectPolicy
from bokeh_gateway.policy.session import SessionPolicy
from bokeh_gateway.wire.edge import Edge
from bokeh_gateway.wire.listener import Listener
from bokeh_gateway.wire.sweep import NEVER, Sweep
from bokeh_gateway.wire.tls import Certificates
from bokeh_gateway.wire.tunnel import TunnelSettings

log = logging.getLogger(__name__)

WORKER_GRACE: Final = 10.0
"""Seconds between TERM and KILL for supervised workers."""


class GatewayApp:
    """One running gateway.

    `applications` are Tornado applications mounted by route path, for who embeds the gateway in a program of his own.
    """

    def __init__(
        self,
        config: Config,
        loop: asyncio.AbstractEventLoop,
        *,
        reload_config: Callable[[], Config] | None = None,
        environ: Mapping[str, str] | None = None,
        applications: Mapping[str, HTTPServerConnectionDelegate] | None = None,
    ) -> None:
        """Binds the listening sockets and loads the certificates, so that what is wrong is said before anything runs.

        Raises:
            ConfigErrors: what the configuration names cannot be used.
        """
        self._config = config
        self._loop = loop
        self._reload_config = reload_config
        self._environ = os.environ if environ is None else environ
        self._applications = dict(applications or {})
        self._metrics = Metrics()
        self._sweep = Sweep(loop)
        self._stopping = loop.create_future()
        self._hurried = loop.create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._runtime: RuntimeDir | None = None
        self._supervisors: list[Supervisor] = []
        self._listeners: list[Listener] = []
        self._metrics_listeners: list[Listener] = []
        self._writer: LogWriter | None = None
        self._doors: Doors | None = None
        try:
            self._build()
        except ConfigError as error:
            self._dispose()
            raise ConfigErrors("configuration", [error]) from error
        except GatewayError as error:
            self._dispose()
            raise ConfigErrors("configuration", [ConfigError("tls", "...", str(error))]) from error

    # Building.

    def _build(self) -> None:
        config = self._config
        self._certificates = Certificates(config.tls) if config.tls is not None else None
        self._listeners += [Listener("gateway.listen", address, tls=False) for address in config.gateway.listen]
        if config.tls is not None:
            self._listeners += [Listener("tls.listen", address, tls=True) for address in config.tls.listen]
        self._metrics_listeners = [Listener("metrics.listen", address, tls=False) for address in config.metrics.listen]
        access = config.log.access
        self._writer = None if access == "off" else LogWriter(str(access), warn=log.warning)
        if self._writer is not None:
            self._sweep.every(lambda _now: self._flush_log())
        self._recorder = Recorder(
            None if self._writer is None else AccessLog(self._writer, config.log.format), self._metrics
        )
        pools, supervised = self._pools()
        self._workers = {worker.name: worker for pool in pools.values() for worker in pool.workers}
        self._fleet = Fleet(
            pools,
            Board(max(len(self._workers), 1)),
            self._loop,
            self._sweep,
            self._metrics,
            config.timeouts.connect,
            failures={name: pool.health.failures for name, pool in config.pool.items()},
        )
        self._health = HealthWatch(self._health_changed)
        for worker in self._workers.values():
            self._metrics.worker_up.set(worker.name, to=int(worker.up))
        self._launches = {
            f"{name}/{number}": launch
            for name, launches in supervised.items()
            for number, launch in enumerate(launches, start=1)
        }
        for name, launches in supervised.items():
            self._supervisors.append(Supervisor(name, launches, self._worker_changed, self._say))
        self._sweep.every(self._expire_sign_ins)
        self._assets = self._find_assets()
        self._edge = self._make_edge(config)

    def _pools(self) -> tuple[dict[str, Pool], dict[str, list[Launch]]]:
        config = self._config
        pools: dict[str, Pool] = {}
        supervised: dict[str, list[Launch]] = {}
        index = 0
        for name, settings in config.pool.items():
            workers: list[Worker] = []
            if settings.serve:
                if self._runtime is None:
                    self._runtime = RuntimeDir(config.gateway.runtime_dir)
                launches = [
                    worker_command(
                        settings,
                        config.sessions,
                        config.limits,
                        self._runtime.socket(name, number),
                        environ=self._environ,
                        name=name,
                    )
                    for number in range(1, settings.workers + 1)
                ]
                supervised[name] = launches
                for number, launch in enumerate(launches, start=1):
                    address = Address(unix=launch.socket)
                    workers.append(Worker(f"{name}/{number}", address, index=index, up=False, coming=NEVER))
                    workers[-1].keeps = unused_lifetime(settings)
                    index += 1
            for server in settings.servers:
                # The address is the name: the key in session ids must not change when the list is reordered.
                workers.append(
                    Worker(f"{name}/{server}", server.address, index=index, weight=server.weight, backup=server.backup)
                )
                workers[-1].slow_start = server.slow_start
                if settings.unused_session_lifetime is not None:
                    workers[-1].keeps = settings.unused_session_lifetime
                index += 1
            pools[name] = Pool(
                name,
                settings.kind,
                workers,
                hold=settings.hold,
                max_sessions=settings.max_sessions,
                queue=settings.queue,
                queue_timeout=settings.queue_timeout,
            )
        return pools, supervised

    def _find_assets(self) -> StaticFiles | None:
        config = self._config
        if not config.static.bokeh or not any(pool.kind == "bokeh" for pool in config.pool.values()):
            return None
        pythons = {pool.python or config.static.python for pool in config.pool.values() if pool.kind == "bokeh"}
        found: list[Assets] = []
        for python in sorted(pythons, key=str):
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
        settings = DispatchSettings(
            router=Router(self._mounts(config)),
            fleet=self._fleet,
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
            https_port=self._https_port(config),
            gate=self._doors.gate if self._doors is not None else None,
            rate=SessionRate(rate) if rate is not None else None,
            embedding=embedding(config),
            reconnect=self._reconnect(config),
            token_warn_size=limits.token_warn_size,
            on_open=self._recorder.opened,
            on_close=self._recorder.closed,
        )
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
            public=public_url(config.gateway.public_url) if config.gateway.public_url is not None else None,
            hsts=b"Strict-Transport-Security: max-age=%d\r\n" % int(hsts) if hsts else b"",
        )

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
        return Reconnect(policy, self._fleet)

    def _mounts(self, config: Config) -> list[Mount]:
        mounts = [_mount(route, config) for route in config.route]
        if not mounts and len(config.pool) == 1:
            mounts.append(Mount("", b"", pool=next(iter(config.pool)), label="/"))
        mounts += [Mount("", path.rstrip("/").encode(), label=path) for path in self._applications]
        if self._doors is not None:
            mounts += [mount for mount, _ in self._doors.pages]
        return mounts

    def _open_doors(self, config: Config) -> None:
        """The sign-in: made anew when [auth] or the routes that it serves have changed."""
        if self._doors is not None and (config.auth, config.route) == (self._config.auth, self._config.route):
            return
        before, after = self._doors, None
        if config.auth.methods:
            after = Doors(config, self._loop, self._sweep, before.expiries if before is not None else None)
            after.start()
        self._doors = after
        if before is not None:
            before.close()

    def _expire_sign_ins(self, _now: float) -> None:
        if self._doors is not None:
            self._doors.gate.expire(time())

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

    def _https_port(self, config: Config) -> int | None:
        if config.tls is None or not config.tls.redirect_http:
            return None
        if config.gateway.public_url is not None and config.gateway.public_url.startswith("https://"):
            return urlsplit(config.gateway.public_url).port or 443
        return next((listener.port for listener in self._listeners if listener.tls and listener.port), None)

    # Running.

    async def run(self) -> int:
        """Runs until it is asked to stop; the exit status."""
        self._sweep.start()
        self._handle_signals()
        try:
            for supervisor in self._supervisors:
                await supervisor.start()
            for pool in self._fleet.pools.values():
                for worker in pool.workers:
                    if worker.name not in self._launches:
                        self._watch_health(pool.name, worker)
            await self._serve()
            if self._assets is not None:
                self._spawn(self._assets.warm())
            ready = [await supervisor.settled() for supervisor in self._supervisors]
            if not self._stopping.done():
                self._say_ready(sum(ready))
            await self._stopping
            await self._drain()
        finally:
            await self._stop()
        return 0

    async def _serve(self) -> None:
        context = self._certificates.context if self._certificates is not None else None
        for listener in self._listeners:
            await listener.serve(
                lambda: self._edge, context if listener.tls else None, self._config.timeouts.tls_handshake
            )
        if self._metrics_listeners:
            edge = Edge(
                delegate=metrics_delegate(self._metrics, lambda: self._fleet.pools),
                limits=self._config.limits,
                timeouts=self._config.timeouts,
                trusted=TrustedProxies(),
                sweep=self._sweep,
                on_done=lambda _exchange: None,
                explain=explain,
                on_bad_head=lambda _connection, _bad: None,
            )
            for listener in self._metrics_listeners:
                await listener.serve(lambda: edge, None, self._config.timeouts.tls_handshake)

    def _say_ready(self, supervised: int) -> None:
        external = sum(len(pool.servers) for pool in self._config.pool.values())
        wanted = external + sum(pool.workers for pool in self._config.pool.values() if pool.serve)
        have = external + supervised
        count = f"{have} of {wanted} workers" if have != wanted else "1 worker" if have == 1 else f"{have} workers"
        public = self._config.gateway.public_url
        urls = [f"{public}/"] if public else [listener.url for listener in self._shown_listeners()]
        for lines in [] if self._certificates is None else self._certificates.describe():
            log.info("certificate %s", lines)
        self._say(f"bokeh-gateway ready: {' '.join(urls)} ({count})")

    def _shown_listeners(self) -> list[Listener]:
        """Those that serve pages: where plain ones only redirect, the TLS ones; https first."""
        tls = [listener for listener in self._listeners if listener.tls]
        plain = [listener for listener in self._listeners if not listener.tls]
        return tls if tls and self._config.tls is not None and self._config.tls.redirect_http else tls + plain

    def _watch_health(self, pool: str, worker: Worker, metadata: tuple[str, ...] = ()) -> None:
        settings = self._config.pool[pool]
        target = probe_target(worker.name, worker.address, settings, metadata)
        self._health.watch(target, Health(health_settings(settings)))

    def _health_changed(self, name: str, verdict: Verdict, _why: str) -> None:
        worker = self._workers[name]
        if verdict in (Verdict.SLOW, Verdict.QUICK):
            worker.slow = verdict is Verdict.SLOW
        else:
            self._fleet.condemn(worker, verdict is Verdict.DOWN)

    def _worker_changed(self, event: WorkerEvent) -> None:
        worker = self._workers[event.worker]
        self._fleet.set_up(worker, event.kind is EventKind.READY)
        if event.kind is EventKind.READY:
            worker.answered, worker.slow = True, False
            self._fleet.outcomes.forget(worker)
            self._watch_health(event.worker.partition("/")[0], worker, self._launches[event.worker].probe_paths)
        else:
            self._health.forget(event.worker)
        if event.kind in (EventKind.STARTING, EventKind.EXITED):
            self._fleet.expect(worker)
        elif event.kind is not EventKind.READY:
            self._fleet.expect(worker, 0.0)
        if event.kind is EventKind.EXITED:
            self._metrics.worker_restarts.add(event.worker, event.signal or f"exit-{event.code}")

    def _say(self, line: str) -> None:
        """One line on standard error, beside the log: what workers print, and that the gateway is ready."""
        handler = next((h for h in logging.getLogger().handlers if hasattr(h, "writer")), None)
        if handler is not None:
            handler.writer.write_now(line)
        else:
            print(line, file=sys.stderr, flush=True)

    def _flush_log(self) -> None:
        if self._writer is not None:
            self._writer.flush()
            self._metrics.log_lines_dropped.set(to=self._writer.dropped)
        self._metrics.connections.set(to=len(self._edge.connections))

    # Signals.

    def _handle_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.stop)
        self._loop.add_signal_handler(signal.SIGHUP, self.reload)
        self._loop.add_signal_handler(signal.SIGUSR1, self._reopen_logs)

    def stop(self) -> None:
        """Asks to drain and stop; asked twice, to stop at once."""
        if not self._stopping.done():
            self._stopping.set_result(None)
        elif not self._hurried.done():
            self._hurried.set_result(None)

    def _reopen_logs(self) -> None:
        if self._writer is not None:
            self._writer.reopen()

    def reload(self) -> None:
        """Reads the configuration and the certificates again; what is wrong changes nothing and is said."""
        try:
            config = self._reload_config() if self._reload_config is not None else self._config
            fixed = _fixed_differences(self._config, config)
            if fixed:
                log.warning("reload: a change of %s needs a restart; it is left as it was", ", ".join(fixed))
                config = config.model_copy(update={name: getattr(self._config, name) for name in fixed})
            if self._certificates is not None:
                self._certificates.reload(config.tls)
            edge = self._make_edge(config)
        except (ConfigErrors, ConfigError, GatewayError) as error:
            self._metrics.config_last_reload_ok.set(to=0)
            log.error("reload: nothing was changed: %s", error)
            return
        edge.connections, edge.clients = self._edge.connections, self._edge.clients
        changed = [name for name in Config.model_fields if getattr(config, name) != getattr(self._config, name)]
        self._config, self._edge = config, edge
        self._reopen_logs()
        self._metrics.config_last_reload_ok.set(to=1)
        log.warning(
            "reload: in force for new connections; changed: %s", ", ".join(changed) or "nothing but certificates"
        )

    # Ending.

    async def _drain(self) -> None:
        """Nothing new; what is under way gets `[timeouts] drain` to end."""
        for listener in (*self._listeners, *self._metrics_listeners):
            listener.close()
        for connection in list(self._edge.connections):
            connection.finish_up()
        limit = self._config.timeouts.drain
        deadline = self._loop.time() + limit
        if self._edge.connections:
            log.warning(
                "draining: %d connections, %d of them WebSockets, have [timeouts] drain = %g s; "
                "a second signal stops at once",
                len(self._edge.connections),
                len(self._fleet.tunnels),
                limit,
            )
        while self._edge.connections and self._loop.time() < deadline and not self._hurried.done():
            await asyncio.wait([self._hurried], timeout=0.05)
        for tunnel in list(self._fleet.tunnels):
            tunnel.end(1001, "the gateway stops")
        deadline = self._loop.time() + 1.0
        while self._edge.connections and self._loop.time() < deadline and not self._hurried.done():
            await asyncio.wait([self._hurried], timeout=0.01)

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._sweep.stop()
        self._health.close()
        self._fleet.close()
        for connection in list(self._edge.connections):
            connection.transport.abort()
        ending = [asyncio.ensure_future(supervisor.stop(WORKER_GRACE)) for supervisor in self._supervisors]
        if ending:
            self._hurried.add_done_callback(lambda _: self._hurry_workers())
            await asyncio.wait(ending)
        self._dispose()

    def _hurry_workers(self) -> None:
        for supervisor in self._supervisors:
            self._spawn(supervisor.stop(0.0))

    def _dispose(self) -> None:
        for listener in (*self._listeners, *self._metrics_listeners):
            listener.close()
        if self._doors is not None:
            self._doors.close()
        if self._runtime is not None:
            self._runtime.remove()
        if self._writer is not None:
            self._writer.close()

    def _spawn(self, coroutine: object) -> None:
        task: asyncio.Task[None] = self._loop.create_task(coroutine)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._spawned_ended)

    def _spawned_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task in the background failed", exc_info=task.exception())


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
        auth=requirement(route, config),
    )


def _fixed_differences(old: Config, new: Config) -> list[str]:
    """Tables whose change takes a restart."""
    return [name for name in ("gateway", "pool", "log", "metrics") if getattr(old, name) != getattr(new, name)]
