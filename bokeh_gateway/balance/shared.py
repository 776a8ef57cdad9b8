"""The memory that all processes of a gateway share: the board of counts, what is known of sessions, and limits.

The master makes it and hands it on as a descriptor, through reloads and upgrades.
"""

from __future__ import annotations

import mmap
import os
from typing import Final

from bokeh_gateway.balance import shared_pages
from bokeh_gateway.balance.board import Board, board_size
from bokeh_gateway.balance.client_table import ClientTable, client_table_size
from bokeh_gateway.balance.lock import Lock
from bokeh_gateway.balance.rate_table import Rates, RateTable, rate_table_size
from bokeh_gateway.balance.session_table import SLOTS, SessionTable, table_size
from bokeh_gateway.balance.shared_pages import SharedPages
from bokeh_gateway.balance.shared_queue import SharedQueues, queues_size
from bokeh_gateway.balance.tally import Tally

SECRET: Final = 32
"""Bytes."""
SIGN_OUTS: Final = 1 << 14
SIGN_INS: Final = 1 << 14
LAYOUT: Final = 7
"""Changes with the meaning of the bytes; programs of different layouts cannot share memory."""


class Shared:
    """For `columns` workers and `rows` processes.

    `fd` is memory of `shared_size` bytes that other processes map too, and stays the caller's; without it only this
    process has it.
    """

    def __init__(self, columns: int, rows: int = 1, fd: int = -1) -> None:
        self._fd = os.dup(fd) if fd >= 0 else -1
        self.lock = Lock(self._fd)
        at = _offsets(columns, rows)
        self.board = Board(columns, rows, self._fd)
        self.placements = SessionTable(self.lock, SLOTS, self._fd, at["placements"])
        """Sessions whose ids other programs made: the seed of the worker."""
        self.live = SessionTable(self.lock, SLOTS, self._fd, at["live"])
        """Sessions that are known to live: the seed of the worker."""
        self.pages = SessionTable(self.lock, shared_pages.SLOTS, self._fd, at["pages"])
        """Pages that wait for their WebSocket: the column of the worker."""
        self.sign_outs = SessionTable(self.lock, SIGN_OUTS, self._fd, at["sign_outs"])
        """Who signed out before his session ended."""
        self.sign_out_count = memoryview(mmap.mmap(self._fd, 8, offset=at["sign_out_count"])).cast("Q")
        self.sign_ins = SessionTable(self.lock, SIGN_INS, self._fd, at["sign_ins"])
        """When the newest credentials end, and who refreshes which session."""
        self.queues = SharedQueues(self.lock, self._fd, at["queues"])
        self._secret = mmap.mmap(self._fd, SECRET, offset=at["secret"])
        self.restarts = memoryview(mmap.mmap(self._fd, columns * 8, offset=at["restarts"])).cast("d")
        """By column: when its worker was last found gone, and may have lost its sessions."""
        self._clients = ClientTable(self.lock, self._fd, at["clients"])
        self._held = memoryview(mmap.mmap(self._fd, rows * 8, offset=at["held"])).cast("q")
        self._rates = RateTable(self.lock, self._fd, at["rates"])

    @property
    def secret(self) -> bytes:
        """Signs what one process gives a browser and another one reads."""
        return self._secret[:]

    def set_secret(self, secret: bytes) -> None:
        """The master's to do, once: `SECRET` random bytes."""
        self._secret[:] = secret

    def own_pages(self, row: int) -> SharedPages:
        """Waiting pages as process `row` sees them."""
        return SharedPages(self.pages, self.board, row)

    def tally(self, row: int) -> Tally:
        """Open connections as process `row` counts them."""
        return Tally(self._clients, self._held, row, self.secret, self.board)

    def rates(self, kind: bytes) -> Rates:
        """How often something of a kind was done; at most 16 bytes name it."""
        return Rates(self._rates, kind, self.secret)

    def clear_row(self, row: int, now: float) -> None:
        """A process has ended: what it counted and had open is forgotten."""
        self.board.clear_row(row)
        self.placements.leave(row, now)
        self.live.leave(row, now)
        self._held[row] = 0
        self._clients.leave(row)
        shared_pages.forget_row(self.pages, self.board, row, now)

    def close(self) -> None:
        """Lets go of the descriptor; the memory lives as long as it is mapped somewhere."""
        if self._fd >= 0:
            self.lock.release_file()
            os.close(self._fd)
            self._fd = -1


def shared_size(columns: int, rows: int) -> int:
    """Bytes of it all."""
    return _offsets(columns, rows)["end"]


def _offsets(columns: int, rows: int) -> dict[str, int]:
    sizes = {
        "board": board_size(columns, rows),
        "restarts": columns * 8,
        "queues": queues_size(),
        "secret": SECRET,
        "sign_outs": table_size(SIGN_OUTS),
        "sign_out_count": 8,
        "sign_ins": table_size(SIGN_INS),
        "placements": table_size(SLOTS),
        "live": table_size(SLOTS),
        "pages": table_size(shared_pages.SLOTS),
        "clients": client_table_size(),
        "held": rows * 8,
        "rates": rate_table_size(),
    }
    at, offsets = 0, {}
    for name, size in sizes.items():
        offsets[name] = at
        at += -(-size // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
    return {**offsets, "end": at}
