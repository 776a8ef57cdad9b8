"""Whether a request may use the session that it names, and which one that is.  Pure: `now` is passed in.

Modes are those of `bokeh serve --session-ids`.  The rules are Bokeh's (`server/views/session_handler.py` and
`server/views/ws.py`), except that they are said with a status before a worker is touched, where a worker answers 101
and closes.  A refusal never quotes a token or a session id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from bokeh_gateway.bokeh import session_id as ids
from bokeh_gateway.bokeh import token as tokens
from bokeh_gateway.bokeh.request import NOTHING, SessionRefs
from bokeh_gateway.policy.verdict import Deny

Mode = Literal["unsigned", "signed", "external-signed"]

TOKEN_EXPIRED: Final = "token-expired"
"""The reason of the one refusal that `policy.reconnect` may lift."""

LEEWAY: Final = 30.0
"""Seconds that a token outlives its expiry here: the worker refuses to the second, by the clock that made the token."""


@dataclass(frozen=True, slots=True)
class Named:
    """What the request may go on with."""

    session_id: str | None
    mint: bool
    """No session is named and the gateway makes one; when it is None and this is False, the request passes as it is."""
    expiry: int | None = field(default=None, compare=False)
    """Of the token that named it; None: it was named in another way."""


MINT: Final = Named(None, True)
PASS: Final = Named(None, False)


class SessionPolicy:
    """`[sessions]`.  `secrets` are all accepted (rotation); who mints uses the first one."""

    def __init__(self, mode: Mode, secrets: Sequence[bytes], leeway: float = LEEWAY) -> None:
        """`leeway` in seconds.

        Raises:
            ValueError: a mode that signs has no secret.
        """
        if mode != "unsigned" and not secrets:
            raise ValueError(f'sessions.mode = "{mode}" needs sessions.secret_key, the one that the workers have')
        self._secrets = tuple(secrets)
        self._signed = mode != "unsigned"
        self._nothing: Named | Deny = _ID_MISSING if mode == "external-signed" else MINT
        self._leeway = leeway

    def check_page(self, refs: SessionRefs, now: float) -> Named | Deny:
        """May this GET of a page, or of autoload.js, have a session, and which?  `now` in seconds since 1970."""
        if refs is NOTHING:
            return self._nothing
        named = self._named(refs, now)
        return self._nothing if named is PASS else named

    def check_websocket(self, refs: SessionRefs, now: float) -> Named | Deny:
        """May this WebSocket be opened, and for which session?

        The token among the subprotocols decides alone, as it does at the worker: BokehJS repeats the page's query on
        the WebSocket's URL, so a page that was asked for by id names its session in both.
        """
        if refs.subprotocol is not None:
            return self._by_token(refs.subprotocol, now)
        named = self._named(refs, now)
        return _TOKEN_MISSING if named is PASS and self._signed else named

    def _named(self, refs: SessionRefs, now: float) -> Named | Deny:
        """By header or argument; PASS when there is neither."""
        times = len(refs.header) + len(refs.argument) + len(refs.token_argument)
        if times > 1:
            return _NAMED_TWICE
        if refs.token_argument:
            return self._by_token(refs.token_argument[0], now)
        for session_id in refs.header or refs.argument:
            return self._by_id(session_id)
        return PASS

    def _by_token(self, token: str, now: float) -> Named | Deny:
        if self._signed and not tokens.verify_outer(token, self._secrets):
            return _TOKEN_SIGNATURE
        try:
            claims = tokens.read_claims(token)
        except tokens.TokenError as error:
            return Deny(403, error.reason, f"The session token cannot be used: {error}.")
        if claims.expiry is None:
            return _NO_EXPIRY
        named = self._by_id(claims.session_id)
        if isinstance(named, Deny):
            return named
        if now >= claims.expiry + self._leeway:
            return _expired(now - claims.expiry)
        return Named(named.session_id, False, claims.expiry)

    def _by_id(self, session_id: str) -> Named | Deny:
        if not ids.valid_form(session_id):
            return _ID_INVALID
        if self._signed and not ids.verify(session_id, self._secrets):
            return _ID_SIGNATURE
        return Named(session_id, False)


def _expired(ago: float) -> Deny:
    return Deny(
        401,
        TOKEN_EXPIRED,
        f"The session token expired {ago:.0f} s ago: reload the page to get a new session.",
        '[sessions] token_expiration = "1 hour"',
    )


_SECRET: Final = '[sessions] secret_key = "the BOKEH_SECRET_KEY of the workers"'

_NO_EXPIRY: Final = Deny(403, "token-malformed", "The session token does not say when it expires.")
_TOKEN_SIGNATURE: Final = Deny(
    403, "token-signature", "The session token is not signed with this server's secret key.", _SECRET
)
_ID_SIGNATURE: Final = Deny(
    403, "session-id-signature", "The session id is not signed with this server's secret key.", _SECRET
)
_ID_INVALID: Final = Deny(
    403,
    "session-id-invalid",
    f"The session id is not 1 to {ids.MAX_LENGTH} printable ASCII characters without space and slash.",
)
_NAMED_TWICE: Final = Deny(
    403,
    "session-named-twice",
    "The request names its session more than once: one Bokeh-Session-Id header, bokeh-session-id argument or "
    "bokeh-token argument is wanted.",
)
_ID_MISSING: Final = Deny(
    403,
    "session-id-missing",
    "The request names no session, and on this server another application makes the sessions.",
    '[sessions] mode = "signed"',
)
_TOKEN_MISSING: Final = Deny(
    401,
    "token-missing",
    "The WebSocket brings no session token: the subprotocols are not `bokeh` and a token.",
    '[sessions] mode = "unsigned"',
)
