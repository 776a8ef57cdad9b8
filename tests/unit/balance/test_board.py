"""The shared counts, among real processes."""

from __future__ import annotations

import os
import signal

import pytest

from bokeh_gateway.balance.board import PAGES, REQUESTS, TUNNELS, Board


def test_a_load_is_the_sum_of_what_is_counted() -> None:
    """Tunnels, pages and requests, each to be had alone as well."""
    board = Board(3, 2)
    board.row(0).add(TUNNELS, 1, 5)
    board.row(0).add(PAGES, 1)
    board.row(1).add(REQUESTS, 1, 2)
    board.row(1).add(REQUESTS, 2)
    board.row(1).add(REQUESTS, 2, -1)
    assert board.loads() == [0, 8, 0] == [board.load(column) for column in range(3)]
    assert [board.total(kind, 1) for kind in (TUNNELS, PAGES, REQUESTS)] == [5, 1, 2]
    assert board.row(0).get(TUNNELS, 1) == 5
    assert board.row(1).get(TUNNELS, 1) == 0


def test_one_row_is_read_like_several() -> None:
    """The short way for a single process."""
    board = Board(2)
    board.row(0).add(PAGES, 1)
    assert board.loads() == [0, 1]


def test_a_cleared_row_takes_only_its_own_counts_along() -> None:
    """And can be used again, by the process that comes in its place."""
    board = Board(2, 3)
    rows = [board.row(i) for i in range(3)]
    for row in rows:
        row.add(TUNNELS, 0, 7)
        row.add(REQUESTS, 1, 9)
    board.clear_row(1)
    assert board.loads() == [14, 18]
    assert board.total(TUNNELS, 0) == 14
    rows[1].add(TUNNELS, 0)
    assert board.loads() == [15, 18]


def test_pages_served_are_counted_for_ever_and_are_no_load() -> None:
    """Also when the process that served them is gone; until another worker has the column."""
    board = Board(2, 2)
    for _ in range(3):
        board.row(0).served(1)
    board.row(1).served(1)
    board.row(1).served(0)
    assert ([board.served(column) for column in (0, 1)], board.loads()) == ([1, 4], [0, 0])
    board.clear_row(0)
    board.clear_row(0)
    assert board.served(1) == 4
    board.forget_served(1)
    assert [board.served(column) for column in (0, 1)] == [1, 0]
    board.row(0).served(1)
    assert board.served(1) == 1


@pytest.mark.parametrize(("columns", "rows"), [(0, 1), (1, 0), (-1, 1)])
def test_a_board_has_a_cell(columns: int, rows: int) -> None:
    """A pool has a worker, and there is a process."""
    with pytest.raises(ValueError, match="at least 1 by 1"):
        Board(columns, rows)


def test_counts_of_processes_are_exact_after_one_is_killed() -> None:
    """Each process counts in its own row; the master clears the row of one that got SIGKILL in mid-count."""
    board, times = Board(4, 3), 20_000
    read, write = os.pipe()
    children = [_fork(board, i, times, write) for i in range(3)]
    os.close(write)
    assert len(os.read(read, 1)) == 1, "the process that never stops has begun"
    os.kill(children[0], signal.SIGKILL)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    os.close(read)
    assert os.WTERMSIG(statuses[0]) == signal.SIGKILL
    assert statuses[1:] == [0, 0]
    assert board.total(TUNNELS, 0) > 0, "what it had counted is still there"
    board.clear_row(0)
    assert board.loads() == [0, times, times, 0]
    assert board.total(TUNNELS, 1) == board.total(PAGES, 2) == times


def _fork(board: Board, i: int, times: int, write: int) -> int:
    """Process `i` counts in column `i`: number 0 without end, 1 tunnels, 2 pages, and gives back all of column 3."""
    child = os.fork()
    if child:
        return child
    row = board.row(i)
    while i == 0:
        row.add(TUNNELS, 0)
        if row.get(TUNNELS, 0) == 1000:
            os.write(write, b"x")
    for _ in range(times):
        row.add(i, i)
        row.add(REQUESTS, 3)
        row.add(REQUESTS, 3, -1)
    os._exit(0)
