"""The master's pools: which workers there are, who runs them, and how a reload changes that.

A worker that goes keeps its sessions: it drains, and is ended and taken off the roster when nothing is open there any
more or `[timeouts] reload_linger` has passed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

from bokeh_gateway.balance.board import TUNNELS, Board
from bokeh_gateway.balance.dns_set import Found, resolved
from bokeh_gateway.balance.health import HealthSettings
from bokeh_gateway.balance.pool import Pool, Worker
from bokeh_gateway.config.address import Address
from bokeh_gateway.config.schema import Config, ServerAddress
from bokeh_gateway.config.schema import Pool as PoolSettings
from bokeh_gateway.config.server_name import ServerName
from bokeh_gateway.control.command import Launch, unused_lifetime, worker_command
from bokeh_gateway.control.health_watch import Target
from bokeh_gateway.control.probe_target import health_settings, probe_target
from bokeh_gateway.control.runtime_dir import RuntimeDir
from bokeh_gateway.control.workers import EventKind, Supervisor, SupervisorSettings, Taken, WorkerEvent
from bokeh_gateway.errors import ConfigError
from bokeh_gateway.wire.sweep import NEVER

log = logging.getLogger(__name__)

WORKER_GRACE: Final = 10.0
"""Seconds between TERM and KILL for supervised workers."""
LOOK_AGAIN: Final = 0.25
"""Seconds between two looks at whether a worker that goes has anything left."""
SAY_AGAIN: Final = 0.5
"""Seconds between two orders to close what is open at a worker."""


@dataclass(eq=False)
class Group:
    """The workers of one generation of a pool."""

    pool: str
    workers: list[Worker]
    launches: list[Launch] = field(default_factory=list)
    """Empty where the workers run elsewhere."""
    supervisor: Supervisor | None = None
    """Its slots are in the order of `workers` and `launches`."""
    generation: int = 1
    leaving: bool = False
    """It drains, and is ended when nothing is open there any more."""
    departing: dict[str, float] = field(default_factory=dict)
    """Of those that drain alone, to be ended with their sessions: by when, on the monotonic clock."""
    until: float = 0.0
    """When it is ended at the latest; the loop's time."""
    staged: bool = False
    """It takes no sessions until all of it is ready."""


@dataclass(slots=True)
class Plan:
    """What the pools shall be; made before anything is changed."""

    config: Config
    settings: dict[str, PoolSettings]
    launches: dict[str, list[Launch]]
    """Of the pools whose workers have to be started: new ones, and those whose command changed."""
    generations: dict[str, int]


