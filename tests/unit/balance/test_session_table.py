"""The table that all processes share, against a dict; and among real processes."""

from __future__ import annotations

import os
import signal
from hashlib import blake2b
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bokeh_gateway.balance.lock import Lock
from bokeh_gateway.balance.session_table import FIRST_LEVEL, WINDOW, SessionTable, levels_of, table_size
from bokeh_gateway.control.memory import shared_memory

KEEPS = 10.0


def key(number: int) -> bytes:
    return blake2b(str(number).encode(), digest_size=16).digest()


def beside(number: int, home: int = 0) -> bytes:
    """A key whose own place is `home`."""
    return home.to_bytes(4, "little") + key(number)[4:]


class Known(NamedTuple):
    """An entry of the model."""

    value: int
    stamp: float
    open: frozenset[int]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 11), st.integers(0, 2**64 - 1)),
        st.tuples(st.just("open"), st.integers(0, 11), st.integers(0, 255)),
        st.tuples(st.just("shut"), st.integers(0, 11), st.integers(0, 255)),
        st.tuples(st.just("remove"), st.integers(0, 11), st.just(0)),
        st.tuples(st.just("leave"), st.just(0), st.integers(0, 255)),
        st.tuples(st.just("wait"), st.just(0), st.integers(1, 12)),
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(STEPS)
def test_it_is_a_dict_whose_entries_end(steps: list[tuple[str, int, int]]) -> None:
    """While a process has an entry open it stays, however long; after that for as long as it was told to."""
    table, model, now = SessionTable(Lock(), 8), dict[int, Known](), 0.0
    for what, number, argument in steps:
        known = model.get(number)
        if what == "wait":
            now += argument
            model = {n: k for n, k in model.items() if k.open or now < k.stamp + KEEPS}
        elif what == "put":
            assert table.put(key(number), argument, now, KEEPS)
            rows = known.open if known is not None and known.value == argument else frozenset[int]()
            model[number] = Known(argument, now, rows)
        elif what == "remove":
            table.remove(key(number))
            model.pop(number, None)
        elif what == "leave":
            table.leave(argument, now)
            for n, k in model.items():
                if argument in k.open:
                    left = k.open - {argument}
                    model[n] = Known(k.value, k.stamp if left else now, left)
        elif known is not None:  # what is not known cannot be opened
            table.set_open(key(number), argument, what == "open")
            rows = known.open | {argument} if what == "open" else known.open - {argument}
            model[number] = known._replace(open=rows)
            if not rows and now >= known.stamp + KEEPS:
                del model[number]
        for n in range(12):
            entry = table.get(key(n), now)
            expected = model.get(n)
            assert (entry is None) is (expected is None)
            if entry is not None and expected is not None:
                assert (entry.value, entry.stamp) == expected[:2]
                bits = int.from_bytes(entry.open, "little")
                assert {row for row in range(256) if bits >> row & 1} == expected.open


@pytest.mark.parametrize("home", [0, 5, 7], ids=["first", "middle", "last"])
def test_keys_with_one_place_stand_side_by_side(home: int) -> None:
    """As many as a window has places, also at the table's end."""
    table = SessionTable(Lock(), 8)
    for number in range(WINDOW):
        assert table.put(beside(number, home), number, 0.0, KEEPS)
    assert [table.get(beside(n, home), 1.0).value for n in range(WINDOW)] == list(range(WINDOW))  # type: ignore[union-attr]


def test_a_full_window_forgets_what_would_end_first() -> None:
    """And never what is open; where all is, nothing more is remembered."""
    table = SessionTable(Lock(), 1)
    for number in range(WINDOW):
        table.put(beside(number), number, float(number), KEEPS)
        if number != 3:
            table.set_open(beside(number), 200, True)
    assert table.put(beside(100), 100, 5.0, KEEPS)
    assert table.get(beside(3), 5.0) is None
    assert table.get(beside(100), 5.0) is not None
    table.set_open(beside(100), 0, True)
    assert not table.put(beside(101), 101, 5.0, KEEPS)
    assert table.get(beside(101), 5.0) is None
    assert all(table.get(beside(n), 1e9) is not None for n in range(WINDOW) if n != 3)


