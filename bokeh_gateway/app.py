"""The composition root, the only place that knows every part: builds the master, runs it, ends it.

The master owns the listening sockets, the board, the workers and the reloads; gateway processes move the bytes.  An
embedding program has the one process inside itself: the same messages, without a socket pair between.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from secrets import token_bytes
from typing import Any, Final
from urllib.parse import urlsplit

from tornado.httputil import HTTPServerConnectionDelegate

from bokeh_gateway import __version__
from bokeh_gateway.balance.board import PAGES, TUNNELS
from bokeh_gateway.balance.health import Health, HealthSettings, Verdict
from bokeh_gateway.balance.pool import Pool, Worker
from bokeh_gateway.balance.shared import LAYOUT, SECRET, Shared, shared_size
from bokeh_gateway.config.address import Address
from bokeh_gateway.config.check import root_workers
from bokeh_gateway.config.schema import Config
from bokeh_gateway.control.channel import OnMessage, Payload
from bokeh_gateway.control.commands import Command, Commands
from bokeh_gateway.control.control_path import control_path
from bokeh_gateway.control.control_socket import ControlSocket
from bokeh_gateway.control.deploy import Deploys
from bokeh_gateway.control.draining import Drains
from bokeh_gateway.control.gateway_process import GatewayProcess, Handle
from bokeh_gateway.control.health_watch import HealthWatch, Target
from bokeh_gateway.control.memory import shared_memory
from bokeh_gateway.control.names import Names
from bokeh_gateway.control.notify import Notifier, activated, serves
from bokeh_gateway.control.pools import Pools, differences
from bokeh_gateway.control.privileges import drop
from bokeh_gateway.control.processes import ROWS, Member, Processes, Shape
from bokeh_gateway.control.runtime_dir import RuntimeDir, remove_socket
from bokeh_gateway.control.signer_keys import SignerKeys
from bokeh_gateway.control.upgrade import State, execute, handle_again, trial
from bokeh_gateway.control.upkeep import Upkeep
from bokeh_gateway.control.watch import Watch
from bokeh_gateway.control.workers import EventKind, Supervisor, WorkerEvent
from bokeh_gateway.control.xheaders import without_xheaders
from bokeh_gateway.endpoint.app_urls import app_urls, with_name
from bokeh_gateway.endpoint.failure import explain
from bokeh_gateway.endpoint.metrics_page import metrics_delegate
from bokeh_gateway.endpoint.static_folder import StaticFolder
from bokeh_gateway.errors import ConfigError, ConfigErrors, GatewayError, Refused
from bokeh_gateway.http.forwarded import TrustedProxies
from bokeh_gateway.observe.gone_workers import KEPT, LOOK_EVERY, SHOWN, GoneWorkers
from bokeh_gateway.observe.log_writer import LogWriter
from bokeh_gateway.observe.logging_setup import WriterHandler, set_level
from bokeh_gateway.observe.metrics import Metrics
from bokeh_gateway.process import Plane
from bokeh_gateway.trial import try_plane
from bokeh_gateway.wire.edge import Edge
from bokeh_gateway.wire.listener import Listener
from bokeh_gateway.wire.sweep import Sweep
from bokeh_gateway.wire.tls import CertificateError, Certificates

log = logging.getLogger(__name__)

COLUMNS: Final = 512
"""Workers that the board has room for, those that drain included."""
RELOAD_PAUSE: Final = 0.5
"""Seconds between two reloads; signals that come meanwhile are one."""
STATUS_EVERY: Final = 10
"""Seconds between two lines for `systemctl status`."""
NEEDS_RESTART: Final = ("runtime_dir", "control", "user")
"""Keys of [gateway] that are settled before anything runs."""


class GatewayApp:
    """One running gateway.

    `applications` are Tornado applications mounted by route path, for who embeds the gateway in a program of his own:
    requests are then served in this process, whatever `[gateway] processes` says.
    """

    def __init__(
        self,
        config: Config,
        loop: asyncio.AbstractEventLoop,
        *,
        reload_config: Callable[[], Config] | None = None,
        environ: Mapping[str, str] | None = None,
        applications: Mapping[str, HTTPServerConnectionDelegate] | None = None,
        in_process: bool | None = None,
        inherited: State | None = None,
        config_file: Path | None = None,
        watch: bool = False,
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
        self._in_process = bool(applications) if in_process is None else in_process
        self._metrics = Metrics()
        self._gone_shown, self._gone_kept = GoneWorkers(SHOWN), GoneWorkers(KEPT)
        self._sweep = Sweep(loop)
        self._stopping = loop.create_future()
        self._hurried = loop.create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._runtime: RuntimeDir | None = None
        self._listeners: list[Listener] = []
        self._metrics_listeners: list[Listener] = []
        self._certificates: Certificates | None = None
        self._reloading: asyncio.Task[None] | None = None
        self._reload_again = False
        self._reload_asked: list[asyncio.Future[str | None]] = []
        """Who waits for the outcome of a reload that has not begun."""
        self._last_reload: dict[str, Any] | None = None
        self._began = time.time()
        self._seconds = 0
        self._inherited = inherited or {}
        self._notifier = Notifier(dict(self._environ))
        self._activated = activated(os.environ)
        self._memory = self._shared_memory()
        self._shared = Shared(COLUMNS, ROWS, self._memory)
        self._board = self._shared.board
        if not any(self._shared.secret):  # else an earlier program, before an upgrade, made it
            self._shared.set_secret(token_bytes(SECRET))
        self._pools = Pools(
            self._board,
            self._runtime_dir,
            self._environ,
            self._worker_changed,
            self._roster_changed,
            self._say,
            self.tell_worker,
        )
        self._names = Names(self._names_changed)
        self._pools.answers = self._names.found
        self._keys = SignerKeys(lambda keys: self._processes.send_all("keys", keys), loop.time)
        shape = Shape(self._process_count(config), self._configuration, self._worker_found, self._keys.asked)
        self._processes = Processes(self._start_here if self._in_process else GatewayProcess.spawn, self._shared, shape)
        self._drains = Drains(self._pools, self._board, self.tell_worker)
        self._deploys = Deploys(self._pools, self._board, lambda pool: self._pools.plan(self._config, anew=pool))
        self._watch = Watch(lambda: self._config.pool, self._deploys.deploy) if watch else None
        self._config_file = config_file
        self._control: ControlSocket | None = None
        self._upkeep = Upkeep(
            self._pools,
            self._board,
            lambda: self._config.timeouts.reload_linger,
            lambda pool: self._metrics.workers_replaced.add(pool),
        )
        self._fresh: list[Supervisor] = []
        self._left_behind: list[Member] = []
        """Processes of the program before an upgrade, until there are new ones."""
        self._health = HealthWatch(self._health_changed)
        self._watched: dict[str, tuple[Target, HealthSettings]] = {}
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
        _check_root(config)
        present, metrics = self._restore(config)
        self._listeners = self._listen(config, present, self._listeners)
        self._metrics_listeners = metrics
        self._metrics_listeners = self._listen_metrics(config, [])
        for listener in {*present, *metrics} - {*self._listeners, *self._metrics_listeners}:
            listener.remove()
        for unused in self._activated:
            log.warning("a socket of the service manager is of no use: no `listen` names %s", unused.getsockname())
            unused.close()
        self._activated.clear()
        if config.gateway.user is not None:
            drop(config.gateway.user)
        # Only now: gateway processes read these as the user that this is from here on.
        self._certificates = Certificates(config.tls) if config.tls is not None else None
        _check_log(config)
        self._fresh += self._pools.apply(self._pools.plan(config), config.timeouts.reload_linger)
        self._open_control()
        self._names.follow(config)
        self._keys.follow(config)

    def _shared_memory(self) -> int:
        found = self._inherited.get("board")
        if found is not None and found[1:] == (COLUMNS, ROWS, LAYOUT):
            return int(found[0])
        if found is not None:
            os.close(found[0])
            log.warning(
                "upgrade: this version shares no memory with the one before: sign-outs, places in queues, where "
                "sessions of other programs are, and what counts for [limits] begin anew"
            )
        return shared_memory(shared_size(COLUMNS, ROWS))

    def _restore(self, config: Config) -> tuple[list[Listener], list[Listener]]:
        """What the program before an upgrade left: its listeners and metrics listeners; workers and processes too."""
        state = self._inherited
        if not state:
            return [], []
        if state["runtime"] is not None:
            self._runtime = RuntimeDir.adopt(*state["runtime"])
        self._names.restore(state.get("names", ()))
        self._keys.restore(state.get("keys", {}))
        self._fresh += self._pools.restore(state["pools"], config.timeouts.reload_linger)
        self._drains.restore(state.get("drains", ()))
        self._left_behind = self._processes.restore(state["processes"], state["totals"])
        self._metrics.absorb(state["metrics"])
        both = [[_restored_listener(entry) for entry in state[key]] for key in ("listeners", "metrics_listeners")]
        return both[0], both[1]

    def _process_count(self, config: Config) -> int:
        if self._in_process:
            return 1
        count = config.gateway.processes
        return len(os.sched_getaffinity(0)) if count == "auto" else count

    def _runtime_dir(self) -> RuntimeDir:
        if self._runtime is None:
            self._runtime = RuntimeDir(self._config.gateway.runtime_dir)
        return self._runtime

    def _listen(self, config: Config, present: Sequence[Listener], made: list[Listener]) -> list[Listener]:
        """All listeners that `config` names: those of `present` that it still names, and new ones, also put in `made`.

        Raises:
            ConfigError: an address cannot be bound.
        """
        known = {(listener.tls, listener.address): listener for listener in present}
        wanted = [("gateway.listen", address, False) for address in config.gateway.listen]
        if config.tls is not None:
            wanted += [("tls.listen", address, True) for address in config.tls.listen]
        listeners: list[Listener] = []
        for key, address, tls in wanted:
            listener = known.get((tls, address))
            if listener is None:
                other = known.get((not tls, address))
                if other is not None and not address.unix and all(at != address or t is tls for _, at, t in wanted):
                    listener = other.turned()
                else:
                    listener = Listener(key, address, tls=tls, sockets=self._take_activated(address))
                made.append(listener)
            listeners.append(listener)
        for listener in listeners:
            listener.share(self._process_count(config))
        return listeners

    def _take_activated(self, address: Address) -> list[socket.socket] | None:
        """The service manager's sockets for an address."""
        found = [bound for bound in self._activated if serves(bound, address.host, address.port, address.unix)]
        self._activated = [bound for bound in self._activated if bound not in found]
        return found or None

    # What processes are told.

    def _configuration(self, member: Member, first: bool) -> tuple[Payload, list[int]]:
        fds = [self._memory] if first else []
        listeners = []
        given = {(listener.tls, listener.address) for listener in self._listeners}
        member.places &= given
        for listener in self._listeners:
            place = (listener.tls, listener.address)
            own: list[int] = []
            if place not in member.places:
                own = [bound.fileno() for bound in listener.part(member.slot, self._processes.shape.count)]
                member.places.add(place)
            fds += own
            listeners.append({"tls": listener.tls, "address": asdict(listener.address), "fds": len(own)})
        return {
            "config": self._config,
            "keys": self._keys.told(),
            "roster": self._pools.roster(),
            "listeners": listeners,
            "board": (self._board.columns, self._board.rows),
            "columns": self._pools.columns,
            "rows": self._processes.rows,
            "row": member.row,
        }, fds

    def _roster_changed(self) -> None:
        self._watch_health()
        self._processes.send_all("roster", {"roster": self._pools.roster(), "columns": self._pools.columns})

    def _names_changed(self) -> None:
        """A name server answered."""
        if self._pools.follow_names(self._config.timeouts.reload_linger):
            self._roster_changed()

    def tell_worker(self, worker: Worker, **change: object) -> None:
        """Sends every process what changed of `worker`, in the words of `endpoint.fleet.Entry`."""
        self._processes.send_all("worker", {"name": worker.name, "change": change})

    def _worker_changed(self, worker: Worker | None, event: WorkerEvent) -> None:
        """A supervised worker's life went on."""
        if event.kind is not EventKind.READY:
            self._watched.pop(event.worker, None)
            self._health.forget(event.worker)
        self._watch_health()
        if worker is not None and event.kind is EventKind.READY:
            self.tell_worker(worker, started=True, slow=False, condemned=False, up=True)
        elif worker is not None:
            self.tell_worker(worker, up=False, coming=worker.coming > 0)
        if event.kind is EventKind.EXITED:
            self._metrics.worker_restarts.add(event.worker, event.signal or f"exit-{event.code}")

    # Health.

    def _watch_health(self) -> None:
        """Probes whoever is to be probed now; a worker whose settings are the same as before goes on."""
        wanted = self._pools.probed()
        for name in self._watched.keys() - wanted.keys():
            del self._watched[name]
            self._health.forget(name)
        for name, question in wanted.items():
            if self._watched.get(name) != question:
                self._watched[name] = question
                self._health.watch(question[0], Health(question[1]))

    def _health_changed(self, name: str, verdict: Verdict, _why: str) -> None:
        worker = self._pools.find(name)
        if worker is None:
            return
        if verdict in (Verdict.SLOW, Verdict.QUICK):
            worker.slow = verdict is Verdict.SLOW
            self.tell_worker(worker, slow=worker.slow)
            return
        condemned = verdict is Verdict.DOWN
        worker.up = not condemned
        if condemned:
            self._pools.condemned.add(worker)
        else:
            self._pools.condemned.discard(worker)
        self.tell_worker(worker, condemned=condemned)

    def _worker_found(self, name: str, up: bool) -> None:
        """A process found by itself that a worker is gone or back; the others find out as they need it."""
        worker = self._pools.find(name)
        if worker is not None:
            worker.up = up

    async def _start_here(self, on_message: OnMessage) -> Handle:
        return InProcess(on_message, self._applications)

    # Running.

    async def run(self) -> int:
        """Runs until it is asked to stop; the exit status."""
        self._sweep.start()
        self._handle_signals()
        status = 0
        try:
            if self._watch is not None:
                await self._watch.start()
            for supervisor in self._fresh:
                await supervisor.start()
            self._watch_health()
            if self._control is not None:
                await self._control.start()
            self._keys.look()
            self._sweep.every(self._keys.look)
            await self._names.settle()
            await self._processes.start()
            await self._serve_metrics(self._metrics_listeners)
            if self._processes.failed.done():
                log.error("no gateway process could be started")
                return 1
            for member in self._left_behind:
                self._processes.retire(member, self._config.timeouts.reload_linger, "[timeouts] reload_linger")
            ready = [await supervisor.settled() for supervisor in self._fresh]
            self._sweep.every(self._upkeep.look)
            self._sweep.every(lambda _now: self._processes.look())
            if not self._stopping.done():
                self._say_ready(sum(ready))
                self._check_xheaders()
                self._notifier.ready(self._status())
                self._sweep.every(lambda _now: self._notify())
            await asyncio.wait({self._stopping, self._processes.failed}, return_when=asyncio.FIRST_COMPLETED)
            self._notifier.stopping("draining")
            if self._reloading is not None:
                self._reloading.cancel()
            self._close_listeners(self._listeners)
            await self._processes.drain(self._config.timeouts.drain, self._hurried)
        finally:
            await self._stop()
        return status

    async def _serve_metrics(self, listeners: Sequence[Listener]) -> None:
        edge = Edge(
            delegate=metrics_delegate(self._all_metrics, self._present_pools, self._stopping.done),
            limits=self._config.limits,
            timeouts=self._config.timeouts,
            trusted=TrustedProxies(),
            sweep=self._sweep,
            on_done=lambda _exchange: None,
            explain=explain,
            on_bad_head=lambda _connection, _bad: None,
        )
        for listener in listeners:
            await listener.serve(lambda: edge, None)

    def _present_pools(self) -> dict[str, Pool]:
        """Without those that a reload took away and whose last sessions go on."""
        return {name: pool for name, pool in self._pools.pools.items() if name in self._config.pool}

    async def _all_metrics(self) -> Metrics:
        total = Metrics()
        total.absorb(self._metrics.snapshot())
        await self._processes.collect(total)
        workers = self._pools.workers()
        self._gone_shown.look([total], {worker.name for worker in workers}, self._loop.time())
        for worker in workers:
            # A page may be served by one process and connected to through another: only the board has the truth.
            total.pages_waiting.set(worker.name, to=self._board.total(PAGES, worker.index))
            lag = self._health.lag(worker.name)
            if lag is not None:
                total.worker_lag.set(worker.name, to=round(lag, 6))
        return total

    def _say_ready(self, supervised: int) -> None:
        external = self._pools.external
        wanted = external + sum(pool.at_start for pool in self._config.pool.values() if pool.serve)
        have = external + supervised
        wanted = max(wanted, have)  # after an upgrade some still have sessions whose successors are there
        count = f"{have} of {wanted} workers" if have != wanted else "1 worker" if have == 1 else f"{have} workers"
        public = self._config.gateway.public_url
        urls = [f"{public}/"] if public else [listener.url for listener in self._shown_listeners()]
        for lines in [] if self._certificates is None else self._certificates.describe():
            log.info("certificate %s", lines)
        for url in app_urls(self._config, self._bases(), self._pools.apps()):
            self._say(f"bokeh-gateway app: {url}")
        if self._inherited:
            log.warning("upgrade: version %s runs, at %s (%s)", __version__, " ".join(urls), count)
        else:
            self._say(f"bokeh-gateway ready: {' '.join(urls)} ({count})")

    def _bases(self) -> list[str]:
        """What addresses begin with, as browsers write them."""
        public = self._config.gateway.public_url
        if public is not None:
            return ["{0.scheme}://{0.netloc}".format(urlsplit(public))]
        names = self._certificates.names() if self._certificates is not None else []
        shown = [(listener.url.rstrip("/"), listener.tls) for listener in self._shown_listeners()]
        return [with_name(url, names) if tls else url for url, tls in shown if url.startswith("http")]

    def _check_xheaders(self) -> None:
        """Says which workers do not know that browsers come by https; in a thread, as it looks at all processes."""
        config = self._config
        if config.tls is None and not (config.gateway.public_url or "").startswith("https:"):
            return
        places = [
            (name, server.address)
            for name, pool in config.pool.items()
            if pool.kind == "bokeh"
            for server in pool.servers
            if isinstance(server.address, Address)
        ]
        found = self._loop.run_in_executor(None, without_xheaders, [address for _, address in places])
        found.add_done_callback(lambda done: done.cancelled() or self._say_xheaders(places, done.result()))

    @staticmethod
    def _say_xheaders(places: Sequence[tuple[str, Address]], found: Sequence[Address]) -> None:
        for name, address in places:
            if address in found:
                log.warning(
                    "worker %s: was started without --use-xheaders, so its apps take https for http: URLs that they "
                    "make, such as those of a login, begin with http:// ([pool.%s] servers)",
                    address,
                    name,
                )

    def _status(self) -> str:
        """For `systemctl status`."""
        workers = self._pools.workers()
        up = sum(worker.up for worker in workers)
        tunnels = sum(self._board.total(TUNNELS, worker.index) for worker in workers)
        return f"{tunnels} WebSockets, {up} of {len(workers)} workers, {len(self._processes.active)} processes"

    def _notify(self) -> None:
        """Each second: a sign of life; now and then what is going on, and what is over."""
        if self._notifier.watchdog is not None:
            self._notifier.alive()
        self._seconds += 1
        if self._seconds % STATUS_EVERY == 0:
            self._notifier.status(self._status())
        if self._seconds % LOOK_EVERY == 0:
            present = {worker.name for worker in self._pools.workers()}
            self._gone_kept.look([self._metrics, self._processes.retired], present, self._loop.time())

    def _shown_listeners(self) -> list[Listener]:
        """Those that serve pages: where plain ones only redirect, the TLS ones; https first."""
        tls = [listener for listener in self._listeners if listener.tls]
        plain = [listener for listener in self._listeners if not listener.tls]
        return tls if tls and self._config.tls is not None and self._config.tls.redirect_http else tls + plain

    def _say(self, line: str) -> None:
        """One line on standard error, beside the log: what workers print, and that the gateway is ready."""
        handler = next((h for h in logging.getLogger().handlers if hasattr(h, "writer")), None)
        if handler is not None:
            handler.writer.write_now(line)
        else:
            print(line, file=sys.stderr, flush=True)

    # Signals.

    def _handle_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.stop)
        self._loop.add_signal_handler(signal.SIGHUP, self.reload)
        self._loop.add_signal_handler(signal.SIGUSR1, self._reopen_logs)
        self._loop.add_signal_handler(signal.SIGUSR2, self.upgrade)
        handle_again()

    def stop(self) -> None:
        """Asks to drain and stop; asked twice, to stop at once."""
        if not self._stopping.done():
            self._stopping.set_result(None)
        elif not self._hurried.done():
            self._hurried.set_result(None)

    def _reopen_logs(self) -> None:
        self._processes.send_all("reopen", {})

    # What `bokeh-gateway ctl` asks.

    def _open_control(self) -> None:
        """Raises:
        ConfigError: it cannot listen where the file says.
        """
        gateway = self._config.gateway
        path = control_path(gateway, self._config_file)
        if path is None:
            if self._in_process:
                return  # the program around it knows its own ways
            path = self._runtime_dir().path / "control.sock"
            log.info("`bokeh-gateway ctl --socket %s status` reaches this gateway", path)
        if gateway.control is None and gateway.runtime_dir is not None:
            self._runtime_dir()  # makes the folder, and sees that no other gateway has it
        commands: dict[str, Command] = {
            "drain": self._ask_drain,
            "undrain": self._ask_undrain,
            "reload": self.ask_reload,
            "deploy": self._ask_deploy,
            "upgrade": self.ask_upgrade,
        }
        answers = Commands(self._pools, self._board, self._drains, self._control_status, commands)
        control = ControlSocket(path, answers.answer)
        before = self._inherited.get("control")
        if before is not None and before[0] == str(path):
            control.adopt(before[1])
        elif before is not None:
            os.close(before[1])
            remove_socket(before[0])
        try:
            control.bind()
        except ConfigError as error:
            if gateway.control is not None:
                raise
            log.warning("`bokeh-gateway ctl` cannot reach this gateway, set [gateway] control: %s", error)
            return
        self._control = control

    def _control_status(self) -> dict[str, Any]:
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uptime": time.time() - self._inherited.get("began", self._began),
            "upgrades": self._inherited.get("upgrades", 0),
            "urls": [listener.url for listener in self._shown_listeners()],
            "processes": [member.handle.pid for member in self._processes.active],
            "processes_leaving": [member.handle.pid for member in self._processes.members if member.slot < 0],
            "last_reload": self._last_reload,
        }

    async def _ask_drain(self, name: str, limit: float | None) -> str:
        if limit is not None:
            return self._drains.drain(name, limit, "--drain")
        return self._drains.drain(name, self._config.timeouts.drain, "[timeouts] drain")

    async def _ask_undrain(self, name: str, _limit: float | None) -> str:
        return self._drains.undrain(name)

    async def _ask_deploy(self, pool: str, limit: float | None) -> str:
        if self._stopping.done():
            raise Refused("the gateway stops")
        if limit is not None:
            return await self._deploys.deploy(pool, limit, "--drain")
        return await self._deploys.deploy(pool, self._config.timeouts.reload_linger, "[timeouts] reload_linger")

    # Reloading.

    def reload(self) -> None:
        """Reads the configuration and the certificates again, soon; what is wrong changes nothing and is said."""
        if self._stopping.done():
            return
        if self._reloading is not None:
            self._reload_again = True
            return
        self._reloading = self._loop.create_task(self._reload(), name="reload")
        self._reloading.add_done_callback(self._reloaded)

    def _reloaded(self, task: asyncio.Task[None]) -> None:
        self._reloading = None
        if self._reload_again and not task.cancelled():
            self.reload()  # asked for between the last look and this moment
        elif task.cancelled() or task.exception() is not None:
            for asked in self._reload_asked:
                asked.cancel()
        if not task.cancelled() and task.exception() is not None:
            log.error("reload: a bug in the gateway", exc_info=task.exception())

    async def _reload(self) -> None:
        while True:
            self._reload_again = False
            waiting, self._reload_asked = self._reload_asked, []
            self._notifier.reloading()
            try:
                why = await self.reload_now()
            except BaseException:
                self._reload_asked += waiting
                raise
            self._last_reload = {"at": time.time(), "ok": why is None, "error": why or ""}
            for asked in waiting:
                if not asked.done():
                    asked.set_result(why)
            self._notifier.ready(self._status())
            await asyncio.sleep(RELOAD_PAUSE)
            if not self._reload_again:
                return

    async def ask_reload(self, _target: str = "", _limit: float | None = None) -> str:
        """Reloads, and says what came of it.

        Raises:
            Refused: nothing was changed, and why.
        """
        if self._stopping.done():
            raise Refused("the gateway stops")
        asked: asyncio.Future[str | None] = self._loop.create_future()
        self._reload_asked.append(asked)
        self.reload()
        why = await asked
        if why is not None:
            raise Refused(f"nothing was changed:\n{why}" if "\n" in why else f"nothing was changed: {why}")
        return "in force for new connections"

    async def reload_now(self) -> str | None:
        """Reloads; why it could not be done, and nothing was changed, or None."""
        made: list[Listener] = []
        try:
            config = self._reload_config() if self._reload_config is not None else self._config
            config = self._without_fixed(config)
            certificates = self._try_certificates(config)
            _check_root(config)
            _check_log(config)
            for route in config.route:
                if route.static:
                    StaticFolder(route.static)
            await self._names.look_up_new(config)
            listeners = self._listen(config, self._listeners, made)
            metrics = self._listen_metrics(config, made)
            plan = self._pools.plan(config)
            self._check_room(config)
            if config.auth != self._config.auth:  # a module or a list of users that only processes would read
                try_plane(config, self._loop)
        except GatewayError as error:
            for listener in made:
                listener.remove()
            self._metrics.config_last_reload_ok.set(to=0)
            log.error("reload: nothing was changed: %s", error)
            return str(error)
        await self._put_in_force(
            config, certificates, listeners, metrics, self._pools.apply(plan, config.timeouts.reload_linger)
        )
        return None

    async def _put_in_force(
        self,
        config: Config,
        certificates: Certificates | None,
        listeners: list[Listener],
        metrics: list[Listener],
        fresh: list[Supervisor],
    ) -> None:
        old, gone = self._config, [listener for listener in self._listeners if listener not in listeners]
        gone += [listener for listener in self._metrics_listeners if listener not in metrics]
        new_metrics = [listener for listener in metrics if listener not in self._metrics_listeners]
        self._config, self._certificates = config, certificates
        self._listeners, self._metrics_listeners = listeners, metrics
        self._names.follow(config)
        self._keys.follow(config)
        self._keys.look()
        set_level(config.log.level)
        for listener in gone:
            listener.remove()
        for supervisor in fresh:
            await supervisor.start()
        await self._serve_metrics(new_metrics)
        await self._resize(config)
        await self._processes.all_ready()
        self._roster_changed()
        self._metrics.config_last_reload_ok.set(to=1)
        changed = ", ".join(differences(old, config))
        log.warning("reload: in force for new connections; changed: %s", changed or "nothing but certificates")

    async def _resize(self, config: Config) -> None:
        """As many processes as the configuration says now; a process whose sockets change is replaced by a new one."""
        count = self._process_count(config)
        shape = self._processes.shape
        if count == shape.count:
            await self._processes.reconfigure()
            return
        leaving = self._processes.active
        shape.count = count
        for member in leaving:
            member.slot = -1
        await self._processes.reconfigure()
        await self._processes.all_ready()
        for member in leaving:
            self._processes.retire(member, config.timeouts.reload_linger, "[timeouts] reload_linger")

    def _check_room(self, config: Config) -> None:
        """Raises:
        ConfigError: there would be too many processes.
        """
        count = self._process_count(config)
        shortage = self._processes.shortage(count) if count != self._processes.shape.count else None
        if shortage is not None:
            raise ConfigError("gateway.processes", count, f"no change now: {shortage}")

    def _without_fixed(self, config: Config) -> Config:
        """`config` with what only a restart can change left as it is."""
        old = self._config.gateway
        fixed = {name: getattr(old, name) for name in NEEDS_RESTART if hasattr(old, name)}
        changed = [name for name, value in fixed.items() if getattr(config.gateway, name) != value]
        if not changed:
            return config
        log.warning("reload: [gateway] %s needs a restart; it is left as it was", ", ".join(changed))
        return config.model_copy(update={"gateway": config.gateway.model_copy(update=fixed)})

    def _try_certificates(self, config: Config) -> Certificates | None:
        """What processes will load, tried here first.

        Raises:
            CertificateError: something is wrong or expired.
        """
        if config.tls is None:
            return None
        certificates = Certificates(config.tls)
        problems = certificates.problems()
        if problems:
            raise CertificateError("; ".join(problems))
        return certificates

    def _listen_metrics(self, config: Config, made: list[Listener]) -> list[Listener]:
        known = {listener.address: listener for listener in self._metrics_listeners}
        listeners: list[Listener] = []
        for address in config.metrics.listen:
            listener = known.get(address)
            if listener is None:
                listener = Listener("metrics.listen", address, tls=False)
                made.append(listener)
            listeners.append(listener)
        return listeners

    # Upgrading.

    def upgrade(self) -> None:
        """Executes the program as it is on disk now, in this process; what is open stays open."""
        if not self._stopping.done() and not self._in_process:
            self._spawn(self.upgrade_now())

    async def ask_upgrade(self, _target: str = "", _limit: float | None = None) -> str:
        """Does not return when it could be done: who asked sees the connection end, and the new program answer.

        Raises:
            Refused: nothing was changed, and why.
        """
        if self._stopping.done() or self._in_process:
            raise Refused("the gateway stops" if self._stopping.done() else "a gateway inside another program")
        raise Refused(f"nothing was changed: {await self.upgrade_now()}")

    async def upgrade_now(self) -> str | None:
        """Why it could not be done, and nothing was changed; does not return when it could."""
        listeners = [*self._listeners, *self._metrics_listeners]
        held = {
            "listen": [str(listener.address) for listener in listeners],
            "control": str(self._control.path) if self._control is not None else None,
        }
        why = await trial(held)
        if why is None:
            if self._reloading is not None:
                await asyncio.wait([self._reloading])
            await self._processes.all_ready()
            why = self._processes.shortage(self._process_count(self._config))
        if why is None and self._stopping.done():
            why = "the gateway stops"
        if why is None and self._deploys.under_way:
            why = f"a deploy of pool {', '.join(self._deploys.under_way)} is under way"
        if why is None:
            log.warning("upgrade: the program is executed anew; workers and WebSockets stay")
            state, descriptors = self._state()
            _flush_logs()
            try:
                execute(state, descriptors)
            except OSError as error:
                why = str(error)
        log.error("upgrade: nothing was changed: %s", why)
        return why

    def _state(self) -> tuple[State, list[int]]:
        """All that the next program needs, and the descriptors that it has to have."""
        pools, outputs = self._pools.state()
        processes, channels = self._processes.state()
        descriptors = [*outputs, *channels, self._memory]
        both: dict[str, list[dict[str, object]]] = {}
        for key, listeners in (("listeners", self._listeners), ("metrics_listeners", self._metrics_listeners)):
            both[key] = []
            for listener in listeners:
                fds = [bound.fileno() for bound in listener.sockets]
                descriptors += fds
                address = asdict(listener.address)
                both[key].append({"address": address, "tls": listener.tls, "families": listener.families, "fds": fds})
        if self._runtime is not None:
            descriptors.append(self._runtime.state()[1])
        control = None
        if self._control is not None:
            control = (str(self._control.path), self._control.fileno())
            descriptors.append(control[1])
        return {
            **both,
            "pools": pools,
            "names": self._names.state(),
            "keys": self._keys.state(),
            "processes": processes,
            "drains": self._drains.state(),
            "control": control,
            "upgrades": self._inherited.get("upgrades", 0) + 1,
            "began": self._inherited.get("began", self._began),
            "totals": self._processes.totals(),
            "metrics": self._metrics.snapshot(),
            "runtime": None if self._runtime is None else self._runtime.state(),
            "board": (self._memory, COLUMNS, ROWS, LAYOUT),
            "descriptors": descriptors,
        }, descriptors

    # Ending.

    def _close_listeners(self, listeners: Sequence[Listener]) -> None:
        for listener in listeners:
            listener.remove()

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._sweep.stop()
        self._drains.close()
        if self._watch is not None:
            self._watch.close()
        self._health.close()
        self._upkeep.close()
        self._names.close()
        self._keys.close()
        await self._processes.stop()
        stopping = asyncio.ensure_future(self._pools.stop())
        self._hurried.add_done_callback(lambda _: self._spawn(self._pools.stop()))
        await stopping
        self._dispose()

    def _dispose(self) -> None:
        self._names.close()
        self._keys.close()
        self._close_listeners([*self._listeners, *self._metrics_listeners])
        if self._control is not None:
            self._control.close()
        if self._runtime is not None:
            self._runtime.remove()
        self._shared.close()
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1

    def _spawn(self, coroutine: object) -> None:
        task: asyncio.Task[None] = self._loop.create_task(coroutine)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._spawned_ended)

    def _spawned_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task in the background failed", exc_info=task.exception())


