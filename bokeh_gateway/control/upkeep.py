"""What the master does for supervised workers once a second: replaces those that are worn out, keeps as many as needed,
and ends those that drained."""

from __future__ import annotations

from collections.abc import Callable

from bokeh_gateway.balance.board import Board
from bokeh_gateway.control.leaving import Leaving
from bokeh_gateway.control.pools import Pools
from bokeh_gateway.control.recycling import Recycling
from bokeh_gateway.control.scaling import Scaling


class Upkeep:
    """Of all pools.

    Args:
        linger: gives `[timeouts] reload_linger`.
        replaced: told the pool of each worker that was replaced.
    """

    def __init__(
        self, pools: Pools, board: Board, linger: Callable[[], float], replaced: Callable[[str], None]
    ) -> None:
        self._leaving = Leaving(pools, board)
        self._recycling = Recycling(pools, board, self._leaving, linger, replaced)
        self._scaling = Scaling(pools, board, self._leaving, linger, self._recycling.successor)

    def look(self, _now: float) -> None:
        """Once a second."""
        self._leaving.look()
        self._recycling.look()
        self._scaling.look()

    def close(self) -> None:
        """No worker is ended any more by this."""
        self._leaving.close()
