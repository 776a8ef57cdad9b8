"""A request handed to a worker, and its answer handed back: streamed both ways, tried again only where that is safe.

Only what nothing has been answered to is tried again: on a fresh connection when a kept one turned out to be stale, on
another worker when one refused or died.  Source: RFC 9110 section 9.2.2.
"""

from __future__ import annotations

import asyncio
import logging
from http.client import responses
from time import monotonic
from typing import TYPE_CHECKING, Final

from tornado.httputil import HTTPMessageDelegate

from bokeh_gateway.bokeh.paths import is_autoload
from bokeh_gateway.endpoint.failure import explain
from bokeh_gateway.endpoint.page_token import PageToken
from bokeh_gateway.errors import GatewayError, NoWorker, WorkerClosed, WorkerRefused, WorkerTooSlow
from bokeh_gateway.http.forwarded import host_line
from bokeh_gateway.wire.exchange import UNKNOWN_LENGTH

if TYPE_CHECKING:
    from bokeh_gateway.balance.pool import Pool, Worker
    from bokeh_gateway.endpoint.fleet import Fleet
    from bokeh_gateway.endpoint.router import Mount
    from bokeh_gateway.http.answer import AnswerHead
    from bokeh_gateway.wire.exchange import Exchange
    from bokeh_gateway.wire.upstream import Link, Upstream

log = logging.getLogger(__name__)

SAFE: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})
"""Methods that may reach a worker twice."""
WITH_BODY: Final = frozenset(status for status in responses if status >= 200 and status not in (204, 205, 304))
"""Usual statuses whose answers have a body."""
KEPT_LINES: Final = 4096
"""Bytes of lines for a worker that an idle connection keeps, in case that the next request has the same."""
NO_STORE: Final = (b"Cache-Control: no-store\r\n",)
"""A restored tab must fetch a fresh page: the token in an old one has expired."""


