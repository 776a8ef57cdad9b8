"""[auth.oidc]: sessions of people who signed in at an OpenID provider, each in a sealed cookie.

The cookie is all there is: it opens in every gateway process that has the secret.  Beside it all processes know who
signed out, and the newest of the sessions that any of them refreshed, as a refresh token often works only once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from time import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from tornado.httputil import HTTPMessageDelegate

from bokeh_gateway.endpoint.auth_cookie import Seal, cookie_name, read_pieces, set_pieces
from bokeh_gateway.endpoint.auth_gate import Known
from bokeh_gateway.policy.credentials import cookies
from bokeh_gateway.policy.identity import Identity, Requirement
from bokeh_gateway.policy.verdict import Deny
from bokeh_gateway.signer.fetch import COOL_DOWN, Answered, Unreachable

if TYPE_CHECKING:
    from bokeh_gateway.endpoint.auth_provider import Provider
    from bokeh_gateway.endpoint.auth_refreshes import Refreshes
    from bokeh_gateway.endpoint.auth_signed_out import SignedOut
    from bokeh_gateway.wire.exchange import Exchange

log = logging.getLogger(__name__)

REMEMBERED: Final = 10_000
"""Sessions that were refreshed; the oldest are forgotten first."""


@dataclass(frozen=True, slots=True)
class Session:
    """What a cookie holds."""

    sid: str
    """Random; names this sign-in."""
    subject: str
    user: str
    groups: tuple[str, ...]
    headers: tuple[tuple[str, str], ...]
    ends: float
    """Seconds of the epoch."""
    checked: float
    """When the provider last vouched for it."""
    refresh_token: str | None = None

    def dump(self) -> dict[str, Any]:
        return {
            "i": self.sid,
            "s": self.subject,
            "u": self.user,
            "g": list(self.groups),
            "h": [list(pair) for pair in self.headers],
            "e": self.ends,
            "c": self.checked,
            "r": self.refresh_token,
        }

    @staticmethod
    def load(content: dict[str, Any] | None) -> Session | None:
        """What `dump` made; None for what no version of this wrote."""
        if content is None:
            return None
        try:
            return Session(
                str(content["i"]),
                str(content["s"]),
                str(content["u"]),
                tuple(content["g"]),
                tuple((str(name), str(value)) for name, value in content["h"]),
                float(content["e"]),
                float(content["c"]),
                content["r"],
            )
        except (KeyError, TypeError, ValueError):
            return None

    def identity(self) -> Identity:
        groups = frozenset(self.groups)
        return Identity(self.user, "oidc", groups, frozenset(), self.ends, self.live_subject, self.headers)

    @property
    def live_subject(self) -> str:
        """What its WebSockets are found by."""
        return f"oidc {self.sid}"


class OidcMethod:
    """Knows who sent a request by the session's cookie."""

    name = "oidc"
    challenge = b""

    def __init__(self, provider: Provider, secret: str, signed_out: SignedOut, refreshes: Refreshes) -> None:
        self.provider = provider
        self.seal = Seal(secret, "oidc session")
        self._settings = provider.settings
        self._newest: dict[str, Session] = {}
        self._retry: dict[str, float] = {}
        self._signed_out = signed_out
        self._refreshes = refreshes
        self._running: dict[str, asyncio.Task[Session | Deny]] = {}

    def inherit(self, before: OidcMethod) -> None:
        """Takes over what one before it knew of the same provider."""
        self.provider.inherit(before.provider)
        if before._settings.issuer == self._settings.issuer:
            self._newest.update(before._newest)

    def told(self, sid: str, sealed: bytes | None) -> None:
        """A process refreshed a session, or could not."""
        session = Session.load(self.seal.open(sealed)) if sealed is not None else None
        if session is not None:
            newest = self._newest.get(session.sid)
            if newest is None or newest.checked < session.checked:
                self._remember(session)
        self._refreshes.told(sid)

    def look(self, exchange: Exchange, wanted: Requirement, now: float) -> Known | Coroutine[None, None, Known]:
        session = self.session(exchange)
        if session is None or isinstance(session, Deny):
            return session
        if now >= session.ends or self._signed_out.holds(session.live_subject, now):
            return Deny(401, "session-ended", "the session has ended", "[auth.oidc] session = ...")
        newest = self._newest.get(session.sid)
        if newest is not None and newest.checked > session.checked:
            session = newest
            self._give(exchange, session, now)
        due = session.checked + self._settings.refresh
        if session.refresh_token is not None and now >= due:
            borne = now < self._retry.get(session.sid, 0.0) and now < due + self._settings.refresh
            return session.identity() if borne else self._refreshed(exchange, session, now)
        return session.identity()

    def login(self, exchange: Exchange, wanted: Requirement, host: bytes) -> str | None:
        return f"{self._settings.path}/login?next={quote(exchange.head.target.decode('latin-1'), safe='/')}"

    def settle(self, exchange: Exchange, identity: Identity) -> HTTPMessageDelegate | None:
        return None

    def strip(self, exchange: Exchange) -> None:
        """Nothing: the gate takes the cookie out of every request."""

    def session(self, exchange: Exchange) -> Session | Deny | None:
        """What the request's cookie holds."""
        found = dict(cookies(exchange.head))
        sealed, _ = read_pieces(found, cookie_name(self._settings.cookie, secure=exchange.secure))
        if not sealed:
            return None
        session = Session.load(self.seal.open(sealed))
        return session or Deny(401, "session-cookie", "the session's cookie was not made here, or was changed")

    def set_cookie(self, exchange: Exchange, session: Session, now: float) -> bytes:
        """The lines that give the browser the session.

        Raises:
            ValueError: it is too large for cookies.
        """
        name = cookie_name(self._settings.cookie, secure=exchange.secure)
        _, before = read_pieces(dict(cookies(exchange.head)), name)
        age = max(int(session.ends - now), 1)
        return set_pieces(name, self.seal.close(session.dump()), secure=exchange.secure, max_age=age, before=before)

    def clear_cookie(self, exchange: Exchange) -> bytes:
        name = cookie_name(self._settings.cookie, secure=exchange.secure)
        _, before = read_pieces(dict(cookies(exchange.head)), name)
        return set_pieces(name, b"", secure=exchange.secure, max_age=0, before=before)

    def sign_out(self, session: Session) -> None:
        """Its cookie no longer opens anything."""
        self._signed_out.add(session.live_subject, time(), session.ends)
        self._newest.pop(session.sid, None)

    async def _refreshed(self, exchange: Exchange, session: Session, now: float) -> Known:
        """One question to the provider, however many requests come meanwhile."""
        task = self._running.get(session.sid)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._refresh(session, now))
            self._running[session.sid] = task
            task.add_done_callback(lambda _: self._running.pop(session.sid, None))
        found = await asyncio.shield(task)
        if isinstance(found, Deny):
            return found
        if found != session:
            self._give(exchange, found, now)
        return found.identity()

    def _give(self, exchange: Exchange, session: Session, now: float) -> None:
        try:
            exchange.more_lines += self.set_cookie(exchange, session, now)
        except ValueError as error:
            # The old cookie goes on to lead to this session here, as long as this process remembers it.
            log.error("[auth.oidc]: a refreshed session of %r cannot be given to the browser: %s", session.user, error)

    async def _refresh(self, session: Session, now: float) -> Session | Deny:
        """What the provider says, asked by this process or by another one."""
        sid, checked = session.sid, session.checked
        # An answer takes the provider's discovery, tokens and keys.
        if not self._refreshes.take(sid, checked, now, 3 * self._settings.timeout + 1.0):
            return await self._refreshed_elsewhere(session, now)
        found = await self._ask(session, now)
        if isinstance(found, Deny) or found is session:
            self._refreshes.failed(sid, checked)
        else:
            self._remember(found)
            self._refreshes.tell(sid, self.seal.close(found.dump()))
        return found

    async def _refreshed_elsewhere(self, session: Session, now: float) -> Session | Deny:
        newest = self._newest.get(session.sid)
        if newest is None or newest.checked <= session.checked:
            await self._refreshes.wait(session.sid, self._settings.timeout)
            newest = self._newest.get(session.sid)
        if newest is not None and newest.checked > session.checked:
            return newest
        if self._signed_out.holds(session.live_subject, now):
            return Deny(401, "session-refused", "the provider no longer vouches for the session")
        return self._unreachable(session, now, "another process asked, and got no answer")

    async def _ask(self, session: Session, now: float) -> Session | Deny:
        assert session.refresh_token is not None
        try:
            answer = await self.provider.tokens({"grant_type": "refresh_token", "refresh_token": session.refresh_token})
        except Answered as refused:
            if refused.status < 500 and refused.status != 429:
                self.sign_out(session)
                return Deny(401, "session-refused", "the provider no longer vouches for the session")
            return self._unreachable(session, now, f"it answered {refused.status}")
        except Unreachable as error:
            return self._unreachable(session, now, str(error))
        renewed = replace(session, checked=now)
        token = answer.get("refresh_token")
        if isinstance(token, str) and token:
            renewed = replace(renewed, refresh_token=token)
        if answer.get("id_token") is not None:
            found = await self.provider.identify(answer["id_token"], None)
            if isinstance(found, Deny):
                return found
            identity, subject = found
            if subject != session.subject:
                return Deny(401, "session-refused", "the provider's answer is of somebody else")
            renewed = replace(
                renewed, user=identity.user, groups=tuple(sorted(identity.groups)), headers=identity.headers
            )
        return renewed

    def _unreachable(self, session: Session, now: float, problem: str) -> Session | Deny:
        """For as long again as the last word of the provider was good for, its silence is borne."""
        if now >= session.checked + 2 * self._settings.refresh:
            return Deny(503, "provider-down", f"the session cannot be refreshed: {problem}")
        log.warning("[auth.oidc]: a session could not be refreshed, it goes on for now: %s", problem)
        # Asked again only after a while: else each request would wait for the timeout.
        if len(self._retry) >= REMEMBERED:
            self._retry.clear()
        self._retry[session.sid] = now + COOL_DOWN
        return session

    def _remember(self, session: Session) -> None:
        self._newest.pop(session.sid, None)
        if len(self._newest) >= REMEMBERED:
            del self._newest[next(iter(self._newest))]
        self._newest[session.sid] = session
