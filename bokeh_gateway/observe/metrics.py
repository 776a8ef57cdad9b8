"""What the gateway counts, and how Prometheus gets to see it.

Counting is adding to a Python int; the text is made when somebody asks for it.  One `Metrics` an application, and
no global.  Several processes: each sends `snapshot()` to the one that answers, which `absorb`s all into a fresh object.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

if TYPE_CHECKING:
    from bokeh_gateway.observe.access_log import Record

PREFIX: Final = "bokeh_gateway_"
TOKEN_BUCKETS: Final = (1024, 2048, 4096, 8192, 16384, 32768, 65536)
"""Bytes.  8 KiB is where nginx, and 64 KiB where Tornado, stops taking a header."""


class Counters:
    """Numbers by label values, such as `{("apps/1",): 12}`.  Serves as counter and as gauge."""

    __slots__ = ("gauge", "help", "labels", "name", "values")

    def __init__(self, name: str, help: str, labels: tuple[str, ...] = (), *, gauge: bool = False) -> None:
        self.name = name
        self.help = help
        self.labels = labels
        self.gauge = gauge
        self.values: dict[tuple[str, ...], float] = {} if labels else {(): 0}

    def add(self, *labels: str, by: int = 1) -> None:
        """Adds `by` where these label values count."""
        values = self.values
        values[labels] = values.get(labels, 0) + by

    def set(self, *labels: str, to: float) -> None:
        """For gauges, and for counts that are kept elsewhere."""
        self.values[labels] = to

    def get(self, *labels: str) -> float:
        """The number there; 0 if nothing was counted."""
        return self.values.get(labels, 0)

    def named(self, label: str) -> frozenset[str]:
        """The values of one label; none where it has no such label."""
        if label not in self.labels:
            return frozenset()
        place = self.labels.index(label)
        return frozenset(labels[place] for labels in self.values)

    def forget(self, label: str, names: Container[str]) -> None:
        """Drops what is counted for these values of a label."""
        if label in self.labels:
            place = self.labels.index(label)
            for labels in [labels for labels in self.values if labels[place] in names]:
                del self.values[labels]

    def family(self) -> Metric:
        """This as prometheus_client's own kind of object."""
        kind = GaugeMetricFamily if self.gauge else CounterMetricFamily
        family: Metric = kind(PREFIX + self.name, self.help, labels=self.labels)
        for labels, value in sorted(self.values.items()):
            family.add_metric(labels, value)  # type: ignore[attr-defined]
        return family


class Histogram:
    """Whole numbers by size."""

    __slots__ = ("bounds", "counts", "help", "name", "total")

    def __init__(self, name: str, help: str, bounds: tuple[int, ...]) -> None:
        self.name = name
        self.help = help
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0

    def observe(self, value: int) -> None:
        """Counts `value` under the first bound that is not below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def family(self) -> Metric:
        """This as prometheus_client's own kind of object."""
        buckets: list[tuple[str, float]] = []
        below = 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            below += count
            buckets.append((bound, below))
        family = HistogramMetricFamily(PREFIX + self.name, self.help)
        family.add_metric([], buckets, self.total)
        return family


