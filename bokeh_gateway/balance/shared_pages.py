"""Pages that wait for their WebSocket, where several processes serve: it may come to another one than the page did.

The counts are in the board's common row, written under the table's lock.  Each process ends the waiting of the pages
that it served; whoever gets the WebSocket ends it earlier.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from bokeh_gateway.balance.board import PAGES, Board
from bokeh_gateway.balance.pending import LIFETIME
from bokeh_gateway.balance.pool import Worker
from bokeh_gateway.balance.session_table import SessionTable

SLOTS: Final = 1 << 14


def page_key(session_id: str) -> bytes:
    """Stands for the page of a session."""
    return blake2b(session_id.encode("utf-8", "surrogatepass"), digest_size=16, person=b"page").digest()


class SharedPages:
    """As one process, with the board's row `row`, sees them."""

    def __init__(self, table: SessionTable, board: Board, row: int) -> None:
        self._table = table
        self._common = board.common
        self._row = row
        # All live equally long, so a dict's own order is the order of their ends.
        self._own: dict[bytes, tuple[Worker, float]] = {}

    def __len__(self) -> int:
        return len(self._own)

    def served(self, session_id: str, worker: Worker, now: float) -> bool:
        """A page of the session went out: it counts at `worker` and nowhere else.  False: no place, so it does not."""
        key = page_key(session_id)
        self._own.pop(key, None)
        table = self._table
        with table.lock:
            self._take(key, now)
            # Open as long as it counts: such an entry never makes room for others.
            if not table.put(key, worker.index, now, LIFETIME):
                return False
            table.set_open(key, self._row, True)
            self._common.add(PAGES, worker.index)
        self._own[key] = (worker, now)
        return True

    def waits(self, session_id: str, now: float) -> bool:
        """Whether a page of the session is counted."""
        with self._table.lock:
            return self._table.get(page_key(session_id), now) is not None

    def connected(self, session_id: str, now: float) -> bool:
        """The WebSocket came: the page counts no longer.  False: none is known."""
        key = page_key(session_id)
        self._own.pop(key, None)
        with self._table.lock:
            return self._take(key, now)

    def expire(self, now: float) -> list[Worker]:
        """The workers of the pages of this process whose WebSocket is no longer to be expected, one item a page."""
        gone: list[Worker] = []
        while self._own:
            key, (worker, since) = next(iter(self._own.items()))
            if now < since + LIFETIME:
                break
            del self._own[key]
            with self._table.lock:
                entry = self._table.get(key, now)
                if entry is not None and entry.stamp == since and self._take(key, now):
                    gone.append(worker)
        return gone

    def _take(self, key: bytes, now: float) -> bool:
        entry = self._table.get(key, now)
        if entry is None:
            return False
        self._table.remove(key)
        self._common.add(PAGES, entry.value, -1)
        return True


def forget_row(table: SessionTable, board: Board, row: int, now: float) -> None:
    """Process `row` has ended, and its pages with it; what counts is counted anew, as it may have died in mid-count."""
    table.leave(row, now, remove=True)
    with table.lock:
        board.clear_common()
        for column in table.values():
            board.common.add(PAGES, column)
