"""The three addresses of [auth.oidc]: login sends to the provider, callback comes back from it, logout ends it.

What a browser must bring back to the callback is sealed in a cookie of its own: a callback that it did not begin, or
that somebody else began, signs nobody in.  Sources: OpenID Connect Core 1.0 section 3.1, RFC 7636, RFC 9207, RFC 9700.
"""

from __future__ import annotations

import hmac
import logging
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from hashlib import sha256
from secrets import token_urlsafe
from time import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlencode

from tornado.httputil import HTTPMessageDelegate, HTTPServerConnectionDelegate

from bokeh_gateway.endpoint.auth_cookie import Seal, cookie_name, set_cookie
from bokeh_gateway.endpoint.auth_gate import Answer, Redirect, Waiting
from bokeh_gateway.endpoint.auth_oidc import OidcMethod, Session
from bokeh_gateway.endpoint.public_host import public_host
from bokeh_gateway.policy.credentials import cookies
from bokeh_gateway.policy.return_to import safe_path
from bokeh_gateway.policy.verdict import Deny
from bokeh_gateway.signer.fetch import Answered, Unreachable

if TYPE_CHECKING:
    from bokeh_gateway.wire.exchange import Exchange

log = logging.getLogger(__name__)

LOGIN_TIME: Final = 600.0
"""Seconds for a login at the provider."""
MOST_LOGINS: Final = 5
"""Logins that one browser may have begun; beyond, the others are given up, or their cookies would fill its head."""


