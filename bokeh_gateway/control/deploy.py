"""A new generation of a pool's workers beside the old one: it gets the new sessions once all of it is ready.

What does not get ready is ended again, and nobody outside noticed.  The old generation ends with its sessions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from bokeh_gateway.balance.board import TUNNELS, Board
from bokeh_gateway.control.pools import Group, Plan, Pools
from bokeh_gateway.control.workers import EventKind, WorkerEvent
from bokeh_gateway.errors import ConfigError, Refused
from bokeh_gateway.units import format_duration

log = logging.getLogger(__name__)

LAST_LINES: Final = 20
"""Of a worker that did not get ready, for whoever deployed it."""


class Deploys:
    """All that are under way.

    Args:
        plan: what the pools would be with the configuration in force and new workers for the pool of that name.
    """

    def __init__(self, pools: Pools, board: Board, plan: Callable[[str], Plan]) -> None:
        self._pools = pools
        self._board = board
        self._plan = plan
        self._under_way: set[str] = set()

    @property
    def under_way(self) -> list[str]:
        """Pools that are being deployed."""
        return sorted(self._under_way)

    async def deploy(self, name: str, linger: float, setting: str) -> str:
        """Deploys a pool; what to tell the operator.  `linger`: seconds that the old sessions have, by `setting`.

        Raises:
            Refused: it cannot be done, or did not get ready: everything is as before.
        """
        if name in self._under_way:
            raise Refused(f"a deploy of pool {name} is under way")
        self._under_way.add(name)
        try:
            return await self._deploy(name, linger, setting)
        finally:
            self._under_way.discard(name)

    async def _deploy(self, name: str, linger: float, setting: str) -> str:
        earlier = self._serving(name)
        failed: asyncio.Future[WorkerEvent] = asyncio.get_running_loop().create_future()

        def watch(event: WorkerEvent) -> None:
            if event.kind is EventKind.EXITED and not failed.done():
                failed.set_result(event)

        try:
            group = self._pools.stage(self._plan(name), name, watch)
        except ConfigError as error:
            raise Refused(f"pool {name} cannot be deployed: {error}") from error
        count = len(group.workers)
        log.warning(
            "deploy of pool %s: %d workers of generation %d start beside the earlier one", name, count, group.generation
        )
        try:
            await self._settled(group, failed)
            if failed.done():
                raise Refused(self._why(name, group, failed.result()))
            if group.leaving or self._pools.groups[name][-1] is not group:
                raise Refused(f"a reload has changed pool {name} meanwhile; the deploy is given up")
        except BaseException:
            if not group.leaving:
                await self._pools.discard(group)
            raise
        open_now = sum(self._board.total(TUNNELS, worker.index) for old in earlier for worker in old.workers)
        self._pools.promote(group, linger)
        told = f"generation {group.generation} takes new sessions, {count} workers; "
        told += f"the earlier one ends with its {open_now} WebSockets, {setting} = {format_duration(linger)} at most"
        log.warning("deploy of pool %s: %s", name, told)
        return f"pool {name}: {told}"

    def _serving(self, name: str) -> list[Group]:
        groups = self._pools.groups.get(name)
        if groups is None:
            raise Refused(f"no pool is named {name!r}; there are: {', '.join(self._pools.groups) or 'none'}")
        if groups[-1].supervisor is None:
            raise Refused(f"the gateway does not run the workers of pool {name}: it has `servers`, and no `serve`")
        serving = [group for group in groups if not group.leaving]
        if not serving:
            raise Refused(f"pool {name} goes: the configuration does not name it any more")
        return serving

    @staticmethod
    async def _settled(group: Group, failed: asyncio.Future[WorkerEvent]) -> None:
        """Until all are ready, or the first one failed."""
        assert group.supervisor is not None
        await group.supervisor.start()
        settled = asyncio.ensure_future(group.supervisor.settled())
        try:
            wanted: set[asyncio.Future[Any]] = {settled, failed}
            await asyncio.wait(wanted, return_when=asyncio.FIRST_COMPLETED)
        finally:
            settled.cancel()

    @staticmethod
    def _why(name: str, group: Group, event: WorkerEvent) -> str:
        detail = event.detail.rpartition("; next start")[0] or event.detail
        log.error(
            "deploy of pool %s: worker %s of generation %d %s; the earlier generation serves on",
            *(name, event.worker, group.generation, detail),
        )
        lines = "".join(f"\n| {line}" for line in event.last_lines[-LAST_LINES:])
        return f"pool {name}: worker {event.worker} {detail}; nothing was changed" + (
            f"; its last lines:{lines}" if lines else ""
        )
