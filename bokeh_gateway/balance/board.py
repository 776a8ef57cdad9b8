"""How busy each worker is, summed over all gateway processes: one small array in shared memory.

One row a process, one column a worker.  Each process writes only its own row, and an aligned 64-bit number is read and
written whole, so sums need no lock; a sum that is a moment old picks a worker as well.  The master makes the memory,
hands it to each process as a descriptor, and clears the row of a process that died.

A common row, which is written under a lock, is for what one process begins and another ends: pages, where there are
several processes.
"""

from __future__ import annotations

import mmap
from typing import Final

TUNNELS: Final = 1
"""Open WebSockets."""
PAGES: Final = 2
"""Pages served whose WebSocket has not come yet."""
REQUESTS: Final = 3
"""Requests in flight."""

_LOAD: Final = 0
"""The sum of the three: it is what every pick reads, for all workers at once.  Requests, by far the most frequent,
are counted in it alone."""
_SERVED: Final = 3
"""Pages that made a session, ever: no part of any load."""
_PLANES: Final = 4
_CELL: Final = 8


class Row:
    """One process's counts.  Only that process may write it."""

    __slots__ = ("_cells", "_columns")

    def __init__(self, cells: memoryview[int], columns: int) -> None:
        self._cells = cells
        self._columns = columns

    def add(self, kind: int, column: int, by: int = 1) -> None:
        """Count `by` more (or fewer) TUNNELS, PAGES or REQUESTS at the worker of `column`."""
        cells = self._cells
        cells[column] += by
        if kind != REQUESTS:
            cells[kind * self._columns + column] += by

    def served(self, column: int) -> None:
        """Count one page that made a session at the worker of `column`."""
        self._cells[_SERVED * self._columns + column] += 1

    def request(self, column: int, by: int) -> None:
        """`add` of REQUESTS, twice for each request."""
        self._cells[column] += by

    def get(self, kind: int, column: int) -> int:
        """What this process counted."""
        return _count(self._cells, self._columns, kind, column)


def board_size(columns: int, rows: int) -> int:
    """Bytes of a board.  Two rows more: for what processes that are gone had served, and the common one."""
    return (rows + 2) * columns * _PLANES * _CELL


class Board:
    """`columns` workers by `rows` processes, all zero in fresh memory.

    `fd` is memory of `board_size` bytes that other processes map too; without it only forked children share the board.
    """

    def __init__(self, columns: int, rows: int = 1, fd: int = -1) -> None:
        """Raises:
        ValueError: no column or no row.
        """
        if columns < 1 or rows < 1:
            raise ValueError(f"board of {rows} rows by {columns} columns: expected at least 1 by 1")
        self.columns = columns
        self.rows = rows
        view = memoryview(mmap.mmap(fd, board_size(columns, rows))).cast("q")
        size = columns * _PLANES
        self._cells = [view[i * size : (i + 1) * size] for i in range(rows)]
        self._gone = view[rows * size : (rows + 1) * size]
        self._common = view[(rows + 1) * size : (rows + 2) * size]
        self.common = Row(self._common, columns)
        """Whoever writes it holds the lock."""
        self.several = False
        """Whether there are several processes."""
        self.rows_in_use = rows
        self._loads: list[memoryview[int]] = []
        self._used: list[memoryview[int]] = []
        self.use(columns, rows)

    def use(self, columns: int, rows: int) -> None:
        """Sums look at the first `columns` workers and the first `rows` processes only: a pick costs no more."""
        # A row that was never read is no memory either.
        self.several = rows > 1
        self.rows_in_use = rows
        self._used = [*self._cells[:rows], self._common]
        self._loads = [cells[:columns] for cells in (self._used if rows > 1 else self._cells[:1])]

    def row(self, i: int) -> Row:
        """The row that process `i` writes."""
        return Row(self._cells[i], self.columns)

    def loads(self) -> list[int]:
        """Tunnels, pages and requests of every worker, over all processes, by column."""
        if len(self._loads) == 1:
            return self._loads[0].tolist()
        return list(map(sum, zip(*self._loads, strict=True)))

    def load(self, column: int) -> int:
        """The same for one worker."""
        return sum(cells[column] for cells in self._used)

    def total(self, kind: int, column: int) -> int:
        """TUNNELS, PAGES or REQUESTS of one worker over all processes: for metrics and for the end of a drain."""
        return sum(_count(cells, self.columns, kind, column) for cells in self._used)

    def served(self, column: int) -> int:
        """Pages that made a session at a worker, in processes that are gone too."""
        place = _SERVED * self.columns + column
        return self._gone[place] + sum(cells[place] for cells in self._used)

    def forget_served(self, column: int) -> None:
        """Another worker process has the column: what it served begins at 0.  The old one may get nothing any more."""
        for cells in (*self._used, self._gone):
            cells[_SERVED * self.columns + column] = 0

    def clear_row(self, i: int) -> None:
        """Forget what a dead process counted, but for the pages that it served.  Nobody may be writing the row."""
        cells = self._cells[i]
        for place in range(_SERVED * self.columns, (_SERVED + 1) * self.columns):
            self._gone[place] += cells[place]
        _clear(cells)

    def clear_common(self) -> None:
        """Forget what is in the common row."""
        _clear(self._common)


def _clear(cells: memoryview[int]) -> None:
    cells[:] = memoryview(bytes(len(cells) * _CELL)).cast("q")


def _count(cells: memoryview[int], columns: int, kind: int, column: int) -> int:
    if kind != REQUESTS:
        return cells[kind * columns + column]
    return cells[column] - cells[TUNNELS * columns + column] - cells[PAGES * columns + column]
