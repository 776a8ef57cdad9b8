"""Where a session belongs: stable, spread by weight, and the same everywhere."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bokeh_gateway.balance.affinity import Choice, choose, rendezvous
from bokeh_gateway.balance.pool import Pool, Worker
from bokeh_gateway.bokeh.session_id import mint, worker_key
from bokeh_gateway.config.address import Address

NAMES = st.lists(st.text("abcdef0123456789:", min_size=1, max_size=6), min_size=1, max_size=9, unique=True)
FOREIGN = st.text(min_size=1, max_size=60).filter(lambda text: "~" not in text)
RANDOM = "r" * 43


def pool(names: list[str], weights: list[float] | None = None) -> Pool:
    """Workers of these names."""
    here = Address("127.0.0.1", 5100)
    weights = weights or [1.0] * len(names)
    return Pool("p", "bokeh", [Worker(name, here, index=i, weight=weights[i]) for i, name in enumerate(names)])


def name(choice: Choice | None) -> str:
    """Of the chosen worker."""
    assert choice is not None
    return choice.worker.name


@given(NAMES, st.data())
def test_a_minted_id_leads_to_its_worker(names: list[str], data: st.DataObject) -> None:
    """With or without a signature, in whatever order the workers stand."""
    chosen = data.draw(st.sampled_from(names))
    session_id = mint(worker_key(chosen), RANDOM, data.draw(st.none() | st.just(b"secret")))
    workers = pool(names)
    assert choose(workers, session_id) == Choice(workers.by_key[worker_key(chosen)], False)
    assert name(choose(pool(names[::-1]), session_id)) == chosen


def test_a_draining_worker_keeps_what_it_has() -> None:
    """The page is served and its WebSocket must find the session; ids that name nobody go elsewhere."""
    workers = pool(["a", "b"])
    a, b = workers.workers
    a.draining = True
    assert choose(workers, mint(a.key, RANDOM, None)) == Choice(a, False)
    assert all(choose(workers, f"foreign{n}") == Choice(b, False) for n in range(50))


@given(NAMES.filter(lambda names: len(names) > 1), st.text("xyz", min_size=22))
def test_a_gone_worker_s_session_moves_to_one_other(names: list[str], random: str) -> None:
    """Said with `moved`; the same one each time; and back when the worker is back."""
    workers = pool(names)
    first = workers.workers[0]
    session_id = mint(first.key, random, None)
    first.up = False
    moved = choose(workers, session_id)
    assert moved is not None
    assert moved.moved
    assert moved.worker is not first
    assert choose(workers, session_id) == moved
    first.up = True
    assert choose(workers, session_id) == Choice(first, False)


def test_a_hint_at_a_worker_that_is_not_in_the_pool_counts_as_moved() -> None:
    """It was taken out by a reload, or someone made the id up."""
    moved = choose(pool(["a", "b"]), mint(worker_key("c"), RANDOM, None))
    assert moved is not None
    assert moved.moved


def test_without_workers_there_is_no_choice() -> None:
    """Neither by hint nor by hashing."""
    workers = pool(["a"])
    workers.workers[0].up = False
    assert choose(workers, "x") is None
    assert choose(workers, mint(worker_key("a"), RANDOM, None)) is None
    assert choose(pool([]), "x") is None


@given(NAMES.filter(lambda names: len(names) > 1), st.lists(FOREIGN, min_size=1, max_size=20), st.data())
def test_when_a_worker_goes_only_its_sessions_move(names: list[str], ids: list[str], data: st.DataObject) -> None:
    """Rendezvous hashing's promise, which also holds for one that comes, and whatever the weights."""
    weights = data.draw(st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=len(names), max_size=len(names)))
    workers = pool(names, weights)
    before = [name(choose(workers, one)) for one in ids]
    gone = data.draw(st.sampled_from(workers.workers))
    gone.up = False
    after = [name(choose(workers, one)) for one in ids]
    for was, now in zip(before, after, strict=True):
        assert now != gone.name
        assert now == was or was == gone.name
    gone.up = True
    assert [name(choose(workers, one)) for one in ids] == before


@given(NAMES, FOREIGN, st.randoms())
def test_the_order_of_the_workers_does_not_count(names: list[str], session_id: str, random: object) -> None:
    """Another gateway's file may list them otherwise."""
    shuffled = list(names)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert name(choose(pool(names), session_id)) == name(choose(pool(shuffled), session_id))


def test_the_choice_is_the_same_in_every_process_and_release() -> None:
    """Gateways on several hosts, and before and after an upgrade, must agree; so these never change."""
    workers = pool(["127.0.0.1:5100", "127.0.0.1:5101", "127.0.0.1:5102"])
    assert [name(choose(workers, f"session{n}"))[-1] for n in range(12)] == list("121222000000")


def test_sessions_spread_as_the_weights_say() -> None:
    """12,000 ids over weights 1, 2 and 3: each share within 5 standard deviations."""
    workers = pool(["a", "b", "c"], [1.0, 2.0, 3.0])
    counts = Counter(name(choose(workers, f"session number {n}")) for n in range(12_000))
    for one in workers.workers:
        share = one.weight / 6
        assert abs(counts[one.name] - 12_000 * share) < 5 * (12_000 * share * (1 - share)) ** 0.5


def test_who_inherits_is_spread_as_well() -> None:
    """The sessions of a gone worker do not all fall on one other."""
    workers = pool([f"w{n}" for n in range(5)])
    gone = workers.workers[0]
    ids = [one for one in (f"s{n}" for n in range(20_000)) if rendezvous(workers.workers, one) is gone]
    gone.up = False
    counts = Counter(name(choose(workers, one)) for one in ids)
    assert len(counts) == 4
    for count in counts.values():
        assert abs(count - len(ids) / 4) < 5 * (len(ids) * 3 / 16) ** 0.5


def test_any_text_has_a_worker() -> None:
    """JSON can hold half of a surrogate pair."""
    assert choose(pool(["a"]), "\ud800") is not None
