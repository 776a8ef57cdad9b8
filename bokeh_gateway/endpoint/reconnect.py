"""A page that comes back with an expired token: its session's worker is found, its token made again."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bokeh_gateway.balance.live_sessions import session_key
from bokeh_gateway.bokeh.token import read_claims
from bokeh_gateway.endpoint.rotation import with_line
from bokeh_gateway.policy.reconnect import ReconnectPolicy, gone
from bokeh_gateway.policy.session import TOKEN_EXPIRED
from bokeh_gateway.policy.verdict import Deny

if TYPE_CHECKING:
    from bokeh_gateway.balance.pool import Pool, Worker
    from bokeh_gateway.endpoint.fleet import Fleet
    from bokeh_gateway.endpoint.router import Mount
    from bokeh_gateway.http.head import RequestHead
    from bokeh_gateway.policy.session import Named

log = logging.getLogger(__name__)

_PROTOCOL: Final = b"sec-websocket-protocol"


@dataclass(frozen=True, slots=True)
class Way:
    """How a WebSocket goes to its worker."""

    session_id: str
    key: bytes
    """Of the session in `LiveSessions`."""
    worker: Worker | None = None
    """The only one that may get it, as its token was made again; None: any, as affinity says."""


class Reconnect:
    """`[sessions] reconnect` at the WebSocket."""

    def __init__(self, policy: ReconnectPolicy, fleet: Fleet) -> None:
        self._policy = policy
        self._fleet = fleet

    def way(
        self, head: RequestHead, token: str, named: Named | Deny, mount: Mount, pool: Pool, now: float, clock: float
    ) -> Way | Deny:
        """The way of a WebSocket whose token the session policy has judged with `named`.

        The token in `head` is replaced when it has to be.  `now` is seconds since 1970, `clock` the sweep's time.
        """
        if isinstance(named, Deny):
            if named.reason != TOKEN_EXPIRED:
                return named
            claims = read_claims(token)
            session_id, expiry, expired = claims.session_id, claims.expiry, named
        else:
            assert named.session_id is not None
            session_id, expiry, expired = named.session_id, named.expiry, None
        key = key_of(head, mount, session_id)
        if expiry is None or not self._policy.near(expiry, now):
            return Way(session_id, key)
        worker = self._fleet.live.worker_of(key, pool, clock)
        late = self._policy.too_late(expiry, now)
        # A gateway that ends a session itself lets its page begin anew, as BokehJS tries to at once.
        if late is not None or (worker is None and not self._fleet.live.released(key, clock)):
            if expired is None:
                return Way(session_id, key)  # not refused yet: the worker decides, by its own clock
            return late or gone(pool.name, now - expiry, pool.workers[0].keeps)
        line = (b"Sec-WebSocket-Protocol: bokeh, ", self._policy.renew(token, now).encode())
        head.plain = with_line(head.plain, _PROTOCOL, line)
        if worker is None:
            return Way(session_id, key)
        self._fleet.metrics.tokens_renewed.add(worker.name)
        if expired is not None:
            log.info("%s: a page came back to its session after its token had expired", worker.name)
        return Way(session_id, key, worker)


def key_of(head: RequestHead, mount: Mount, session_id: str) -> bytes:
    """Of the session that a WebSocket wants, in `LiveSessions`."""
    path = head.path[len(mount.path) :] if mount.strip else head.path
    return session_key(path, session_id)
