"""Sessions whose ids other programs made: least loaded at first sight, remembered, and by the hash without memory."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bokeh_gateway.balance.affinity import rendezvous
from bokeh_gateway.balance.board import REQUESTS, Row
from bokeh_gateway.balance.placement import PATIENCE, Placement, placement_key
from bokeh_gateway.balance.pool import Pool, Worker
from bokeh_gateway.balance.shared import Shared, shared_size
from bokeh_gateway.config.address import Address
from bokeh_gateway.control.memory import shared_memory

LONG = PATIENCE + 15.0


class Gateway:
    """Two processes of one gateway before a pool of three workers."""

    def __init__(self, spread: bool = True, weights: tuple[float, ...] = (1.0, 1.0, 1.0)) -> None:
        self.shared = Shared(len(weights), 2)
        self.shared.board.use(len(weights), 2)
        here = Address("127.0.0.1", 5100)
        self.workers = [Worker(f"w{n}", here, index=n, weight=weight) for n, weight in enumerate(weights)]
        self.pool = Pool("p", "bokeh", self.workers)
        self.pool.spread = spread
        self.processes = [Placement(self.shared.placements, self.shared.board, row) for row in (0, 1)]
        self.turn = 0

    def place(self, session_id: str, process: int = 0, now: float = 0.0) -> Worker | None:
        self.turn += 1
        choice = self.processes[process].place(self.pool, session_id, self.turn, now)
        return None if choice is None else choice.worker

    def row(self, process: int = 0) -> Row:
        return self.shared.board.row(process)


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=120, unique=True), st.data())
def test_sessions_differ_by_at_most_one_and_every_process_finds_them(ids: list[str], data: st.DataObject) -> None:
    """Whichever process sees one first."""
    gateway, first = Gateway(), dict[str, Worker | None]()
    for one in ids:
        process = data.draw(st.integers(0, 1))
        worker = first[one] = gateway.place(one, process)
        assert worker is not None
        gateway.row(process).add(REQUESTS, worker.index)
    counts = Counter(first.values())
    per_worker = [counts[worker] for worker in gateway.workers]
    assert max(per_worker) - min(per_worker) <= 1
    assert all(gateway.place(one, process) is first[one] for one in ids for process in (0, 1))


def test_shares_follow_weights() -> None:
    gateway = Gateway(weights=(1.0, 2.0, 3.0))
    for number in range(60):
        worker = gateway.place(f"session {number}")
        assert worker is not None
        gateway.row().add(REQUESTS, worker.index)
    assert gateway.shared.board.loads() == [10, 20, 30]


def test_equals_are_dealt_as_the_hash_says() -> None:
    """So that what was placed on an idle gateway is found again without the table."""
    gateway = Gateway()
    ids = [f"session {number}" for number in range(50)]
    assert all(gateway.place(one) is rendezvous(gateway.workers, one) for one in ids)


def test_with_spread_off_the_hash_decides_whatever_the_load() -> None:
    """Other gateway hosts know no table of ours.  And nothing is put there."""
    gateway = Gateway(spread=False)
    for number in range(50):
        worker = gateway.place(f"session {number}")
        assert worker is rendezvous(gateway.workers, f"session {number}")
        assert worker is not None
        gateway.row().add(REQUESTS, worker.index)
    assert gateway.shared.placements.values() == []


@pytest.mark.parametrize("spread", [True, False])
def test_an_id_that_a_worker_gave_belongs_there(spread: bool) -> None:
    """In every process, and however pools place other ids."""
    gateway = Gateway(spread)
    own = rendezvous(gateway.workers, "given")
    other = next(worker for worker in gateway.workers if worker is not own)
    gateway.processes[0].learn(gateway.pool, "given", other, 0.0)
    assert gateway.place("given", 1) is other
    assert gateway.place("given", 0, LONG - 1) is other


def test_one_process_alone_tells_the_table_in_time() -> None:
    """It looks there itself, and a process that takes its place does."""
    gateway = Gateway()
    gateway.shared.board.use(3, 1)
    own = rendezvous(gateway.workers, "given")
    other = next(worker for worker in gateway.workers if worker is not own)
    process = gateway.processes[0]
    process.learn(gateway.pool, "given", other, 0.0)
    assert gateway.shared.placements.values() == []
    assert gateway.place("given") is other
    process.learn(gateway.pool, "second", other, 0.0)
    assert process.known(gateway.pool, "second", 0.0)
    process.learn(gateway.pool, "third", other, 0.0)
    process.tell(1.0)
    assert gateway.place("third", 1) is other


def test_a_session_that_comes_back_late_is_remembered_again() -> None:
    """It was forgotten while nobody was connected; whoever embeds it next must find it."""
    gateway = Gateway()
    own = rendezvous(gateway.workers, "one")
    other = next(worker for worker in gateway.workers if worker is not own)
    process = gateway.processes[0]
    process.opened(process.confirm(gateway.pool, "one", other, 0.0))
    assert gateway.place("one", 1, 1e6) is other


def moved(gateway: Gateway, session_id: str) -> Worker:
    """The worker of a session that is not the one of its hash."""
    own = rendezvous(gateway.workers, session_id)
    assert own is not None
    gateway.row().add(REQUESTS, own.index, 5)
    worker = gateway.place(session_id)
    assert worker is not None
    assert worker is not own
    return worker


def test_it_is_remembered_while_open_and_then_for_as_long_as_it_can_live() -> None:
    """Each look counts anew; after that the session is gone and is placed as any new one."""
    gateway = Gateway()
    worker = moved(gateway, "one")
    key = placement_key("p", "one")
    gateway.processes[1].opened(key)
    gateway.processes[1].opened(key)
    gateway.processes[1].closed(key, 5000.0)
    gateway.row().add(REQUESTS, worker.index, 100)
    assert gateway.place("one", 0, 1e6) is worker
    gateway.processes[1].closed(key, 2e6)
    assert gateway.place("one", 0, 2e6 + LONG - 1) is worker
    assert gateway.place("one", 0, 2e6 + 2 * LONG) is not worker


def test_what_a_dead_process_had_open_is_remembered_for_as_long_as_it_can_live() -> None:
    """Its WebSockets are gone with it, the sessions are not."""
    gateway = Gateway()
    worker = moved(gateway, "one")
    gateway.processes[1].opened(placement_key("p", "one"))
    gateway.row().add(REQUESTS, worker.index, 100)
    gateway.shared.clear_row(1, 5000.0)
    assert gateway.place("one", 0, 5000.0 + LONG - 1) is worker
    assert gateway.place("one", 0, 5000.0 + 3 * LONG) is not worker


def test_a_worker_that_went_loses_its_sessions_to_another_that_is_remembered() -> None:
    """One that only drains keeps them."""
    gateway = Gateway()
    worker = moved(gateway, "one")
    worker.draining = True
    assert gateway.place("one", 1) is worker
    worker.up = False
    choice = gateway.processes[1].place(gateway.pool, "one", 1, 0.0)
    assert choice is not None
    assert choice.moved
    worker.up, worker.draining = True, False
    assert gateway.place("one", 0) is choice.worker
    for one in gateway.workers:
        one.up = False
    assert gateway.place("one") is None


def test_a_worker_on_trial_gets_one() -> None:
    """Its answer decides whether it gets more."""
    gateway = Gateway()
    for worker in gateway.workers[1:]:
        worker.up = False
    gateway.workers[0].trial = True
    assert gateway.place("one") is gateway.workers[0]
    assert (gateway.workers[0].up, gateway.workers[0].trial) == (False, False)


def test_a_program_that_maps_the_same_memory_knows_the_same() -> None:
    """As after an upgrade."""
    fd = shared_memory(shared_size(3, 2))
    gateway, later = Gateway(), Gateway()
    gateway.processes = [Placement(Shared(3, 2, fd).placements, gateway.shared.board, 0)]
    later.processes = [Placement(Shared(3, 2, fd).placements, later.shared.board, 1)]
    worker = moved(gateway, "one")
    found = later.place("one")
    assert found is not None
    assert found.name == worker.name


def test_any_text_has_a_key() -> None:
    """JSON can hold half of a surrogate pair; and one id in two pools is two sessions."""
    assert placement_key("p", "\ud800") != placement_key("q", "\ud800")
