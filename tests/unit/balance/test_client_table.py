"""Connections of each client, as several processes count them."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

import pytest

from bokeh_gateway.balance.board import Board
from bokeh_gateway.balance.client_table import KEY, SLOTS, WINDOW, ClientTable
from bokeh_gateway.balance.lock import Lock
from bokeh_gateway.balance.shared import Shared, shared_size
from bokeh_gateway.balance.tally import Tally, lone_tally
from bokeh_gateway.control.memory import shared_memory

ONE, OTHER = b"1" * KEY, b"2" * KEY


@pytest.fixture
def shared() -> Iterator[Shared]:
    made = Shared(1, 3, shared_memory(shared_size(1, 3)))
    yield made
    made.close()


def tallies(shared: Shared, *, limit: bool = True) -> list[Tally]:
    """Of three processes."""
    made = [shared.tally(row) for row in range(3)]
    for tally in made:
        tally.share(limit)
    return made


def test_a_client_is_counted_over_all_processes(shared: Shared) -> None:
    one, two, three = tallies(shared)
    assert [tally.enter("a", limited=True) for tally in (one, two, two, three)] == [1, 2, 3, 4]
    assert one.enter("b", limited=True) == 1
    two.leave("a")
    assert [tally.of("a") for tally in (one, two, three)] == [3, 3, 3]
    assert three.enter("a", limited=True) == 4
    assert one.total() == 5
    for tally in (one, two, three, three):
        tally.leave("a")
    assert (one.of("a"), one.of("b"), one.total()) == (0, 1, 1)


@pytest.mark.parametrize("row", [0, 1, 2])
def test_a_killed_process_takes_what_it_had_open_and_nothing_else(row: int, shared: Shared) -> None:
    both = tallies(shared)
    for number, tally in enumerate(both):
        for _ in range(number + 1):
            tally.enter("a", limited=True)
        tally.enter(f"only {number}", limited=True)
    shared.clear_row(row, 0.0)
    (other, *_) = (tally for number, tally in enumerate(both) if number != row)
    assert other.of("a") == 6 - (row + 1)
    assert [other.of(f"only {number}") for number in range(3)] == [number != row for number in range(3)]
    assert other.total() == 9 - (row + 2)
    successor = shared.tally(row)
    successor.share(True)
    assert successor.enter("a", limited=True) == 6 - row


def test_a_client_without_a_limit_is_told_to_nobody(shared: Shared) -> None:
    """As the connections of a trusted proxy, which are many clients'."""
    one, two, _ = tallies(shared)
    assert one.enter("proxy", limited=False) == 0
    assert two.of("proxy") == 0
    assert two.total() == 1
    one.leave("proxy")
    assert two.total() == 0


def test_a_process_that_shares_with_nobody_has_its_own_count() -> None:
    """As the master's, for who asks for metrics."""
    tally = lone_tally()
    assert [tally.enter(client, limited=True) for client in "aab"] == [1, 2, 1]
    assert (tally.of("a"), tally.total()) == (2, 3)


def test_a_limit_that_a_reload_brings_knows_who_is_there(shared: Shared) -> None:
    one, two, _ = tallies(shared, limit=False)
    assert [one.enter("a", limited=True), one.enter("a", limited=True), two.enter("a", limited=True)] == [1, 2, 1]
    one.share(True)
    two.share(True)
    assert two.enter("a", limited=True) == 4
    one.share(False)
    assert two.of("a") == 2, "who has no limit any more tells nothing that grows old"
    one.leave("a")
    one.share(True)
    assert two.of("a") == 3


def test_a_full_window_leaves_a_client_to_the_process_that_it_is_at() -> None:
    table = ClientTable(Lock(), slots=1)
    assert all(table.put(bytes([n]) * KEY, 0, 1) for n in range(1, WINDOW + 1))
    assert not table.put(ONE[:-1] + b"x", 0, 1)
    tally = Tally(table, memoryview(bytearray(8)).cast("q"), 0, b"", Board(1))
    tally.share(True)
    assert [tally.enter("late", limited=True) for _ in range(3)] == [1, 2, 3]
    assert tally.of("late") == 3
    tally.leave("late")
    assert tally.enter("late", limited=True) == 3


def test_a_lost_update_is_made_good_by_the_next_one() -> None:
    """One that went on without the lock may have been overwritten."""
    table = ClientTable(Lock())
    table.put(ONE, 0, 2)
    table.leave(0)
    assert not table.update(ONE, 0, 1)
    assert table.put(ONE, 0, 3)
    assert table.total(ONE) == 3


def test_the_largest_default_crowd_finds_a_place() -> None:
    """Three times what `[limits] connections` lets in, all of different clients."""
    table = ClientTable(Lock())
    keys = [blake2b(n.to_bytes(4, "big"), digest_size=KEY).digest() for n in range(60_000)]
    assert len(keys) < SLOTS
    assert all(table.put(key, 0, 1) for key in keys)
    assert table.total(OTHER) == 0