class OidcPages(HTTPServerConnectionDelegate):
    """Answers below `[auth.oidc] path`."""

    def __init__(
        self, method: OidcMethod, secret: str, public_url: str | None, signed_out: Callable[[str], None]
    ) -> None:
        """`signed_out` is told whose WebSockets end."""
        self._method = method
        self._provider = method.provider
        self._settings = method.provider.settings
        self._seal = Seal(secret, "oidc login")
        self._origin = "/".join(public_url.split("/")[:3]) if public_url is not None else None
        self._signed_out = signed_out

    def start_request(self, server_conn: object, request_conn: Any) -> HTTPMessageDelegate:
        exchange: Exchange = request_conn
        head = exchange.head
        page = head.path.decode("latin-1").removeprefix(self._settings.path)
        answers: dict[str, Callable[[Exchange], Awaitable[HTTPMessageDelegate]]] = {
            "/login": self._login,
            "/callback": self._callback,
            "/logout": self._logout,
        }
        answer = answers.get(page)
        if answer is None:
            return Answer(exchange, 404, b"")
        if head.method != b"GET":
            return Answer(exchange, 405, b"Allow: GET\r\n")
        return Waiting(exchange, self._guarded(exchange, answer))

    def on_close(self, server_conn: object) -> None:
        pass

    async def _guarded(
        self, exchange: Exchange, answer: Callable[[Exchange], Awaitable[HTTPMessageDelegate]]
    ) -> HTTPMessageDelegate:
        try:
            return await answer(exchange)
        except Unreachable as error:
            return _refuse(exchange, Deny(503, "provider-down", str(error), "[auth.oidc] issuer = ..."))

    async def _login(self, exchange: Exchange) -> HTTPMessageDelegate:
        await self._provider.metadata()
        where = self._provider.known("authorization_endpoint")
        assert where is not None
        back = safe_path(_arguments(exchange).get("next", "/"))
        state, nonce, verifier = token_urlsafe(24), token_urlsafe(24), token_urlsafe(48)
        content = {"s": state, "n": nonce, "v": verifier, "b": back, "t": time()}
        challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).decode().rstrip("=")
        query = urlencode(
            {
                "response_type": "code",
                "client_id": self._settings.client_id,
                "redirect_uri": self._redirect_uri(exchange),
                "scope": " ".join(self._settings.scopes),
                "state": state,
                "nonce": nonce,
                "code_challenge": challenge,
                "code_challenge_method": "S256",
            }
        )
        lines = self._give_up_others(exchange) + set_cookie(
            self._cookie(exchange, state), self._seal.close(content), secure=exchange.secure, max_age=int(LOGIN_TIME)
        )
        return Redirect(exchange, f"{where}{'&' if '?' in where else '?'}{query}", lines)

    async def _callback(self, exchange: Exchange) -> HTTPMessageDelegate:
        said = _arguments(exchange)
        state = said.get("state", "")
        name = self._cookie(exchange, state)
        begun = self._seal.open(dict(cookies(exchange.head)).get(name, b""))
        clear = set_cookie(name, b"", secure=exchange.secure, max_age=0)
        if begun is None or not hmac.compare_digest(str(begun["s"]).encode(), state.encode()):
            return _refuse(exchange, Deny(400, "login-state", "no login with this state was begun in this browser"))
        if time() - float(begun["t"]) > LOGIN_TIME:
            return _refuse(exchange, Deny(400, "login-state", "the login took too long"), clear)
        # RFC 9207 section 2.4: who says his name with each answer, and does not, is somebody else.
        unnamed = "" if self._provider.names_itself else self._settings.issuer
        if said.get("iss", unnamed) != self._settings.issuer:
            return _refuse(exchange, Deny(400, "login-issuer", "another provider than the one asked answered"), clear)
        if not said.get("code"):
            error = said.get("error", "")
            shown = error if error.replace("_", "").isalnum() and len(error) < 64 else "no code"
            return _refuse(exchange, Deny(403, "login-refused", f"the provider signed nobody in: {shown}"), clear)
        found = await self._sign_in(exchange, said["code"], begun)
        if isinstance(found, Deny):
            return _refuse(exchange, found, clear)
        exchange.user = found.user
        try:
            lines = self._method.set_cookie(exchange, found, time())
        except ValueError as error:
            deny = Deny(500, "session-too-large", f"{error}: fewer claims or groups", "[auth.oidc] headers = ...")
            return _refuse(exchange, deny, clear)
        return Redirect(exchange, safe_path(str(begun["b"])), clear + lines)

    async def _sign_in(self, exchange: Exchange, code: str, begun: dict[str, Any]) -> Session | Deny:
        try:
            answer = await self._provider.tokens(
                {
                    "grant_type": "authorization_code",
                    "code": code,
                    "redirect_uri": self._redirect_uri(exchange),
                    "code_verifier": str(begun["v"]),
                }
            )
        except Answered as refused:
            return Deny(403, "login-refused", f"the provider's token endpoint answered {refused.status}")
        found = await self._provider.identify(answer.get("id_token"), str(begun["n"]))
        if isinstance(found, Deny):
            # 401 would be a challenge; this login has failed.
            return found if found.status >= 500 else Deny(403, found.reason, found.detail, found.setting)
        identity, subject = found
        now = time()
        token = answer.get("refresh_token")
        return Session(
            token_urlsafe(16),
            subject,
            identity.user,
            tuple(sorted(identity.groups)),
            identity.headers,
            now + self._settings.session,
            now,
            token if isinstance(token, str) and token else None,
        )

    async def _logout(self, exchange: Exchange) -> HTTPMessageDelegate:
        session = self._method.session(exchange)
        if isinstance(session, Session):
            exchange.user = session.user
            self._method.sign_out(session)
            self._signed_out(session.live_subject)
        after = self._settings.after_logout or "/"
        try:
            await self._provider.metadata()
        except Unreachable:
            log.warning("[auth.oidc]: a user signed out here, but not at the provider, which cannot be reached")
        end = self._provider.known("end_session_endpoint")
        if end is not None:
            absolute = self._public(exchange) + after if after.startswith("/") else after
            query = urlencode({"client_id": self._settings.client_id, "post_logout_redirect_uri": absolute})
            after = f"{end}{'&' if '?' in end else '?'}{query}"
        return Redirect(exchange, after, self._method.clear_cookie(exchange))

    def _redirect_uri(self, exchange: Exchange) -> str:
        return f"{self._public(exchange)}{self._settings.path}/callback"

    def _public(self, exchange: Exchange) -> str:
        """The origin as the browser sees it."""
        if self._origin is not None:
            return self._origin
        return f"{'https' if exchange.secure else 'http'}://{public_host(exchange).decode('latin-1')}"

    def _cookie(self, exchange: Exchange, state: str) -> bytes:
        """Each login has a cookie of its own, so that two tabs do not disturb each other."""
        mark = sha256(state.encode("utf-8", "replace")).hexdigest()[:12]
        return cookie_name(f"{self._settings.cookie}-login-{mark}", secure=exchange.secure)

    def _give_up_others(self, exchange: Exchange) -> bytes:
        prefix = cookie_name(f"{self._settings.cookie}-login-", secure=exchange.secure)
        begun = [name for name, _ in cookies(exchange.head) if name.startswith(prefix)]
        if len(begun) < MOST_LOGINS:
            return b""
        return b"".join(set_cookie(name, b"", secure=exchange.secure, max_age=0) for name in begun[:50])


def _arguments(exchange: Exchange) -> dict[str, str]:
    """Query arguments; one that stands twice is empty."""
    found = parse_qs(exchange.head.query.decode("latin-1"), keep_blank_values=True, max_num_fields=50)
    return {name: values[0] if len(values) == 1 else "" for name, values in found.items()}


def _refuse(exchange: Exchange, deny: Deny, headers: bytes = b"") -> HTTPMessageDelegate:
    exchange.reason = deny.reason
    exchange.refusal = deny
    return Answer(exchange, deny.status, headers)
