"""An extension's file that one worker has and another has not: a 404 is the last word only when every worker said it.

Bokeh registers an extension's folder in the process that imported it, so workers of one pool can differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bokeh_gateway.endpoint.proxy import Proxy
from bokeh_gateway.errors import NoWorker

if TYPE_CHECKING:
    from bokeh_gateway.balance.pool import Pool, Worker
    from bokeh_gateway.endpoint.fleet import Fleet
    from bokeh_gateway.endpoint.router import Mount
    from bokeh_gateway.http.answer import AnswerHead
    from bokeh_gateway.wire.exchange import Exchange

EXTENSIONS: Final = b"/static/extensions/"
_REMEMBERED: Final = 4096


class Homes:
    """Which worker had a file; the oldest are forgotten first."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[str, bytes], Worker] = {}

    def of(self, pool: Pool, path: bytes) -> Worker | None:
        return self._known.get((pool.name, path))

    def found(self, pool: Pool, path: bytes, worker: Worker) -> None:
        if len(self._known) >= _REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[pool.name, path] = worker


class ExtensionAsset(Proxy):
    """One GET or HEAD of an extension's file."""

    _AT_ONCE = False

    def __init__(self, exchange: Exchange, fleet: Fleet, pool: Pool, mount: Mount, homes: Homes) -> None:
        super().__init__(exchange, fleet, pool, mount)
        self._homes = homes
        self._asked: set[Worker] = set()
        self._passing_over = False

    def _choose(self) -> Worker | None:
        worker = self._next()
        if worker is not None:
            self._asked.add(worker)
        return worker

    def _next(self) -> Worker | None:
        if not self._asked:
            home = self._homes.of(self.pool, self.exchange.head.path)
            if home is not None and home.up:
                return home
            return self.fleet.for_new(self.pool)
        # Draining ones too: they still have their files.
        return next((worker for worker in self.pool.workers if worker.up and worker not in self._asked), None)

    def answer_head(self, head: AnswerHead) -> None:
        assert self.worker is not None
        # Said anew each time: an answer that was passed over may have broken off.
        self._passing_over = head.status == 404 and self._next() is not None
        if self._passing_over:
            return
        if head.status in (200, 304):
            self._homes.found(self.pool, self.exchange.head.path, self.worker)
        super().answer_head(head)

    def answer_body(self, chunk: bytes) -> None:
        if not self._passing_over:
            super().answer_body(chunk)

    def answer_flush(self) -> None:
        if not self._passing_over:
            super().answer_flush()

    def answer_end(self) -> None:
        if not self._passing_over:
            super().answer_end()
            return
        assert self.worker is not None
        self._passing_over = False
        self._upstream = None
        self.fleet.request_ended(self.worker)
        self.worker = None
        worker = self._choose() or self.fleet.for_new(self.pool)
        if worker is None:
            self._fail(NoWorker(f"pool {self.pool.name}: no worker is left to ask for an extension's file"))
        else:
            self._start(worker)
