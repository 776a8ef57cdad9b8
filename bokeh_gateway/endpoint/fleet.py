"""The workers as the data plane uses them: connections, counts, sessions that wait, and who is out of use for now."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from random import SystemRandom
from secrets import token_bytes
from typing import TYPE_CHECKING, Any, Final

from bokeh_gateway.balance.affinity import Choice, choose
from bokeh_gateway.balance.board import PAGES, TUNNELS
from bokeh_gateway.balance.health import slow_start_share
from bokeh_gateway.balance.live_sessions import LiveSessions
from bokeh_gateway.balance.pending import PendingPages
from bokeh_gateway.balance.pick import least_loaded, room, with_room
from bokeh_gateway.balance.placement import Placement
from bokeh_gateway.balance.pool import Pool, Worker
from bokeh_gateway.balance.shared import Shared
from bokeh_gateway.bokeh.session_id import hint, mint
from bokeh_gateway.config.address import Address
from bokeh_gateway.endpoint.outcomes import Outcomes
from bokeh_gateway.endpoint.waiting import WaitingRoom
from bokeh_gateway.errors import WorkerRefused
from bokeh_gateway.wire.sweep import NEVER
from bokeh_gateway.wire.upstream import Link

if TYPE_CHECKING:
    from bokeh_gateway.observe.metrics import Metrics
    from bokeh_gateway.wire.sweep import Sweep
    from bokeh_gateway.wire.tunnel import Tunnel

log = logging.getLogger(__name__)

Entry = Mapping[str, Any]
"""A worker in plain values: name, address (fields of `Address`), index, backup, weight, slow_start, draining, closed
(its drain is over), slow, keeps, up, condemned (down by the probes' word), coming (it starts: worth waiting for),
started (it has got ready)."""
Roster = Sequence[Mapping[str, Any]]
"""Each pool in plain values: name, kind, hold, max_sessions, queue, queue_timeout, failures, spread and its workers."""

TRY_AGAIN: Final = 1.0
"""Seconds between two tries to reach a worker that refused."""
GOES_ON_ELSEWHERE: Final = 1012
"""Close code, "service restart": BokehJS connects again, and comes to another worker."""

_RANDOM: Final = 4080
"""Bytes of randomness that are fetched at once: a system call for each page would cost as much as picking a worker."""
_ID_BYTES: Final = 24


class Fleet:
    """Every worker of every pool, of one gateway process."""

    def __init__(
        self,
        pools: Mapping[str, Pool],
        shared: Shared,
        loop: asyncio.AbstractEventLoop,
        sweep: Sweep,
        metrics: Metrics,
        connect_timeout: float,
        row: int = 0,
        failures: Mapping[str, int] | None = None,
    ) -> None:
        self.pools = dict(pools)
        self.links: dict[int, Link] = {
            worker.index: Link(worker.name, worker.address, loop, sweep)
            for pool in pools.values()
            for worker in pool.workers
        }
        self.metrics = metrics
        self.outcomes = Outcomes(failures or {}, self.set_up)
        self.waiting = WaitingRoom()
        """Requests that wait for a worker."""
        self.on_found: Callable[[Worker], None] | None = None
        """Told when this process found out by itself that a worker is gone or back; the master wants to know."""
        self.token_lifetime = NEVER
        """Seconds: a page that takes longer to come is of no use to its browser."""
        self.tunnels: dict[Tunnel, Worker] = {}
        self.lock = shared.lock
        self.queues = shared.queues
        self.secret = shared.secret
        """Of all processes of this gateway."""
        self._board = shared.board
        self._row = shared.board.row(row)
        self._loop = loop
        self._sweep = sweep
        self._connect_timeout = connect_timeout
        self.live = LiveSessions(shared.live, row, shared.restarts)
        self.placement = Placement(shared.placements, shared.board, row)
        self._pending = PendingPages()
        self._pages = shared.own_pages(row)
        self._random, self._random_at = b"", _RANDOM
        self._turn = SystemRandom().randrange(1 << 16)
        self._probing: dict[Worker, asyncio.Task[None]] = {}
        self._pool_of = {worker: pool for pool in pools.values() for worker in pool.workers}
        self._condemned: set[Worker] = set()
        """Down by the control plane's word: that they take connections does not bring them back."""
        sweep.every(self._expire_pages)
        self._rising: dict[Worker, float] = {}
        """In their slow start, and since when."""
        sweep.every(self.waiting.expire)
        sweep.every(self._grow)
        sweep.every(self.outcomes.offer_trials)

    # Choosing.

    def for_new(self, pool: Pool) -> Worker | None:
        """The least loaded worker; None when none can be used."""
        self._turn += 1
        worker = least_loaded(pool.workers, self._board.loads(), self._turn)
        if worker is not None and worker.trial:
            worker.tried()
        return worker

    def reserve(self, pool: Pool) -> Worker | None:
        """The least loaded worker that has less than `max_sessions`, with the request counted there already.

        No process comes between looking and counting, so that there are never more.
        """
        most = pool.max_sessions
        assert most is not None
        self._turn += 1
        with self.lock:
            loads = self._board.loads()
            worker = least_loaded(with_room(pool.workers, loads, most), loads, self._turn)
            if worker is not None:
                self._row.request(worker.index, 1)
        if worker is not None and worker.trial:
            worker.tried()
        return worker

    def is_new(self, pool: Pool, session_id: str) -> bool:
        """Whether a request that names a session makes it: another program made its id, and no worker has it.

        Not to be known where the hash alone decides.
        """
        return pool.spread and hint(session_id) is None and not self.placement.known(pool, session_id, self._sweep.now)

    def room(self, pool: Pool, most: int) -> int:
        """How many sessions the pool can still take, when a worker has at most `most`."""
        return room(pool.workers, self._board.loads(), most)

    def for_session(self, pool: Pool, session_id: str) -> Choice | None:
        """The worker of a session; None when none of the pool can be used."""
        return choose(pool, session_id, self._place)

    def _place(self, pool: Pool, session_id: str) -> Choice | None:
        self._turn += 1
        return self.placement.place(pool, session_id, self._turn, self._sweep.now)

    def mint(self, worker: Worker, secret: bytes | None) -> str:
        """A new session id that names `worker`."""
        at = self._random_at
        if at >= _RANDOM:
            self._random, at = token_bytes(_RANDOM), 0
        self._random_at = at + _ID_BYTES
        return mint(worker.key, self._random[at : at + _ID_BYTES].hex(), secret)

    # Counting.

    def request_began(self, worker: Worker) -> None:
        self._row.request(worker.index, 1)

    def request_ended(self, worker: Worker) -> None:
        self._row.request(worker.index, -1)

    def page_served(self, worker: Worker, session_id: str) -> None:
        """A page went out: its session is on the worker already, its WebSocket is still to come."""
        if self._board.several:  # the WebSocket may come to another process
            self._row.served(worker.index)
            self.metrics.page_served(worker.name)
            self._pages.served(session_id, worker, self._sweep.now)
            return
        earlier = self._pending.served(session_id, worker, self._sweep.now)
        if earlier is not None:
            self._row.add(PAGES, earlier.index, -1)
            self.metrics.page_connected(earlier.name)
        self._row.add(PAGES, worker.index)
        self._row.served(worker.index)
        self.metrics.page_served(worker.name)

    def page_waits(self, session_id: str) -> bool:
        """Whether a page of the session went out, and counts at its worker."""
        return session_id in self._pending or (self._board.several and self._pages.waits(session_id, self._sweep.now))

    def learn(self, worker: Worker, session_id: str) -> None:
        """A worker named a session by itself: whatever names it later belongs there."""
        pool = self._pool_of.get(worker)
        if pool is not None:
            self.placement.learn(pool, session_id, worker, self._sweep.now)

    def placed(self, pool: Pool, session_id: str, worker: Worker) -> bytes | None:
        """The session lives on `worker`.  Its key among the placements, for a session that is found by these."""
        if hint(session_id) is not None:
            return None
        return self.placement.confirm(pool, session_id, worker, self._sweep.now)

    def tunnel_opened(self, worker: Worker, session_id: str | None, tunnel: Tunnel) -> None:
        self.tunnels[tunnel] = worker
        self._row.add(TUNNELS, worker.index)
        self.metrics.tunnel_opened(worker.name)
        if session_id is None:
            return
        waited = self._pending.connected(session_id)
        if waited is not None:
            self._row.add(PAGES, waited.index, -1)
            self.metrics.page_connected(waited.name)
        elif self._board.several:
            self._pages.connected(session_id, self._sweep.now)

    def tunnel_closed(self, tunnel: Tunnel) -> None:
        worker = self.tunnels.pop(tunnel)
        if tunnel.closed_by == "worker" and not tunnel.worker.scanner.messages:
            self.answered_badly(worker)
        self._row.add(TUNNELS, worker.index, -1)
        self.metrics.tunnel_closed(worker.name)

    def _expire_pages(self, now: float) -> None:
        self.live.publish(now)
        if self.placement.untold:
            self.placement.tell(now)
        for worker in self._pending.expire(now):
            self._row.add(PAGES, worker.index, -1)
            self.metrics.page_expired(worker.name)
        for worker in self._pages.expire(now):
            self.metrics.page_expired(worker.name)
        if self.lock.forced:
            self.lock.forced = 0
            log.warning("a gateway process was stopped while it held the others' lock; they went on without it")

    # Who can be used.

    def set_up(self, worker: Worker, up: bool) -> None:
        """Whether the worker can be used changed, or was told anew."""
        changed = worker.up != up or worker.trial
        worker.up = up
        if not up:
            self.live.forget(worker, self._loop.time())
        worker.trial = False
        self.metrics.worker_up.set(worker.name, to=int(up))
        pool = self._pool_of.get(worker)
        if not changed or pool is None:
            return
        if up:
            worker.coming = 0.0
            if worker.slow_start:
                self._rising[worker] = self._loop.time()
                self._grow(self._loop.time())
            self._loop.call_soon(self.waiting.worker_came, pool)
        elif worker.answered and worker.coming < NEVER:
            worker.coming = self._loop.time() + pool.hold

    def answered_badly(self, worker: Worker) -> None:
        """5xx, no whole answer, or a WebSocket that ended before its first message."""
        pool = self._pool_of.get(worker)
        if pool is not None:
            self.outcomes.bad(worker, pool, self._sweep.now)

    def _grow(self, now: float) -> None:
        """The shares of workers in their slow start."""
        for worker, since in list(self._rising.items()):
            worker.share = slow_start_share(worker.weight, now - since, worker.slow_start)
            if worker.share >= worker.weight:
                del self._rising[worker]

    def condemn(self, worker: Worker, condemned: bool) -> None:
        """Probes took the worker out of use, or brought it back."""
        if condemned:
            self._condemned.add(worker)
        else:
            self._condemned.discard(worker)
        self.set_up(worker, not condemned)

    def expect(self, worker: Worker, until: float = NEVER) -> None:
        """The worker starts (or, with 0, is not to be waited for): requests wait for it."""
        worker.coming = until

    def _found(self, worker: Worker, up: bool) -> None:
        self.set_up(worker, up)
        if self.on_found is not None:
            self.on_found(worker)

    def refused(self, worker: Worker, error: WorkerRefused) -> None:
        """Nobody listens there: the worker gets nothing until it can be reached again."""
        self.metrics.upstream_retries.add(worker.name)
        if worker.up:
            log.warning("%s; it is out of use, and tried again every %g s", error, TRY_AGAIN)
            self._found(worker, False)
        if worker not in self._probing:
            self._probing[worker] = self._loop.create_task(self._probe(worker))

    async def _probe(self, worker: Worker) -> None:
        link = self.links[worker.index]
        try:
            while not worker.up:
                await asyncio.sleep(TRY_AGAIN)
                if worker in self._condemned:
                    continue
                try:
                    upstream = await link.connect(self._connect_timeout)
                except WorkerRefused:
                    continue
                link.release(upstream)
                if not worker.up:
                    log.warning("%s at %s answers again", worker.name, worker.address)
                    self._found(worker, True)
        finally:
            del self._probing[worker]

    # What the master says.

    def apply(self, roster: Roster) -> None:
        """Workers as the master has them now: those that stay keep their connections and counts."""
        known = {worker.name: worker for worker in self.workers()}
        workers: dict[str, Worker] = {}
        pools = {entry["name"]: self._pool(entry) for entry in roster}
        came: set[Pool] = set()
        for entry in roster:
            members: list[Worker] = []
            for item in entry["workers"]:
                worker = workers[item["name"]] = known.get(item["name"]) or self._member(item)
                if worker.draining and not item["draining"]:
                    came.add(pools[entry["name"]])
                update(worker, item)
                self._pool_of[worker] = pools[entry["name"]]
                members.append(worker)
            pools[entry["name"]].replace(members)
            self.outcomes.allowed[entry["name"]] = entry["failures"]
        for name in self.pools.keys() - pools.keys():
            self.pools[name].replace(())  # connections with an earlier configuration still know it
        self.pools = pools
        for name in known.keys() - workers.keys():
            self._drop(known[name])
        for pool in came:
            self.waiting.worker_came(pool)

    def tell(self, name: str, change: Entry) -> None:
        """What changed of a worker, see `Entry`."""
        worker = self.find(name)
        if worker is None:
            return
        update(worker, change)
        if change.get("started"):
            self.outcomes.forget(worker)
        if "closed" in change or "draining" in change:
            self._drained(worker)
        if "condemned" in change:
            self.condemn(worker, change["condemned"])
        if "up" in change:
            self.set_up(worker, change["up"])
        if "coming" in change:
            self.expect(worker, NEVER if change["coming"] else 0.0)

    def _drained(self, worker: Worker) -> None:
        """Its drain began, ended, or was called off."""
        pool = self._pool_of.get(worker)
        if pool is None:
            return
        pool.replace(pool.workers)
        if worker.closed:
            self.live.release(worker, self._loop.time())
            for tunnel in [tunnel for tunnel, owner in self.tunnels.items() if owner is worker]:
                tunnel.reason = tunnel.reason or "worker-drained: its time to drain is over"
                tunnel.end(GOES_ON_ELSEWHERE, "the worker was drained")
            return
        self.live.keep(worker)
        if worker.available:
            self.waiting.worker_came(pool)

    def workers(self) -> list[Worker]:
        """All workers of all pools."""
        return [worker for pool in self.pools.values() for worker in pool.workers]

    def find(self, name: str) -> Worker | None:
        """The worker of that name."""
        return next((worker for worker in self.workers() if worker.name == name), None)

    def _pool(self, entry: Entry) -> Pool:
        pool = self.pools.get(entry["name"])
        if pool is None or pool.kind != entry["kind"]:
            pool = Pool(entry["name"], entry["kind"], ())
        pool.hold, pool.max_sessions = entry["hold"], entry["max_sessions"]
        pool.queue, pool.queue_timeout = entry["queue"], entry["queue_timeout"]
        pool.spread = entry["spread"]
        return pool

    def _member(self, entry: Entry) -> Worker:
        worker = Worker(
            entry["name"],
            Address(**entry["address"]),
            index=entry["index"],
            up=entry["up"],
            backup=entry["backup"],
            coming=NEVER if entry["coming"] else 0.0,
        )
        self.links[worker.index] = Link(worker.name, worker.address, self._loop, self._sweep)
        self.metrics.worker_up.set(worker.name, to=int(worker.up))
        if entry["condemned"]:
            self._condemned.add(worker)
        return worker

    def _drop(self, worker: Worker) -> None:
        worker.up = False
        task = self._probing.get(worker)
        if task is not None:
            task.cancel()
        self.links[worker.index].close()
        self.live.forget(worker, self._loop.time())
        self.outcomes.forget(worker)
        self._pool_of.pop(worker, None)
        self._rising.pop(worker, None)
        self._condemned.discard(worker)
        self.metrics.worker_up.values.pop((worker.name,), None)

    def close(self) -> None:
        for task in list(self._probing.values()):
            task.cancel()
        for link in self.links.values():
            link.close()


def update(worker: Worker, change: Entry) -> None:
    """What can change of a worker without anybody having to hear of it."""
    for name in ("backup", "slow_start", "draining", "closed", "slow", "keeps"):
        if name in change:
            setattr(worker, name, change[name])
    if "weight" in change and change["weight"] != worker.weight:
        worker.weight = worker.share = change["weight"]
    if change.get("started"):
        worker.answered = True
