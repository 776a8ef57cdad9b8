"""Where a request goes: the policies are asked in order, then the route's endpoint gets it.

Order: https, path, route, static assets, then for a Bokeh pool origin and session.  A refusal reaches no worker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tornado.httputil import HTTPMessageDelegate, HTTPServerConnectionDelegate

from bokeh_gateway.bokeh.paths import Kind, app_path, split, static_tail
from bokeh_gateway.bokeh.request import NOTHING, session_refs
from bokeh_gateway.endpoint.auth_gate import Gate
from bokeh_gateway.endpoint.embedding import Embedding, MixedContent
from bokeh_gateway.endpoint.extension_asset import EXTENSIONS, ExtensionAsset, Homes
from bokeh_gateway.endpoint.failure import explain
from bokeh_gateway.endpoint.file_body import FileBody
from bokeh_gateway.endpoint.file_slice import FileSlice
from bokeh_gateway.endpoint.fleet import Fleet
from bokeh_gateway.endpoint.mount_links import PAGES, MountLinks
from bokeh_gateway.endpoint.proxy import Proxy
from bokeh_gateway.endpoint.queueing import Queueing
from bokeh_gateway.endpoint.reconnect import Reconnect, Way, key_of
from bokeh_gateway.endpoint.representation import Answer
from bokeh_gateway.endpoint.rotation import Rotation
from bokeh_gateway.endpoint.router import Mount, Router, has_dot_segments
from bokeh_gateway.endpoint.static_files import StaticFiles
from bokeh_gateway.endpoint.static_folder import StaticFolder
from bokeh_gateway.endpoint.websocket import WebSocketProxy
from bokeh_gateway.http.forwarded import VIA, TrustedProxies, resolve, split_host
from bokeh_gateway.http.head import BadHead, RequestHead, check_websocket
from bokeh_gateway.policy.credentials import without_matching_cookies
from bokeh_gateway.policy.limits import WINDOW, SessionRate
from bokeh_gateway.policy.origin import OriginPolicy
from bokeh_gateway.policy.session import MINT, Named, SessionPolicy
from bokeh_gateway.policy.verdict import Deny
from bokeh_gateway.wire.tunnel import Tunnel, TunnelSettings

if TYPE_CHECKING:
    from bokeh_gateway.balance.pool import Pool
    from bokeh_gateway.endpoint.record import Opening
    from bokeh_gateway.wire.exchange import Exchange

log = logging.getLogger(__name__)

_REFUSED_METHODS: Final = frozenset({b"TRACE", b"CONNECT"})
_BOKEHJS: Final = (b"js/bokeh", b"extensions/")
"""What Bokeh itself has below /static/; an app's own folder of that name is the app's."""
_NOT_A_PAGE: Final = (b".ico", b".js", b".css", b".png", b".svg", b".map", b".woff2", b".webmanifest")
"""Endings that browsers ask for by themselves, and that no app is mounted at."""


@dataclass(slots=True, kw_only=True)
class DispatchSettings:
    """What the dispatcher decides by; immutable once in use."""

    router: Router
    fleet: Fleet
    origins: OriginPolicy
    sessions: SessionPolicy
    secret: bytes | None
    """Signs the ids that the gateway mints; None where they are not signed."""
    tunnel: TunnelSettings
    trusted: TrustedProxies
    assets: StaticFiles | None = None
    folders: Mapping[str, StaticFolder] = field(default_factory=dict)
    applications: Mapping[str, HTTPServerConnectionDelegate] = field(default_factory=dict)
    """Tornado applications by the name of the route that they are mounted at."""
    https_port: int | None = None
    """Where plain requests are redirected to; None: they are served."""
    gate: Gate | None = None
    """None: no sign-in."""
    rate: SessionRate | None = None
    embedding: Embedding | None = None
    """[embed] and [headers]; None where neither is used."""
    mixed: MixedContent = field(default_factory=MixedContent)
    reconnect: Reconnect | None = None
    """Brings pages back whose token has expired; None: they are refused."""
    rotation: Rotation | None = None
    """Signs again what an earlier key signed; None: there is none."""
    token_warn_size: int = 8 * 1024
    on_open: Callable[[Exchange], Opening]
    on_close: Callable[[Opening, Tunnel], None]


class Known(NamedTuple):
    """What was found out about a target once: how a worker is to be asked, or that the gateway has the file."""

    mount: Mount
    pool: Pool | None
    """None: the gateway has the file, or had."""
    page: bool
    """It may be a page that creates a session."""
    named: bool
    """The query may name a session."""
    plain: bool
    """Where its head names no session either and has no Origin, nothing but the choice of a worker is left to do."""


_MOST_KNOWN: Final = 4096
_LONGEST_KNOWN: Final = 256
"""Bytes of a target that is remembered; longer ones hardly come again."""


class Refusal(HTTPMessageDelegate):
    """Answers at once, whatever follows the head."""

    __slots__ = ("_answer",)

    def __init__(self, answer: Callable[[], None]) -> None:
        self._answer = answer

    def begin(self) -> None:
        self._answer()


class Ready(HTTPMessageDelegate):
    """An answer that is there already."""

    __slots__ = ("_body", "_exchange", "_headers", "_status")

    def __init__(self, exchange: Exchange, status: int, headers: bytes, body: bytes) -> None:
        self._exchange = exchange
        self._status = status
        self._headers = headers
        self._body = body

    def begin(self) -> None:
        self._exchange.respond(self._status, self._headers, self._body)


class Dispatch(HTTPServerConnectionDelegate):
    """The policy chain and the router, under Tornado's contract for servers."""

    def __init__(self, settings: DispatchSettings) -> None:
        self._settings = settings
        self._router = settings.router
        self._fleet = settings.fleet
        self._queueing = Queueing(settings.fleet)
        # A pool that a reload takes away stays known to the connections that began before it.
        self._pools = dict(settings.fleet.pools)
        self._assets = settings.assets
        self._warned: set[bytes] = set()
        self._homes = Homes()
        self._known: dict[tuple[bytes, bytes], Known] = {}

    def start_request(self, server_conn: object, request_conn: Any) -> HTTPMessageDelegate:
        """`request_conn` is an `Exchange` whose head has been read."""
        exchange: Exchange = request_conn
        settings = self._settings
        head = exchange.head
        host = head.host
        connection = exchange.connection
        if connection.trusted:
            host = self._hear_proxy(exchange)
        if settings.https_port is not None and not exchange.secure:
            return self._to_https(exchange, host, settings.https_port)
        if settings.gate is None and head.method == b"GET" and not head.upgrade:
            known = self._known.get((host, head.target))
            if known is not None:
                where, pool, page, _, plain = known
                exchange.route = where.label
                if settings.embedding is not None:
                    settings.embedding.begin(exchange, where)  # a GET is no preflight: nothing is answered
                if pool is not None:
                    # A reload may have given the pool a limit since.
                    if not plain or head.session_ids or head.protocols or head.origins or (page and pool.max_sessions):
                        return self._to_worker(exchange, known, pool, host)
                    return Proxy(exchange, self._fleet, pool, where, None, page, settings.secret)
                if where.folder:
                    return self._to_folder(exchange, where, host)
                answer = self._asset(head, where)
                if answer is not None:
                    return self._static(exchange, answer, where)
        if head.method in _REFUSED_METHODS:
            return _refuse(
                exchange,
                Deny(405, "method-refused", f"{head.method.decode()} is not served."),
                b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n",
            )
        path = head.path
        if path == b"*":
            return Refusal(lambda: exchange.respond(204, b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"))
        if has_dot_segments(path):
            return _refuse(exchange, Deny(400, "dot-segments", "The path has `.` or `..` segments."))
        mount = self._router.match(host, path)
        if settings.embedding is not None:
            preflight = settings.embedding.begin(exchange, mount)
            if preflight is not None:
                if isinstance(preflight, Deny):
                    return _refuse(exchange, preflight)
                return Refusal(lambda: exchange.respond(preflight.status, preflight.headers))
        if mount is None or mount.pool:
            answer = self._asset(head, mount)
            if answer is not None:
                if mount is not None and settings.embedding is None and head.method == b"GET":
                    self._learn(host, head.target, Known(mount, None, False, False, False))
                return self._static(exchange, answer, mount)
        if mount is None:
            return _refuse(
                exchange,
                Deny(404, "no-route", f"No route for {_shown(host)} and this path.", '[[route]] path = "/..."'),
            )
        exchange.route = mount.label
        if settings.gate is not None:
            wanted = None if mount.auth is not None and self._is_public(head, mount) else mount.auth
            return settings.gate.enter(
                exchange, wanted, host, lambda: self._to_mount(server_conn, exchange, mount, host)
            )
        return self._to_mount(server_conn, exchange, mount, host)

    def _to_mount(self, server_conn: object, exchange: Exchange, mount: Mount, host: bytes) -> HTTPMessageDelegate:
        if mount.pool:
            return self._to_pool(exchange, mount, self._pools[mount.pool], host)
        if mount.folder:
            return self._to_folder(exchange, mount, host)
        application = self._settings.applications.get(mount.label)
        if application is not None:
            return application.start_request(server_conn, exchange)
        return _redirect(exchange, mount.redirect.encode("latin-1"))

    def _is_public(self, head: RequestHead, mount: Mount) -> bool:
        """BokehJS that a worker has in another version than ours: Bokeh serves it to everybody too."""
        tail = static_tail(head.path) if head.method in (b"GET", b"HEAD") and not head.upgrade else None
        bokeh = bool(mount.pool) and self._pools[mount.pool].kind == "bokeh"
        return bokeh and tail is not None and tail.startswith(_BOKEHJS) and b"%" not in head.path

    def on_close(self, server_conn: object) -> None:
        for application in self._settings.applications.values():
            application.on_close(server_conn)

    def _hear_proxy(self, exchange: Exchange) -> bytes:
        """What a trusted proxy says about the client counts; returns the host that the browser sees."""
        connection = exchange.connection
        scheme = "https" if connection.secure else "http"
        head = exchange.head
        said = resolve(
            head.pairs,
            connection.remote_ip,
            scheme,
            connection.port,
            head.host,
            self._settings.trusted,
            connection.edge.public,
        )
        exchange.client = said.client
        exchange.secure = said.scheme == "https"
        exchange.forward_lines = said.lines + VIA
        return said.host

    def _to_https(self, exchange: Exchange, host: bytes, port: int) -> HTTPMessageDelegate:
        name = host if host.endswith(b"]") else host.rpartition(b":")[0] or host
        where = b"https://" + name + (b"" if port == 443 else b":%d" % port) + exchange.head.target
        return _redirect(exchange, where)

    # Static files.

    def _asset(self, head: RequestHead, mount: Mount | None) -> Answer | None:
        if self._assets is None or b"/static/" not in head.path:
            return None
        if mount is not None and self._pools[mount.pool].kind == "http" and not head.query.startswith(b"v="):
            return None  # another site's own /static/ may have a file of the same name
        return self._assets.lookup(head.method, head.path, head.query, head.get)

    def _to_folder(self, exchange: Exchange, mount: Mount, host: bytes) -> HTTPMessageDelegate:
        head = exchange.head
        if head.path == mount.path:
            return _to_slash(exchange)
        if not head.path.startswith(mount.inside):
            return _refuse(exchange, Deny(404, "not-found", ""))
        folder = self._settings.folders[mount.folder]
        answer = folder.lookup(head.method, head.path[len(mount.inside) :], head.query, head.get)
        if answer.status == 200 and head.method == b"GET" and (host, head.target) not in self._known:
            self._learn(host, head.target, Known(mount, None, False, False, False))
        return self._static(exchange, answer, mount)

    def _static(self, exchange: Exchange, answer: Answer, mount: Mount | None) -> HTTPMessageDelegate:
        body = answer.body
        if self._settings.embedding is not None:
            answer = self._settings.embedding.of_static(mount, answer)
        if isinstance(body, FileSlice):
            return FileBody(exchange, answer.status, answer.headers, body)
        return Ready(exchange, answer.status, answer.headers, body)

    # Pools.

    def _to_pool(self, exchange: Exchange, mount: Mount, pool: Pool, host: bytes) -> HTTPMessageDelegate:
        head = exchange.head
        websocket = head.upgrade == b"websocket"
        if mount.path and not head.path.startswith(mount.inside):
            if head.path != mount.path:
                return _refuse(exchange, Deny(400, "path-encoded", "The route's path is spelled with escapes."))
            if head.method in (b"GET", b"HEAD") and not websocket and (pool.kind == "bokeh" or mount.strip):
                return _to_slash(exchange)
        if websocket:
            return self._to_websocket(exchange, mount, pool, host)
        query = head.query
        page = pool.kind == "bokeh" and head.method == b"GET" and self._may_be_page(head.path)
        # A name may be spelled with percents too, and the worker would read it.
        named = b"bokeh-" in query or b"%" in query
        known = Known(mount, pool, page, named, not named and self._is_plain(mount, pool, page, head.path))
        if head.method == b"GET":
            self._learn(host, head.target, known)
        return self._to_worker(exchange, known, pool, host)

    def _learn(self, host: bytes, target: bytes, known: Known) -> None:
        if len(target) <= _LONGEST_KNOWN:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known.setdefault((host, target), known)  # a file that was asked of a worker may be here again

    def _to_worker(self, exchange: Exchange, known: Known, pool: Pool, host: bytes) -> HTTPMessageDelegate:
        mount, _, page, named, _ = known
        if pool.kind == "http":
            return Proxy(exchange, self._fleet, pool, mount)
        settings = self._settings
        head = exchange.head
        refs = session_refs(head) if named or head.session_ids or head.protocols else NOTHING
        endpoint = MountLinks if mount.strip and head.path[len(mount.path) :] in PAGES else Proxy
        if refs is NOTHING and not page:
            if EXTENSIONS in head.path and head.method in (b"GET", b"HEAD") and not head.has_body:
                return ExtensionAsset(exchange, self._fleet, pool, mount, self._homes)
            return endpoint(exchange, self._fleet, pool, mount)
        if head.origins:
            settings.mixed.note(exchange, host)
        allowed = settings.sessions.check_page(refs, time())
        if isinstance(allowed, Deny):
            return _refuse(exchange, allowed)
        if page and settings.rate is not None:
            denied = settings.rate.check(exchange.client, exchange.connection.edge.sweep.now)
            if denied is not None:
                return _refuse(exchange, denied, b"Retry-After: %d\r\n" % WINDOW)
        if mount.unwanted_cookies is not None:
            head.plain = without_matching_cookies(head.plain, mount.unwanted_cookies)
        session_id, mint = allowed.session_id, allowed.mint and page
        if settings.rotation is not None and session_id is not None and settings.rotation.is_old(session_id):
            session_id = settings.rotation.of_page(head, refs, session_id)
        proxy = endpoint(exchange, self._fleet, pool, mount, session_id, mint, settings.secret)
        if pool.max_sessions is not None and page and (session_id is None or self._fleet.is_new(pool, session_id)):
            found = self._queueing.admit(pool, head, monotonic())
            if isinstance(found, tuple):
                return _refuse(exchange, *found)
            if found is not None:
                proxy.reserved = found
                if session_id is not None:
                    self._fleet.learn(found, session_id)
        return proxy

    def _is_plain(self, mount: Mount, pool: Pool, page: bool, path: bytes) -> bool:
        """Whether `_to_worker` would find nothing to do, for a GET that names no session and has no Origin."""
        settings = self._settings
        if pool.kind == "http":
            return True
        if mount.strip or EXTENSIONS in path:
            return False
        if not page:
            return True
        free = settings.sessions.check_page(NOTHING, time()) is MINT
        return free and settings.rate is None and mount.unwanted_cookies is None

    @staticmethod
    def _may_be_page(path: bytes) -> bool:
        """Any GET may be one, but for what is certainly something else."""
        kind = split(path).kind
        if kind is Kind.PAGE:
            return not path.endswith(_NOT_A_PAGE)
        return kind is Kind.AUTOLOAD

    def _to_websocket(self, exchange: Exchange, mount: Mount, pool: Pool, host: bytes) -> HTTPMessageDelegate:
        settings = self._settings
        head = exchange.head
        try:
            key = check_websocket(head)
        except BadHead as bad:
            return _refuse(exchange, Deny(bad.status, "websocket-handshake", bad.detail), bad.headers)
        session_id: str | None = None
        way: Way | None = None
        if pool.kind == "bokeh":
            denied = settings.origins.check(
                [origin.decode("latin-1") for origin in head.origins], host.decode("latin-1"), exchange.secure
            )
            if denied is not None:
                return _refuse(exchange, denied)
            if head.origins:
                settings.mixed.note(exchange, host)
            refs = session_refs(head)
            now = time()
            named = settings.sessions.check_websocket(refs, now)
            token = refs.subprotocol
            clock = exchange.connection.edge.sweep.now
            if settings.rotation is not None and token is not None and isinstance(named, Named):
                token, named = self._signed_again(settings.rotation, exchange, token, named, mount, pool)
            if settings.reconnect is not None and token is not None:
                found = settings.reconnect.way(head, token, named, mount, pool, now, clock)
                if isinstance(found, Deny):
                    return _refuse(exchange, found)
                way = found
            if isinstance(named, Deny):
                if way is None:
                    return _refuse(exchange, named)
                session_id = way.session_id
            else:
                session_id = named.session_id
            if refs.subprotocol is not None:
                self._note_token(head, pool, len(refs.subprotocol))
        return WebSocketProxy(
            exchange,
            self._fleet,
            pool,
            mount,
            session_id,
            key=key,
            settings=settings.tunnel,
            on_open=settings.on_open,
            on_close=settings.on_close,
            way=way,
        )

    def _signed_again(
        self, rotation: Rotation, exchange: Exchange, token: str, named: Named, mount: Mount, pool: Pool
    ) -> tuple[str, Named]:
        head, clock, session_id = exchange.head, exchange.connection.edge.sweep.now, named.session_id
        if session_id is None or not rotation.is_old(session_id):
            return token, named
        if self._fleet.live.worker_of(key_of(head, mount, session_id), pool, clock) is not None:
            return token, named
        token, session_id = rotation.of_token(head, token)
        return token, Named(session_id, False, named.expiry)

    def _note_token(self, head: RequestHead, pool: Pool, size: int) -> None:
        self._fleet.metrics.token_bytes.observe(size)
        app = app_path(head.path)
        if size > self._settings.token_warn_size and app not in self._warned and len(self._warned) < 1000:
            self._warned.add(app)
            log.warning(
                "%s: session tokens of %d bytes: proxies in front of the gateway may refuse them; the page request's "
                "headers and cookies are in them ([pool.%s] strip_cookies, bokeh serve --exclude-headers; said from "
                "[limits] token_warn_size on)",
                app.decode("latin-1"),
                size,
                pool.name,
            )


def _refuse(exchange: Exchange, deny: Deny, headers: bytes = b"") -> HTTPMessageDelegate:
    def answer() -> None:
        exchange.reason = deny.reason
        exchange.refusal = deny
        if exchange.head.has_body:
            exchange.keep = False
        lines, body = explain(deny.status, deny.detail, deny.setting, exchange.head.get(b"accept") or b"")
        exchange.respond(deny.status, headers + lines, body)

    return Refusal(answer)


def _redirect(exchange: Exchange, where: bytes) -> HTTPMessageDelegate:
    return Refusal(lambda: exchange.respond(308, b"Location: " + where + b"\r\n"))


def _to_slash(exchange: Exchange) -> HTTPMessageDelegate:
    """The mount point itself: what is behind it links relative to the slash."""
    head = exchange.head
    query = b"?" + head.query if b"?" in head.target else b""
    return _redirect(exchange, head.path + b"/" + query)


def _shown(host: bytes) -> str:
    return split_host(host)[0] if host else "no host"