class Proxy(HTTPMessageDelegate):
    """One request on its way to a worker of `pool`."""

    # What most requests never change stands here once, rather than being set for each of them.
    worker: Worker | None = None
    _upstream: Upstream | None = None
    _body: list[bytes] | None = None
    """What came before a worker was connected to."""
    reserved: Worker | None = None
    """Where the request is counted already."""
    counts = True
    """Whether it is load of its worker while it is under way."""
    _ended = False
    _retried = False
    _task: asyncio.Task[None] | None = None
    _token: PageToken | None = None
    _placed: bytes | None = None
    """Key of the placement, where the id of the session names no worker."""
    _LAST_LINES = b"\r\n"
    _AT_ONCE = True
    """Whether an answer that came whole may go out as it is; False where a subclass looks at its pieces."""

    def __init__(
        self,
        exchange: Exchange,
        fleet: Fleet,
        pool: Pool,
        mount: Mount,
        session_id: str | None = None,
        mint: bool = False,
        secret: bytes | None = None,
    ) -> None:
        """`session_id`: the one that the request names; `mint`: it names none, and gets one signed with `secret`."""
        self.exchange = exchange
        self.fleet = fleet
        self.pool = pool
        self.mount = mount
        self.session_id = session_id
        self.mint = mint
        self.secret = secret
        head = exchange.head
        self._safe = head.method in SAFE and not head.length and not head.chunked
        self._whole = exchange.finished

    # From the client.

    def begin(self) -> None:
        """The head has been read: finds a worker and sends it on.  If `exchange.finished`, no body follows."""
        if not self._whole and (self.exchange.finished or not self.exchange.head.has_body):
            self._whole = True
        worker = self._choose()
        if worker is None:
            self._no_worker(f"none of its {len(self.pool.workers)} workers can be used now")
        else:
            self._start(worker)

    def data_received(self, chunk: bytes) -> None:
        if self._upstream is None:
            self._body = [*(self._body or ()), chunk]
        else:
            self._send_body(self._upstream, chunk)

    def finish(self) -> None:
        self._whole = True
        if self._upstream is not None:
            self._send_end(self._upstream)

    def on_connection_close(self) -> None:
        self._end()

    def hold(self) -> None:
        """The client takes no more for now."""
        if self._upstream is not None:
            self._upstream.pause()

    def release(self) -> None:
        if self._upstream is not None:
            self._upstream.resume()

    def timed_out(self) -> None:
        """Nothing came from the worker within `[timeouts] response`."""
        limit = self.exchange.connection.edge.timeouts.response
        if self.worker is None:
            self.fleet.waiting.leave(self.pool, self)
            self.waited_in_vain(f"none came within [timeouts] response = {limit:g} s")
            return
        self._give_up(WorkerTooSlow(f"{self._worker_name()}: no answer within [timeouts] response = {limit:g} s"))

    # Towards the worker.

    def _choose(self) -> Worker | None:
        fleet = self.fleet
        if self.session_id is None or self.mint:
            if self.pool.max_sessions is None or not self.mint:
                worker = fleet.for_new(self.pool)
            else:
                worker = self.reserved = self.reserved or fleet.reserve(self.pool)
            if worker is not None and self.mint:
                self.session_id = fleet.mint(worker, self.secret)
            return worker
        choice = fleet.for_session(self.pool, self.session_id)
        if choice is None:
            return None
        if choice.moved:
            fleet.metrics.affinity_moved.add(choice.worker.name)
            log.info("%s: the worker of a session is gone, it goes to %s", self.pool.name, choice.worker.name)
        self._placed = choice.placed
        return choice.worker

    def _no_worker(self, detail: str) -> None:
        """Waits for one, where one is about to come."""
        if self.fleet.waiting.enter(self.pool, self, self.exchange.connection.edge.sweep.now):
            if self.exchange.head.has_body:
                self.exchange.connection.hold_body()
        else:
            self._fail(NoWorker(f"pool {self.pool.name}: {detail}"))

    def try_again(self) -> bool:
        """A worker came into use: whether it is this request's."""
        worker = self._choose()
        if worker is None:
            return False
        self._start(worker)
        return True

    def waited_in_vain(self, why: str) -> None:
        self._fail(NoWorker(f"pool {self.pool.name}: no worker can be used, and {why}"))

    def _start(self, worker: Worker) -> None:
        self.worker = worker
        self.exchange.worker = worker.name
        if self.reserved is not None:
            self._use_reserved(worker)
        elif self.counts:
            self.fleet.request_began(worker)
        link = self.fleet.links[worker.index]
        # What may not be sent twice never goes on a kept connection, which may be stale.
        upstream = link.take() if self._safe and not self._retried else None
        if upstream is not None:
            self._send(upstream)
            return
        if self.exchange.head.has_body:
            # Connect before reading the body: a refused connect can still move to another worker.
            self.exchange.connection.hold_body()
        self._task = asyncio.get_running_loop().create_task(self._connect(link, worker))

    def _use_reserved(self, worker: Worker) -> None:
        if self.reserved is not worker and self.reserved is not None:
            self.fleet.request_began(worker)
            self.fleet.request_ended(self.reserved)
        self.reserved = None

    async def _connect(self, link: Link, worker: Worker) -> None:
        try:
            upstream = await link.connect(self.exchange.connection.edge.timeouts.connect)
        except WorkerRefused as refused:
            if self.counts:
                self.fleet.request_ended(worker)
            self.worker = None
            self.fleet.refused(worker, refused)
            self._elsewhere(refused)
            return
        self._task = None
        worker.answered = True
        self._send(upstream)
        if self.exchange.head.has_body:
            self.exchange.connection.release_body()

    def _elsewhere(self, error: GatewayError) -> None:
        """Tries the next worker that can be used; those that refused no longer can."""
        worker = self._choose()
        if worker is None:
            self._no_worker(f"no worker can be used now; last: {error}")
        else:
            self._start(worker)

    def _send(self, upstream: Upstream) -> None:
        self._upstream = upstream
        exchange = self.exchange
        safe = self._safe
        upstream.ask(self, b"".join(self._request_lines()), exchange.head.method == b"HEAD", safe)
        if not safe:
            for chunk in self._body or ():
                self._send_body(upstream, chunk)
            self._body = None
            if self._whole:
                self._send_end(upstream)
        if exchange.connection.paused:
            upstream.pause()

    def _request_lines(self) -> list[bytes]:
        exchange = self.exchange
        head = exchange.head
        connection = exchange.connection
        plain = head.plain
        onward = connection.onward
        if connection.onward_of is not plain:
            onward = self._onward_lines()
            if len(onward) <= KEPT_LINES:
                connection.onward, connection.onward_of = onward, plain
        mount = self.mount
        if mount.strip:
            path = mount.path
            target = head.target[len(path) :]
            if target[:1] != b"/":  # the mount point itself
                target = b"/" + target
            lines = [head.method, b" ", target, onward]
            lines += (b"X-Forwarded-Prefix: ", path, b"\r\n")
        else:
            lines = [head.method, b" ", head.target, onward]
        if head.origins:
            self._add_origin(lines, head.origins)
        if self.mint and self.session_id is not None:
            lines += (b"Bokeh-Session-Id: ", self.session_id.encode(), b"\r\n")
        if not self._safe:
            if head.has_body or head.method in (b"POST", b"PUT", b"PATCH"):
                lines.append(
                    b"Transfer-Encoding: chunked\r\n" if head.chunked else b"Content-Length: %d\r\n" % head.length
                )
            if head.expect:
                lines.append(b"Expect: 100-continue\r\n")
        lines.append(self._LAST_LINES)
        return lines

    def _onward_lines(self) -> bytes:
        """What the client's header lines become for a worker, from the version on; the same for the same lines."""
        exchange = self.exchange
        head = exchange.head
        host = head.host or b"localhost"
        forward = exchange.forward_lines
        if not forward:
            public = exchange.connection.edge.public
            forward = exchange.connection.forward_lines + (public.line if public is not None else host_line(host))
        return b"".join((b" HTTP/1.1\r\nHost: ", host, b"\r\n", forward, *head.plain))

    def _add_origin(self, lines: list[bytes], origins: tuple[bytes, ...]) -> None:
        for origin in origins:
            lines += (b"Origin: ", origin, b"\r\n")

    def _send_body(self, upstream: Upstream, chunk: bytes) -> None:
        if self.exchange.head.chunked:
            upstream.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        else:
            upstream.write(chunk)

    def _send_end(self, upstream: Upstream) -> None:
        if self.exchange.head.chunked:
            upstream.write(b"0\r\n\r\n")
        upstream.sent()

    # From the worker.

    def answer_interim(self, head: AnswerHead) -> None:
        self._safe = False
        self.exchange.interim(head.status, head.plain)

    def answer_head(self, head: AnswerHead) -> None:
        exchange = self.exchange
        if exchange.head.has_body and not exchange.finished:
            exchange.keep = False  # an early answer: what is still to come of the body is not read
        lines = self._answer_lines(head)
        exchange.open(head.status, lines, head.length if not head.chunked else UNKNOWN_LENGTH, head.reason)
        exchange.connection.due = exchange.connection.edge.sweep.now + exchange.connection.edge.timeouts.response

    def _answer_lines(self, head: AnswerHead) -> list[bytes]:
        """The answer's lines for the client; what the answer says of the worker is noted."""
        worker = self.worker
        status = head.status
        if worker is not None and (worker.failures or status >= 500):
            self._note_outcome(worker, status)
        if self.mount.headers is None:
            lines = [*head.plain]
        else:
            lines = [*self.mount.headers.kept(head.plain, self.exchange.head.path)]
        if head.location:
            lines += (b"Location: ", self._location(head.location), b"\r\n")
        if status == 200 and self.pool.kind == "bokeh":
            html = head.content_type.startswith(b"text/html")
            if html or is_autoload(self.exchange.head.path):
                self._note_page(head, lines, html)
        return lines

    def _note_outcome(self, worker: Worker, status: int) -> None:
        if status >= 500:
            self.fleet.answered_badly(worker)
        else:
            self.fleet.outcomes.good(worker)

    def answer_body(self, chunk: bytes) -> None:
        if self._token is not None:
            self._token.feed(chunk)
        self.exchange.body(chunk)

    def answer_flush(self) -> None:
        connection = self.exchange.connection
        connection.flush()
        if not connection.paused:
            connection.due = connection.edge.sweep.now + connection.edge.timeouts.response

    def answer_end(self) -> None:
        self._upstream = None
        if self._token is not None:
            self._learn_token(self._token)
        self._end()
        self.exchange.end()

    def answer_whole(self, head: AnswerHead, chunks: list[bytes]) -> None:
        exchange = self.exchange
        status = head.status
        if not (self._AT_ONCE and self._whole and chunks and status in WITH_BODY) or exchange.head.method == b"HEAD":
            self.answer_head(head)
            for chunk in chunks:
                self.answer_body(chunk)
            self.answer_end()
            return
        self._upstream = None
        lines = self._answer_lines(head)
        token = self._token
        if token is not None:
            for chunk in chunks:
                token.feed(chunk)
            self._learn_token(token)
        self._ended = True
        if self.worker is not None and self.counts:
            self.fleet.request_ended(self.worker)
        exchange.whole(status, lines, chunks)

    def answer_upgraded(self, head: AnswerHead, early: bytes) -> None:
        """101 to a request that asked for no upgrade."""
        upstream = self._upstream
        assert upstream is not None
        upstream.abandon()
        self._upstream = None
        self._give_up(WorkerClosed(f"{self._worker_name()}: switched protocols without being asked to"))

    def answer_failed(self, error: GatewayError) -> None:
        stale = self._upstream is not None and self._upstream.reused
        self._upstream = None
        worker = self.worker
        if self._ended or worker is None:
            return
        if self.exchange.opened or not self._safe or self._retried or not isinstance(error, WorkerClosed):
            self._give_up(error)
            return
        self._retried = True
        if self.counts:
            self.fleet.request_ended(worker)
        self.fleet.metrics.upstream_retries.add(worker.name)
        if stale:
            self._start(worker)
            return
        log.warning("%s; the request is tried on another worker", error)
        self._start(self._another(worker) or worker)

    def _another(self, worker: Worker) -> Worker | None:
        """A worker to try after one that closed; its own again if it is the only one."""
        up, worker.up = worker.up, False
        try:
            return self._choose()
        finally:
            worker.up = up

    def hold_request(self) -> None:
        self.exchange.connection.hold_body()

    def release_request(self) -> None:
        self.exchange.connection.release_body()

    # What is learned from a page, and what is changed in an answer.

    def _note_page(self, head: AnswerHead, lines: list[bytes], html: bool) -> None:
        if html and not head.cache_control:
            lines += NO_STORE
        if self.exchange.head.method == b"GET":
            self._token = PageToken()

    def _learn_token(self, token: PageToken) -> None:
        """The page names the session that it belongs to: nearly always ours, or the one that the client named."""
        worker = self.worker
        session_id = token.session_id(self.session_id)
        if session_id is None or worker is None:
            return
        if session_id != self.session_id:
            self.fleet.learn(worker, session_id)
        self.fleet.page_served(worker, session_id)
        took = monotonic() - self.exchange.started
        if took > self.fleet.token_lifetime:
            log.warning(
                "%s: the page took %.1f s, longer than its token lives: its WebSocket is too late. "
                'Setting: [sessions] token_expiration = "%g s"',
                self.exchange.head.path.decode("latin-1"),
                took,
                2 * took,
            )

    def _location(self, location: bytes) -> bytes:
        """A redirect to where the client can follow it: never to a worker's own address, and below a stripped mount."""
        assert self.worker is not None
        own = str(self.worker.address).encode()
        for scheme in (b"http://", b"https://"):
            if location.startswith(scheme + own + b"/"):
                location = location[len(scheme) + len(own) :]
        mount = self.mount
        local = mount.strip and mount.path and location[:1] == b"/" and location[:2] != b"//"
        if local and location != mount.path and not location.startswith(mount.inside):
            location = mount.path + location
        return location

    # Ends.

    def _end(self) -> None:
        """Takes back what is counted, and lets go of the worker."""
        if self._ended:
            return
        self._ended = True
        if self._task is not None and not self._task.done():
            self._task.cancel()
        if self._upstream is not None:
            self._upstream.abandon()
            self._upstream = None
        if self.worker is not None and self.counts:
            self.fleet.request_ended(self.worker)
        else:
            self.fleet.waiting.leave(self.pool, self)

    def _give_up(self, error: GatewayError) -> None:
        if self.worker is not None:
            self.fleet.answered_badly(self.worker)
        self._end()
        self._fail(error)

    def _fail(self, error: GatewayError) -> None:
        exchange = self.exchange
        self._ended = True
        exchange.reason = _reason(error)
        log.warning("%s %s: %s", exchange.client, exchange.reason, error)
        if exchange.opened:
            exchange.abort()
            return
        if exchange.head.has_body and not exchange.finished:
            exchange.keep = False
        headers, body = explain(error.status, accept=exchange.head.get(b"accept") or b"")
        exchange.respond(error.status, headers, body)

    def _worker_name(self) -> str:
        return self.worker.name if self.worker is not None else self.pool.name


def _reason(error: GatewayError) -> str:
    """`WorkerTooSlow` -> `worker-too-slow`."""
    return "".join(f"-{c.lower()}" if c.isupper() else c for c in type(error).__name__).lstrip("-")
