"""Bad answers in a row, and the request that tries a worker again."""

from __future__ import annotations

from bokeh_gateway.balance.pick import least_loaded
from bokeh_gateway.balance.pool import Pool, Worker
from bokeh_gateway.config.address import Address
from bokeh_gateway.endpoint.outcomes import Outcomes


def set_up(worker: Worker, up: bool) -> None:
    worker.up, worker.trial = up, False


def pool_of(count: int) -> tuple[Pool, Outcomes]:
    workers = [Worker(f"apps/{n}", Address("127.0.0.1", 5100 + n), index=n) for n in range(count)]
    return Pool("apps", "bokeh", workers), Outcomes({"apps": 3}, set_up)


def test_bad_answers_in_a_row_take_a_worker_out_and_a_good_trial_brings_it_back() -> None:
    pool, outcomes = pool_of(2)
    bad, other = pool.workers
    for _ in range(2):
        outcomes.bad(bad, pool, now=0.0)
    outcomes.good(bad)
    for _ in range(2):
        outcomes.bad(bad, pool, now=0.0)
    assert bad.up, "a good one was between them"
    outcomes.bad(bad, pool, now=0.0)
    assert not bad.up
    outcomes.bad(bad, pool, now=1.0)  # was under way
    outcomes.offer_trials(now=4.0)
    assert not bad.up
    outcomes.offer_trials(now=5.0)
    assert bad.trial
    assert least_loaded(pool.workers, [0, 1], 0) is bad
    set_up(bad, False)  # as Fleet.for_new does with a trial
    outcomes.bad(bad, pool, now=6.0)
    outcomes.offer_trials(now=15.0)
    assert not bad.up, "the second wait is twice as long"
    outcomes.offer_trials(now=16.0)
    outcomes.good(bad)
    assert bad.up
    assert not bad.trial
    assert not bad.failures
    assert other.up


def test_the_last_worker_stays_whatever_it_answers() -> None:
    pool, outcomes = pool_of(2)
    for worker in pool.workers:
        for _ in range(5):
            outcomes.bad(worker, pool, now=0.0)
    assert [worker.up for worker in pool.workers] == [False, True]