def test_what_is_over_makes_room_first() -> None:
    """It is known no longer, so nobody loses anything."""
    table = SessionTable(Lock(), 1)
    for number in range(WINDOW):
        table.put(beside(number), number, 0.0, 1.0 if number == 9 else 1000.0)
    assert table.put(beside(100), 100, 5.0, KEEPS)
    assert all(table.get(beside(n), 5.0) is not None for n in range(WINDOW) if n != 9)


def test_bytes_that_look_like_a_key_are_none() -> None:
    """The search goes over whole entries, values included."""
    table, value = SessionTable(Lock(), 1), int.from_bytes(beside(1)[:8], "little")
    table.put(beside(0), value, 0.0, KEEPS)
    entry = table.get(beside(0), 0.0)
    assert entry is not None
    looks = entry.value.to_bytes(8, "little") + bytes(8)  # the value and the stamp 0.0
    assert table.get(looks, 0.0) is None
    table.put(looks, 7, 0.0, KEEPS)
    assert table.get(looks, 0.0).value == 7  # type: ignore[union-attr]


def test_two_processes_that_claim_the_same_keys_agree() -> None:
    """Each puts its own number where it finds none: both find the same ones; a killed one leaves no lock."""
    fd, keys = shared_memory(table_size(1024)), [key(n) for n in range(500)]
    table = SessionTable(Lock(fd), 1024, fd)
    children = [_claim(fd, number, keys) for number in (1, 2)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    holder = _holder(fd)  # only now: each claim would wait for a lock that is not given back
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    with table.lock:
        assert table.lock.forced == 0
        assert {table.get(k, 0.0).value for k in keys} <= {1, 2}  # type: ignore[union-attr]
    os.close(fd)


def _claim(fd: int, number: int, keys: list[bytes]) -> int:
    """Puts `number` where nothing is, and wants what it saw to be still there at the end."""
    child = os.fork()
    if child:
        return child
    table, seen = SessionTable(Lock(fd), 1024, fd), {}
    for one in keys:
        with table.lock:
            entry = table.get(one, 0.0)
            if entry is None:
                table.put(one, number, 0.0, KEEPS)
            seen[one] = number if entry is None else entry.value
    entries = {one: table.get(one, 0.0) for one in keys}
    os._exit(0 if all(e is not None and e.value == seen[k] for k, e in entries.items()) else 1)


def _holder(fd: int) -> int:
    """A process that has taken the lock and keeps it."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        with Lock(fd):
            os.write(write, b"x")
            signal.pause()
    os.close(write)
    assert os.read(read, 1) == b"x"
    os.close(read)
    return child


def test_a_stopped_holder_does_not_stop_the_others() -> None:
    """After a while they go on, and it is counted."""
    fd = shared_memory(table_size(8))
    holder = _holder(fd)
    lock = Lock(fd)
    with lock:
        pass
    assert lock.forced == 1
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    with lock:
        pass
    assert lock.forced == 1
    os.close(fd)


def test_a_few_entries_stay_on_a_few_pages_and_many_find_room() -> None:
    """Levels are used one after the other, and what was put into the first is found when the last is in use."""
    slots = 16 * FIRST_LEVEL
    assert levels_of(slots)[0] == (0, FIRST_LEVEL)
    assert sum(size for _, size in levels_of(slots)) == slots
    fd = shared_memory(table_size(slots))
    table = SessionTable(Lock(fd), slots, fd)
    used = []
    for number in range(slots // 2):
        with table.lock:
            assert table.put(key(number), number, 0.0, 100.0)
        used.append(os.fstat(fd).st_blocks * 512)
    assert used[99] <= (100 + WINDOW) * 4096
    assert used[999] <= 4 * FIRST_LEVEL * 72
    with table.lock:
        assert all(table.get(key(n), 1.0).value == n for n in range(slots // 2))  # type: ignore[union-attr]
        table.remove(key(7))
        assert table.get(key(7), 1.0) is None
    os.close(fd)
