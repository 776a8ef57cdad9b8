"""What `bokeh-gateway ctl` may ask of a running gateway, and the answers in plain values."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from bokeh_gateway.balance.board import PAGES, REQUESTS, TUNNELS, Board
from bokeh_gateway.balance.pool import Worker
from bokeh_gateway.control.draining import Drains
from bokeh_gateway.control.pools import Group, Pools
from bokeh_gateway.errors import Refused

log = logging.getLogger(__name__)

Answer = dict[str, Any]
Command = Callable[[str, float | None], Awaitable[str]]
"""Target, and seconds for sessions to end (None: as configured) -> what to tell the operator; raises `Refused`."""
NO_TARGET: Final = ("status", "reload", "upgrade")


class Commands:
    """Hands each command to whoever does it.

    Args:
        status: what the master knows beside its pools, in plain values.
        others: commands by name.
    """

    def __init__(
        self, pools: Pools, board: Board, drains: Drains, status: Callable[[], Answer], others: Mapping[str, Command]
    ) -> None:
        self._pools = pools
        self._board = board
        self._drains = drains
        self._status = status
        self._others = dict(others)

    async def answer(self, command: str, target: str, limit: float | None) -> Answer:
        """`{"ok": true, "said": "..."}`, for `status` all that there is; or `{"ok": false, "error": "..."}`."""
        if command == "status":
            return {"ok": True, **self._status(), "pools": self._pool_list()}
        doing = self._others.get(command)
        if doing is None:
            known = ", ".join(("status", *self._others))
            return {"ok": False, "error": f"no command is named {command!r}; there are: {known}"}
        if bool(target) == (command in NO_TARGET):
            return {"ok": False, "error": f"{command} takes {'no' if target else 'a'} name"}
        log.warning("asked by ctl: %s", f"{command} {target}".strip())
        try:
            return {"ok": True, "said": await doing(target, limit)}
        except Refused as why:
            log.warning("ctl %s: refused: %s", f"{command} {target}".strip(), why)
            return {"ok": False, "error": str(why)}
        except asyncio.CancelledError:
            return {"ok": False, "error": "the gateway stops"}

    def _pool_list(self) -> list[Answer]:
        return [
            {
                "name": name,
                "kind": pool.kind,
                "generation": groups[-1].generation,
                "workers": [self._worker(worker, group) for group in groups for worker in group.workers],
            }
            for name, groups in self._pools.groups.items()
            if (pool := self._pools.pools.get(name)) is not None
        ]

    def _worker(self, worker: Worker, group: Group) -> Answer:
        pids = group.supervisor.pids if group.supervisor is not None else {}
        return {
            "name": worker.name,
            "address": str(worker.address),
            "pid": pids.get(worker.name),
            "generation": group.generation,
            "state": self._state(worker, group),
            "up": worker.up,
            "slow": worker.slow,
            "draining": worker.draining,
            "drained": worker.draining and not self._board.total(TUNNELS, worker.index) and self._over(worker),
            "drain_left": self._drains.left(worker),
            "backup": worker.backup,
            "weight": worker.weight,
            "tunnels": self._board.total(TUNNELS, worker.index),
            "pages": self._board.total(PAGES, worker.index),
            "requests": self._board.total(REQUESTS, worker.index),
            "load": self._board.load(worker.index),
        }

    def _over(self, worker: Worker) -> bool:
        return worker.closed or not self._board.load(worker.index)

    def _state(self, worker: Worker, group: Group) -> str:
        """One or two words."""
        if group.leaving or worker.name in group.departing:
            return "leaving" if worker.up else "leaving, down"
        words = []
        if not worker.up:
            state = group.supervisor.states.get(worker.name, "down") if group.supervisor is not None else "down"
            words.append("down" if state == "ready" else state)
        if worker.draining:
            words.append("drained" if worker.closed else "draining")
        elif worker.slow:
            words.append("slow")
        return ", ".join(words) or "up"