class InProcess:
    """The data plane in this process, as a handle like that of a child."""

    def __init__(
        self, on_message: OnMessage, applications: Mapping[str, HTTPServerConnectionDelegate] | None = None
    ) -> None:
        self.pid = os.getpid()
        loop = asyncio.get_running_loop()

        # In a turn of the loop of its own, as a message through a socket comes.
        def say(kind: str, payload: Payload) -> None:
            loop.call_soon(on_message, kind, payload, [])

        self._plane = Plane(say, applications)
        self.exited: asyncio.Future[int] = loop.create_task(self._run())

    def send(self, kind: str, payload: Payload, fds: Sequence[int] = ()) -> None:
        """As through a channel: the descriptors are the receiver's."""
        self._plane.take(kind, payload, [os.dup(fd) for fd in fds])

    def kill(self) -> None:
        """Ends it at once."""
        self._plane.hurry()

    async def _run(self) -> int:
        await self._plane.run()
        return 0


def _restored_listener(entry: Mapping[str, Any]) -> Listener:
    sockets = [socket.socket(fileno=fd) for fd in entry["fds"]]
    return Listener("", Address(**entry["address"]), tls=entry["tls"], sockets=sockets, families=entry["families"])


def _flush_logs() -> None:
    """Threads do not live through an `exec`, and what they have not written would be lost."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, WriterHandler):
            handler.writer.drain()


def _check_root(config: Config) -> None:
    """Raises:
    ConfigError: workers would run as root, and nobody said that they may.
    """
    for mistake in root_workers(config):
        raise mistake


def _check_log(config: Config) -> None:
    """Raises:
    ConfigError: the access log cannot be written.
    """
    if config.log.access != "off":
        LogWriter(str(config.log.access)).close()