class Metrics(Collector):
    """Everything counted in one application."""

    def __init__(self) -> None:
        self.statuses: defaultdict[int, int] = defaultdict(int)
        """Answers by status; shown by class."""
        self.received = 0
        """Bytes of bodies and messages from browsers."""
        self.sent = 0
        """Bytes of bodies and messages to browsers."""
        self.refusals = Counters("refusals", "Requests that the gateway itself refused.", ("reason", "pool"))
        self.connections = Counters("connections_open", "Browser connections open now.", gauge=True)
        self.tunnels = Counters("tunnels_open", "WebSockets open now.", ("worker",), gauge=True)
        self.tunnels_opened = Counters("tunnels", "WebSockets opened.", ("worker",))
        self.pages = Counters("pages", "Pages served that make a session.", ("worker",))
        self.pages_waiting = Counters(
            "pages_waiting", "Pages served whose WebSocket may still come.", ("worker",), gauge=True
        )
        self.pages_without_websocket = Counters(
            "pages_without_websocket", "Pages whose WebSocket did not come in time.", ("worker",)
        )
        self.worker_up = Counters("worker_up", "1 while the worker answers.", ("worker",), gauge=True)
        self.worker_lag = Counters(
            "worker_lag_seconds",
            "How long the last probe waited for the worker, whose loop was blocked so long.",
            ("worker",),
            gauge=True,
        )
        self.worker_restarts = Counters("worker_restarts", "Workers started again.", ("worker", "reason"))
        self.workers_replaced = Counters("workers_replaced", "Worn-out workers that a fresh one replaced.", ("pool",))
        self.affinity_moved = Counters(
            "affinity_moved", "Requests whose session's worker was gone, by the worker they came to.", ("worker",)
        )
        self.upstream_retries = Counters(
            "upstream_retries", "Requests tried on another worker, by the one that failed.", ("worker",)
        )
        self.tokens_renewed = Counters(
            "tokens_renewed", "Pages that came back to their session on a token that had run out.", ("worker",)
        )
        self.errors = Counters("errors", "Failures inside the gateway.", ("kind",))
        self.log_lines_dropped = Counters("log_lines_dropped", "Log lines lost to a full disk or a slow reader.")
        self.config_last_reload_ok = Counters(
            "config_last_reload_ok", "1 if the last configuration read is in force.", gauge=True
        )
        self.config_last_reload_ok.set(to=1)
        self.token_bytes = Histogram("token_bytes", "Size of session tokens on WebSocket requests.", TOKEN_BUCKETS)
        self.before_scrape: list[Callable[[Metrics], None]] = []
        """Called before each rendering, to copy counts that are kept elsewhere."""
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def exchange(self, status: int, received: int, sent: int) -> None:
        """Counts one request and its answer."""
        self.statuses[status] += 1
        self.received += received
        self.sent += sent

    def exchanges(self, records: Sequence[Record]) -> None:
        """Counts those that ended."""
        for record in records:
            self.statuses[record[6]] += 1
            self.sent += record[7]
            self.received += record[8]

    def page_served(self, worker: str) -> None:
        """A page that makes a session went out."""
        self.pages.add(worker)
        self.pages_waiting.add(worker)

    def page_connected(self, worker: str) -> None:
        """The WebSocket of a waiting page came."""
        self.pages_waiting.add(worker, by=-1)

    def page_expired(self, worker: str) -> None:
        """A page was given up: its WebSocket did not come in time."""
        self.pages_waiting.add(worker, by=-1)
        self.pages_without_websocket.add(worker)

    def tunnel_opened(self, worker: str) -> None:
        """A WebSocket is open."""
        self.tunnels_opened.add(worker)
        self.tunnels.add(worker)

    def tunnel_closed(self, worker: str) -> None:
        """A WebSocket that was open is not any more."""
        self.tunnels.add(worker, by=-1)

    def workers(self) -> set[str]:
        """All of whom anything was counted."""
        return {name for counters in self._counters() for name in counters.named("worker")}

    def busy_workers(self) -> set[str]:
        """Those with WebSockets open now."""
        return {worker for (worker,), count in self.tunnels.values.items() if count}

    def forget(self, workers: Container[str]) -> None:
        """Drops what was counted of these."""
        for counters in self._counters():
            counters.forget("worker", workers)

    def render(self, accept: str = "") -> tuple[str, bytes]:
        """Content type and body for a scrape whose `Accept` header is `accept`."""
        for prepare in self.before_scrape:
            prepare(self)
        try:
            encoder, content_type = choose_encoder(accept)
        except (ValueError, TypeError):  # a version that is no number
            encoder, content_type = choose_encoder("")
        return content_type, encoder(self._registry)

    def collect(self) -> Iterable[Metric]:
        """All families; called by prometheus_client."""
        yield self._by_class().family()
        yield self._bytes().family()
        for counters in self._counters():
            yield counters.family()
        yield self.token_bytes.family()

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering does not collect."""
        return ()

    def snapshot(self) -> dict[str, Any]:
        """All counts as JSON can hold them."""
        series = {c.name: [[list(labels), value] for labels, value in c.values.items()] for c in self._counters()}
        return {
            "statuses": list(self.statuses.items()),
            "bytes": [self.received, self.sent],
            "token_bytes": [self.token_bytes.counts, self.token_bytes.total],
            "series": series,
        }

    def absorb(self, snapshot: Mapping[str, Any]) -> None:
        """Adds another process's counts.  What is 1 or 0 stays 1 only if it is 1 everywhere."""
        for status, count in snapshot["statuses"]:
            self.statuses[status] += count
        self.received += snapshot["bytes"][0]
        self.sent += snapshot["bytes"][1]
        counts, total = snapshot["token_bytes"]
        self.token_bytes.counts = [a + b for a, b in zip(self.token_bytes.counts, counts, strict=True)]
        self.token_bytes.total += total
        flags = (self.config_last_reload_ok, self.worker_up)
        for counters in self._counters():
            for labels, value in snapshot["series"].get(counters.name, ()):
                key = tuple(labels)
                if counters in flags:
                    counters.values[key] = min(counters.values.get(key, 1), value)
                else:
                    counters.add(*key, by=value)

    def _counters(self) -> Iterator[Counters]:
        return (value for value in vars(self).values() if isinstance(value, Counters))

    def _by_class(self) -> Counters:
        shown = Counters("requests", "Requests answered, by class of status.", ("status",))
        for status, count in self.statuses.items():
            shown.add(f"{status // 100}xx", by=count)
        return shown

    def _bytes(self) -> Counters:
        shown = Counters("bytes", "Bytes of bodies and messages, from (in) and to (out) browsers.", ("direction",))
        shown.set("in", to=self.received)
        shown.set("out", to=self.sent)
        return shown
