"""What the metrics listener answers: /metrics for Prometheus, /livez and /readyz for who runs the gateway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tornado.httputil import HTTPServerConnectionDelegate
from tornado.web import Application, RequestHandler

from bokeh_gateway.balance.pool import Pool
from bokeh_gateway.observe.metrics import Metrics


def metrics_delegate(
    metrics: Callable[[], Awaitable[Metrics]], pools: Callable[[], Mapping[str, Pool]], draining: Callable[[], bool]
) -> HTTPServerConnectionDelegate:
    """A Tornado application, mounted on the wire like any other; `metrics` sums up all gateway processes."""

    class MetricsHandler(RequestHandler):
        async def get(self) -> None:
            content_type, body = (await metrics()).render(self.request.headers.get("Accept", ""))
            self.set_header("Content-Type", content_type)
            self.write(body)

    class LiveHandler(RequestHandler):
        def get(self) -> None:
            self.set_header("Content-Type", "text/plain")
            self.write("alive\n")

    class ReadyHandler(RequestHandler):
        def get(self) -> None:
            """200 while new connections are taken and each pool has a worker to use."""
            empty = [name for name, pool in pools().items() if not any(worker.available for worker in pool.workers)]
            self.set_header("Content-Type", "text/plain")
            if draining():
                self.set_status(503)
                self.write("draining\n")
            elif empty:
                self.set_status(503)
                self.write(f"no worker: {', '.join(empty)}\n")
            else:
                self.write("ready\n")

    handlers: list[Any] = [(r"/metrics", MetricsHandler), (r"/livez", LiveHandler), (r"/readyz", ReadyHandler)]
    return Application(handlers)