class Pools:
    """All of them.

    Args:
        board: tells what is open at a worker; its columns are given out here.
        runtime: the folder for sockets; asked for only when a worker is to be run.
        on_event: each change in a supervised worker's life, after it is noted here.
        changed: the roster is another one.
        say: one line beside the log.
        tell: sends every gateway process what changed of a worker.
    """

    def __init__(
        self,
        board: Board,
        runtime: Callable[[], RuntimeDir],
        environ: Mapping[str, str],
        on_event: Callable[[Worker | None, WorkerEvent], None],
        changed: Callable[[], None],
        say: Callable[[str], None],
        tell: Callable[..., None],
    ) -> None:
        self._board = board
        self._runtime = runtime
        self._environ = environ
        self._on_event = on_event
        self._changed = changed
        self._say = say
        self._tell = tell
        self.pools: dict[str, Pool] = {}
        self.ready: set[Worker] = set()
        """Supervised workers that are."""
        self.condemned: set[Worker] = set()
        """Those that health checks took out of use."""
        self.held: set[Worker] = set()
        """Those that an operator drains; they stay drained through reloads."""
        self._config: Config | None = None
        self._settings: dict[str, PoolSettings] = {}
        """Also of pools whose workers still drain."""
        self._groups: dict[str, list[Group]] = {}
        """By pool, the present generation last."""
        self._generation: dict[str, int] = {}
        self.answers: Mapping[ServerName, Sequence[Found]] = {}
        """What names in the DNS stand for now."""
        self._named: dict[str, PoolSettings] = {}
        """Pools that have such names."""
        self._left_out: dict[str, int] = {}
        """Servers for which there is no room, by pool."""
        self._tasks: set[asyncio.Task[None]] = set()

    # What there is.

    def workers(self) -> list[Worker]:
        """Every worker, those that go included."""
        return [worker for groups in self._groups.values() for group in groups for worker in group.workers]

    def find(self, name: str) -> Worker | None:
        """The worker of that name."""
        return next((worker for worker in self.workers() if worker.name == name), None)

    def group_of(self, worker: Worker) -> Group | None:
        """The one that it belongs to."""
        return next((group for group in self.all_groups() if worker in group.workers), None)

    def all_groups(self) -> list[Group]:
        """Of all pools."""
        return [group for groups in self._groups.values() for group in groups]

    @property
    def groups(self) -> Mapping[str, Sequence[Group]]:
        """By pool, the present generation last."""
        return self._groups

    @property
    def supervisors(self) -> list[Supervisor]:
        """Whoever runs workers, those that go included."""
        return [g.supervisor for groups in self._groups.values() for g in groups if g.supervisor is not None]

    @property
    def external(self) -> int:
        """Present workers that run elsewhere."""
        groups = (group for groups in self._groups.values() for group in groups if not group.launches)
        return sum(not worker.draining for group in groups for worker in group.workers)

    def apps(self) -> dict[str, list[str]]:
        """Paths of the apps of pools whose workers the gateway runs, as far as the command tells them."""
        launches = {name: groups[-1].launches for name, groups in self._groups.items() if groups}
        return {
            name: [path.removesuffix("/metadata") for path in found[0].probe_paths]
            for name, found in launches.items()
            if found and found[0].probe_paths
        }

    @property
    def columns(self) -> int:
        """Columns of the board that are in use."""
        return max((worker.index for worker in self.workers()), default=0) + 1

    def roster(self) -> list[dict[str, Any]]:
        """All pools in plain values, as `Fleet.apply` takes them."""
        return [self._pool_entry(pool) for pool in self.pools.values()]

    def _pool_entry(self, pool: Pool) -> dict[str, Any]:
        settings = self._settings[pool.name]
        return {
            "name": pool.name,
            "kind": pool.kind,
            "hold": settings.hold,
            "max_sessions": settings.max_sessions,
            "queue": settings.queue,
            "queue_timeout": settings.queue_timeout,
            "failures": settings.health.failures,
            "spread": self._spreads(settings),
            "workers": [self._entry(worker) for worker in pool.workers],
        }

    def _spreads(self, settings: PoolSettings) -> bool:
        """Whether sessions whose ids other programs made are placed by load: see `[sessions] external_ids`."""
        wanted = self._config.sessions.external_ids if self._config is not None else None
        if wanted is not None:
            return wanted == "spread"
        return not any(str(server).startswith("dns+") for server in settings.servers)

    def _entry(self, worker: Worker) -> dict[str, Any]:
        return {
            "name": worker.name,
            "address": asdict(worker.address),
            "index": worker.index,
            "backup": worker.backup,
            "weight": worker.weight,
            "slow_start": worker.slow_start,
            "up": worker.up,
            "draining": worker.draining,
            "closed": worker.closed,
            "slow": worker.slow,
            "keeps": worker.keeps,
            "coming": worker.coming > 0,
            "condemned": worker in self.condemned,
            "started": worker.answered,
        }

    def probed(self) -> dict[str, tuple[Target, HealthSettings]]:
        """What health checks ask, by worker: of those that the gateway runs only while they are ready."""
        found: dict[str, tuple[Target, HealthSettings]] = {}
        for name, groups in self._groups.items():
            settings = self._settings[name]
            for group in groups:
                for number, worker in enumerate(group.workers):
                    if group.launches and worker not in self.ready:
                        continue
                    paths = group.launches[number].probe_paths if group.launches else ()
                    target = probe_target(worker.name, worker.address, settings, paths)
                    found[worker.name] = (target, health_settings(settings))
        return found

    # How it changes.

    def plan(self, config: Config, anew: str = "") -> Plan:
        """`anew`: a pool whose workers are to be new ones though nothing has changed.

        Raises:
        ConfigError: a worker cannot be run as the configuration says, or there are too many.
        """
        launches: dict[str, list[Launch]] = {}
        generations: dict[str, int] = {}
        for name, settings in config.pool.items():
            if not settings.serve:
                continue
            present = self._present(name)
            if present is not None and present.launches and not present.leaving:
                wanted = [self._launch(config, name, *seat(worker.name)) for worker in present.workers]
                if wanted == present.launches and name != anew:
                    continue
            generation = generations[name] = self._generation.get(name, 0) + 1
            how_many = settings.at_start
            if name == anew and present is not None:  # as many as the load has made it
                how_many = max(how_many, sum(not worker.draining for worker in present.workers))
            numbers = range(1, how_many + 1)
            launches[name] = [self._launch(config, name, number, generation) for number in numbers]
        known = {worker.name for worker in self.workers()}
        count = sum(map(len, launches.values()))
        for name, settings in config.pool.items():
            plain = [server for server in settings.servers if isinstance(server.address, Address)]
            count += sum(f"{name}/{server}" not in known for server in plain)
        if count + len(self.workers()) > self._board.columns:
            raise ConfigError("pool", count, f"at most {self._board.columns} workers, those that still drain included")
        return Plan(config, dict(config.pool), launches, generations)

    def _launch(self, config: Config, name: str, number: int, generation: int) -> Launch:
        socket = self._runtime().socket(name, number, generation)
        return worker_command(
            config.pool[name], config.sessions, config.limits, socket, environ=self._environ, name=name
        )

    def apply(self, plan: Plan, linger: float) -> list[Supervisor]:
        """Makes it so; the supervisors that are to be started, whose workers take over as soon as they are ready."""
        fresh: list[Supervisor] = []
        self._config = plan.config
        self._settings.update(plan.settings)
        for name in self._groups.keys() - plan.settings.keys():
            for group in self._groups[name]:
                self._leave(group, linger)
        self._named = {name: settings for name, settings in plan.settings.items() if has_names(settings)}
        # Names last: what they stand for is left out where there is no room for it.
        for name, settings in sorted(plan.settings.items(), key=lambda item: item[0] in self._named):
            if settings.serve:
                if name in plan.launches:
                    fresh.append(self._generate(name, settings, plan, linger))
            else:
                self._servers(name, settings, linger)
        self._regroup(plan.settings)
        return fresh

    def _generate(self, name: str, settings: PoolSettings, plan: Plan, linger: float) -> Supervisor:
        earlier = list(self._groups.get(name, ()))
        supervisor = self._new_group(name, settings, plan, self._event).supervisor
        assert supervisor is not None
        if earlier:
            self._spawn(self._succeed(self._groups[name][-1], supervisor, earlier, linger))
        return supervisor

    def _new_group(
        self, name: str, settings: PoolSettings, plan: Plan, on_event: Callable[[WorkerEvent], None]
    ) -> Group:
        generation = self._generation[name] = plan.generations[name]
        suffix = "" if generation == 1 else f"#{generation}"
        launches = plan.launches[name]
        group = Group(name, [], launches, generation=generation)
        self._groups.setdefault(name, []).append(group)
        for number, launch in enumerate(launches, start=1):
            address = Address(unix=launch.socket)
            worker = Worker(f"{name}/{number}{suffix}", address, index=self._column(), up=False, coming=NEVER)
            worker.keeps = unused_lifetime(settings)
            group.workers.append(worker)
        group.supervisor = Supervisor(name, launches, on_event, self._say, supervision(settings), suffix=suffix)
        return group

    # A deploy.

    def stage(self, plan: Plan, name: str, watch: Callable[[WorkerEvent], None]) -> Group:
        """A new generation of a pool, to be started; it takes no sessions until it is promoted.

        `watch` sees each change in its workers' lives.
        """

        def on_event(event: WorkerEvent) -> None:
            self._event(event)
            watch(event)

        group = self._new_group(name, plan.settings[name], plan, on_event)
        group.staged = True
        for worker in group.workers:
            worker.draining = True
        self._regroup()
        self._changed()
        return group

    def promote(self, group: Group, linger: float) -> None:
        """A staged generation takes the new sessions; the others end with theirs, or after `linger` seconds."""
        group.staged = False
        for worker in group.workers:
            worker.draining = False
        for earlier in self._groups[group.pool]:
            if earlier is not group:
                self._leave(earlier, linger)
        self._changed()

    async def discard(self, group: Group) -> None:
        """A staged generation is ended."""
        if group.supervisor is not None:
            await group.supervisor.stop(WORKER_GRACE)
        self._remove(group)

    async def _succeed(self, group: Group, supervisor: Supervisor, earlier: Sequence[Group], linger: float) -> None:
        """The earlier generation serves until the new one can."""
        if not await supervisor.settled():
            if group.leaving:  # a later reload
                return
            log.error(
                "pool %s: no worker of generation %d got ready; the earlier one serves until one does",
                *(group.pool, group.generation),
            )
            while not any(state == EventKind.READY for state in supervisor.states.values()):
                if group.leaving:
                    return
                await asyncio.sleep(LOOK_AGAIN)
        for before in earlier:
            self._leave(before, linger)
        self._changed()

    def _servers(self, name: str, settings: PoolSettings, linger: float) -> None:
        """The workers that run elsewhere: the address is the name, so that the list can be reordered."""
        groups = self._groups.setdefault(name, [])
        known = {worker.name: worker for group in groups if not group.launches for worker in group.workers}
        wanted: list[Worker] = []
        fresh = Group(name, wanted)
        groups_before = list(groups)
        groups.append(fresh)
        for server in self._members(name, settings):
            worker = known.pop(f"{name}/{server}", None)
            if worker is None:
                address = server.address
                assert isinstance(address, Address), "names are resolved"
                worker = Worker(
                    f"{name}/{server}", address, index=self._column(), weight=server.weight, backup=server.backup
                )
            worker.weight = server.weight
            worker.backup, worker.draining = server.backup, worker in self.held
            worker.closed = worker.closed and worker.draining
            worker.slow_start = server.slow_start
            worker.slow = worker.slow  # counts `backup` in
            if settings.unused_session_lifetime is not None:
                worker.keeps = settings.unused_session_lifetime
            wanted.append(worker)
        for group in groups_before:
            group.workers[:] = [worker for worker in group.workers if worker not in wanted]
            self._leave(group, linger)

    def follow_names(self, linger: float) -> bool:
        """Makes the workers those that names stand for now; whether any pool has other ones than before."""
        changed = False
        for name, settings in self._named.items():
            present = self._present(name)
            have = [(worker.name, worker.weight, worker.backup) for worker in present.workers] if present else []
            members = self._members(name, settings)
            if have != [(f"{name}/{server}", server.weight, server.backup) for server in members]:
                self._servers(name, settings, linger)
                changed = True
        if changed:
            self._regroup()
        return changed

    def _members(self, name: str, settings: PoolSettings) -> list[ServerAddress]:
        """The servers of a pool now, as far as the board has room for them."""
        members = resolved(settings.servers, self.answers)
        known = {worker.name for worker in self.workers()}
        new = [server for server in members if f"{name}/{server}" not in known]
        room = sum(1 for _ in self._free_columns()) if new else 0
        left_out = new[room:]
        if len(left_out) != self._left_out.get(name, 0):
            self._left_out[name] = len(left_out)
            most = self._board.columns
            log.warning("pool %s: %d servers are left out, there is room for %d workers", name, len(left_out), most)
        return [server for server in members if server not in left_out] if left_out else members

    def _present(self, name: str) -> Group | None:
        groups = self._groups.get(name)
        return groups[-1] if groups else None

    def _column(self) -> int:
        return next(self._free_columns())

    def _free_columns(self) -> Iterator[int]:
        taken = {worker.index for worker in self.workers()}
        # What is gone may still have a request under way somewhere.
        return (i for i in range(self._board.columns) if i not in taken and not self._board.load(i))

    def _regroup(self, settings: Mapping[str, PoolSettings] | None = None) -> None:
        """The pools as the groups are now."""
        for name, groups in self._groups.items():
            members = [worker for group in groups for worker in group.workers]
            wanted = None if settings is None else settings.get(name)
            pool = self.pools.get(name)
            if pool is None or (wanted is not None and pool.kind != wanted.kind):
                if wanted is not None:
                    self.pools[name] = Pool(name, wanted.kind, members)
            else:
                pool.replace(members)
        for name in self.pools.keys() - self._groups.keys():
            del self.pools[name]

    # One worker of a pool.

    def settings(self, pool: str) -> PoolSettings:
        """As they are in force."""
        return self._settings[pool]

    def tended(self) -> Iterator[tuple[PoolSettings, Group]]:
        """The present workers of each pool that the gateway runs, while no other ones take over from them."""
        for name, groups in self._groups.items():
            serving = [group for group in groups if not group.leaving]
            present = groups[-1]
            if present.supervisor is not None and serving == [present] and self._settings[name].serve:
                yield self._settings[name], present

    def add(self, group: Group, number: int) -> Worker | None:
        """Begins to start one more worker, with a name that none had before; None when there is no room for it."""
        if self._config is None or group.supervisor is None or len(self.workers()) >= self._board.columns:
            return None
        name = group.pool
        generation = self._generation[name] = self._generation[name] + 1
        try:
            launch = self._launch(self._config, name, number, generation)
        except ConfigError as error:  # the numbers in a socket's path have grown
            log.error("pool %s: no further worker can be run: %s", name, error)
            return None
        worker = Worker(
            f"{name}/{number}#{generation}", Address(unix=launch.socket), index=self._column(), up=False, coming=NEVER
        )
        worker.keeps = unused_lifetime(self._settings[name])
        group.workers.append(worker)
        group.launches.append(launch)
        group.supervisor.settings = supervision(self._settings[name])
        self._regroup()
        self._changed()
        group.supervisor.add(worker.name, launch)
        return worker

    def drain(self, group: Group, worker: Worker, by: float) -> None:
        """The worker gets no new sessions, and is to be ended with those that it has, or `by` then."""
        worker.draining = True
        group.departing[worker.name] = by
        self._changed()

    def undrain(self, group: Group, worker: Worker) -> None:
        """The worker serves on."""
        worker.draining = False
        group.departing.pop(worker.name, None)
        self._changed()

    async def end(self, group: Group, worker: Worker) -> None:
        """Ends the worker's process; it is in no roster then."""
        self.ready.discard(worker)  # nobody is to wonder that it answers no more
        worker.up = False
        self._tell(worker, up=False, coming=False)
        self._changed()
        if group.supervisor is not None:
            slot = group.supervisor.slots[group.workers.index(worker)]
            await group.supervisor.end(slot, WORKER_GRACE)
        place = group.workers.index(worker)
        del group.workers[place], group.launches[place]
        group.departing.pop(worker.name, None)
        self.condemned.discard(worker)
        self.held.discard(worker)
        self._regroup()
        self._changed()

    # An upgrade.

    def state(self) -> tuple[list[dict[str, Any]], list[int]]:
        """All workers in plain values, and the descriptors that have to stay open."""
        listed: list[dict[str, Any]] = []
        fds: list[int] = []
        for name, groups in self._groups.items():
            for group in groups:
                slots = group.supervisor.slots if group.supervisor is not None else ()
                running = [
                    None
                    if s.process is None
                    else (s.process.pid, s.process.output_fd, s.state == EventKind.READY, s.began)
                    for s in slots
                ]
                fds += [process[1] for process in running if process is not None]
                listed.append(
                    {
                        "pool": name,
                        "kind": self.pools[name].kind,
                        "generation": group.generation,
                        "leaving": group.leaving,
                        "left": group.until - asyncio.get_running_loop().time(),
                        "workers": [self._entry(worker) for worker in group.workers],
                        "launches": [
                            {f.name: getattr(launch, f.name) for f in fields(launch)} | {"env": dict(launch.env)}
                            for launch in group.launches
                        ],
                        "running": running,
                        "departing": dict(group.departing),
                        "given": self._generation.get(name, 1),
                    }
                )
        return listed, fds

    def restore(self, listed: Sequence[Mapping[str, Any]], linger: float) -> list[Supervisor]:
        """The workers of the program before this one; their supervisors are to be started."""
        supervisors: list[Supervisor] = []
        for entry in listed:
            name, generation = entry["pool"], entry["generation"]
            group = Group(name, [_restored(worker) for worker in entry["workers"]], generation=generation)
            self._groups.setdefault(name, []).append(group)
            self._settings[name] = PoolSettings(kind=entry["kind"])
            group.departing.update(entry.get("departing", {}))
            self._generation[name] = max(entry.get("given", generation), self._generation.get(name, 0))
            if entry["launches"]:
                known = {f.name for f in fields(Launch)}
                group.launches = [Launch(**{k: v for k, v in one.items() if k in known}) for one in entry["launches"]]
                taken = [None if process is None else Taken(*process) for process in entry["running"]]
                names = [worker.name for worker in group.workers]
                group.supervisor = Supervisor(name, group.launches, self._event, self._say, taken=taken, names=names)
                supervisors.append(group.supervisor)
            self.pools.setdefault(name, Pool(name, entry["kind"], ()))
            self.ready |= {worker for worker in group.workers if group.launches and worker.up}
            if entry["leaving"]:
                group.leaving = True
                self._spawn(self._wait_and_remove(group, max(0.0, entry["left"])))
        for groups in self._groups.values():
            earlier = [group for group in groups[:-1] if not group.leaving]
            if earlier and groups[-1].supervisor is not None:
                self._spawn(self._succeed(groups[-1], groups[-1].supervisor, earlier, linger))
        self._regroup()
        return supervisors

    # How a worker goes.

    def _leave(self, group: Group, linger: float) -> None:
        if group.leaving or group not in self._groups.get(group.pool, ()):
            return
        group.leaving = True
        for worker in group.workers:
            worker.draining = True
        self._spawn(self._wait_and_remove(group, linger))

    async def _wait_and_remove(self, group: Group, linger: float) -> None:
        loop = asyncio.get_running_loop()
        group.until = loop.time() + linger
        # Polled: other processes count, and a number in shared memory wakes nobody.
        while loop.time() < group.until and any(self._board.load(w.index) for w in group.workers):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_AGAIN)
        await asyncio.gather(*(self.close_worker(w) for w in group.workers if self._board.load(w.index)))
        if group.supervisor is not None:
            await group.supervisor.stop(WORKER_GRACE)
        if group.workers:
            log.warning("gone, others took their place: %s", ", ".join(worker.name for worker in group.workers))
        self._remove(group)

    def _remove(self, group: Group) -> None:
        self.ready.difference_update(group.workers)
        self.condemned.difference_update(group.workers)
        self.held.difference_update(group.workers)
        groups = self._groups.get(group.pool, [])
        if group in groups:
            groups.remove(group)
            if not groups:
                del self._groups[group.pool]
        self._regroup()
        self._changed()

    async def close_worker(self, worker: Worker) -> None:
        """Closes what is open at a worker that drains; pages connect again, and come to another one."""
        worker.closed = True
        while True:
            # Again, as a WebSocket may just have been on its way there.
            self._tell(worker, closed=True)
            await asyncio.sleep(SAY_AGAIN)
            if not self._board.total(TUNNELS, worker.index) or worker not in self.workers():
                return

    # What supervisors say.

    def _event(self, event: WorkerEvent) -> None:
        worker = self.find(event.worker)
        if worker is not None:
            worker.up = event.kind is EventKind.READY
            if worker.up:
                self.ready.add(worker)
                worker.answered, worker.slow, worker.coming = True, False, 0.0
            else:
                self.ready.discard(worker)
                worker.coming = NEVER if event.kind in (EventKind.STARTING, EventKind.EXITED) else 0.0
            self.condemned.discard(worker)
            if event.kind is EventKind.STARTING:
                self._board.forget_served(worker.index)
        self._on_event(worker, event)

    async def stop(self) -> None:
        """Ends all supervised workers; called again, at once."""
        for task in self._tasks:
            task.cancel()
        endings = [asyncio.ensure_future(supervisor.stop(WORKER_GRACE)) for supervisor in self.supervisors]
        if endings:
            await asyncio.wait(endings)

    def _spawn(self, coroutine: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a change of workers failed", exc_info=task.exception())


def seat(worker: str) -> tuple[int, int]:
    """Number and generation in the name of a supervised worker: (1, 1) of `demo/1`, (3, 2) of `demo/3#2`."""
    number, _, generation = worker.rpartition("/")[2].partition("#")
    return int(number), int(generation or 1)


def supervision(settings: PoolSettings) -> SupervisorSettings:
    """How the workers of a pool are run."""
    return SupervisorSettings(start_timeout=settings.start_timeout)


def has_names(settings: PoolSettings) -> bool:
    """Whether some of its workers are found by name."""
    return any(isinstance(server.address, ServerName) for server in settings.servers)


def _restored(entry: Mapping[str, Any]) -> Worker:
    address = Address(**entry["address"])
    worker = Worker(
        entry["name"],
        address,
        index=entry["index"],
        weight=entry["weight"],
        up=entry["up"],
        backup=entry["backup"],
        coming=NEVER if entry["coming"] else 0.0,
    )
    worker.draining, worker.answered, worker.keeps = entry["draining"], entry["started"], entry["keeps"]
    worker.closed = entry["closed"]
    return worker


def differences(old: Config, new: Config) -> list[str]:
    """`pool.demo added`, `timeouts.drain`, ...: what is another one, without values, which may be secret."""
    found: list[str] = []
    for name in Config.model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            found += [f"{name}.{key} added" for key in after.keys() - before.keys()]
            found += [f"{name}.{key} removed" for key in before.keys() - after.keys()]
            found += [f"{name}.{key}" for key in after.keys() & before.keys() if after[key] != before[key]]
        elif before is None or after is None or isinstance(before, tuple):
            found.append(name)
        else:
            fields = type(before).model_fields
            found += [f"{name}.{key}" for key in fields if getattr(before, key) != getattr(after, key)]
    return found
