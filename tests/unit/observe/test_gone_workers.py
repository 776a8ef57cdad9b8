"""A scrape does not grow with every worker that ever was."""

from __future__ import annotations

from bokeh_gateway.observe.gone_workers import KEPT, SHOWN, GoneWorkers
from bokeh_gateway.observe.metrics import Metrics


def counted(*workers: str) -> Metrics:
    metrics = Metrics()
    for worker in workers:
        metrics.page_served(worker)
        metrics.worker_restarts.add(worker, "SIGKILL")
        metrics.tunnel_opened(worker)
        metrics.tunnel_closed(worker)
    return metrics


def test_what_a_worker_counted_is_there_for_a_while_and_then_gone() -> None:
    metrics, gone = counted("demo/1", "demo/1#2"), GoneWorkers(60.0)
    gone.look([metrics], {"demo/1#2"}, now=100.0)
    gone.look([metrics], {"demo/1#2"}, now=159.0)
    assert metrics.workers() == {"demo/1", "demo/1#2"}
    gone.look([metrics], {"demo/1#2"}, now=160.0)
    assert metrics.workers() == {"demo/1#2"}
    assert 'worker="demo/1"' not in metrics.render()[1].decode()
    assert metrics.pages.get("demo/1#2") == 1


def test_one_that_is_back_in_time_keeps_its_counts() -> None:
    metrics, gone = counted("apps/10.0.0.1:5006"), GoneWorkers(60.0)
    gone.look([metrics], set(), now=0.0)
    gone.look([metrics], {"apps/10.0.0.1:5006"}, now=59.0)
    gone.look([metrics], set(), now=60.0)
    gone.look([metrics], set(), now=119.0)
    assert metrics.pages.get("apps/10.0.0.1:5006") == 1


def test_with_a_websocket_open_it_is_not_gone() -> None:
    """Its end would be counted below zero."""
    metrics, gone = counted("demo/1"), GoneWorkers(60.0)
    metrics.tunnel_opened("demo/1")
    gone.look([metrics], set(), now=0.0)
    gone.look([metrics], set(), now=1000.0)
    metrics.tunnel_closed("demo/1")
    assert metrics.tunnels.get("demo/1") == 0
    gone.look([metrics], set(), now=1001.0)
    gone.look([metrics], set(), now=1061.0)
    assert metrics.workers() == set()


def test_a_sum_hides_it_for_as_long_as_a_process_still_counts_it() -> None:
    assert SHOWN == 15 * 60, "as the README says"
    gone = GoneWorkers(SHOWN)
    for now in (0.0, SHOWN, (SHOWN + KEPT) / 2, KEPT):
        total = counted("demo/1")
        gone.look([total], set(), now)
        assert total.workers() == ({"demo/1"} if now < SHOWN else set())


def test_a_month_of_recycling_leaves_only_the_last_ones() -> None:
    metrics, gone = Metrics(), GoneWorkers(KEPT)
    for number in range(1000):
        name = f"demo/1#{number}"
        metrics.page_served(name)
        gone.look([metrics], {name}, now=number * 2592.0)
    assert len(metrics.workers()) <= 2
