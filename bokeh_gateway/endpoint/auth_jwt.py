"""[auth.jwt]: tokens that somebody else signed, from the header, an argument or a cookie.

A token that was verified once is remembered until it ends, so that later requests cost a hash and no signature.
"""

from __future__ import annotations

from collections.abc import Coroutine
from hashlib import blake2b
from time import time
from typing import TYPE_CHECKING, Final

from tornado.httputil import HTTPMessageDelegate

from bokeh_gateway.bokeh.paths import is_autoload
from bokeh_gateway.endpoint.auth_cookie import set_cookie
from bokeh_gateway.endpoint.auth_gate import Known, Redirect
from bokeh_gateway.endpoint.auth_token import Header, read_header, verify
from bokeh_gateway.policy.credentials import argument, authorization, cookie, without_argument, without_cookies
from bokeh_gateway.policy.identity import Identity, Requirement, without
from bokeh_gateway.policy.jwt_claims import ClaimRules
from bokeh_gateway.policy.login import is_foreign_frame, may_redirect
from bokeh_gateway.policy.verdict import Deny
from bokeh_gateway.signer.keys import Key

if TYPE_CHECKING:
    from bokeh_gateway.config.auth import Jwt
    from bokeh_gateway.endpoint.auth_ticket import Tickets
    from bokeh_gateway.http.head import RequestHead
    from bokeh_gateway.signer.told import ToldKeys
    from bokeh_gateway.wire.exchange import Exchange

REMEMBERED: Final = 4096
"""Verified tokens; the oldest are forgotten first."""
COOKIE_SIZE: Final = 3800
"""Bytes of a token that fit a cookie with its attributes."""
_AUTHORIZATION: Final = frozenset({b"authorization"})


def claim_rules(settings: Jwt) -> ClaimRules:
    """What [auth.jwt] wants of claims."""
    return ClaimRules(
        method="jwt",
        issuers=frozenset(settings.issuer),
        audiences=frozenset(settings.audience),
        leeway=settings.leeway,
        require=settings.require,
        user=settings.user_claim,
        groups=settings.groups_claim,
        scopes=settings.scope_claim,
        headers=tuple(settings.headers.items()),
    )


class JwtMethod:
    """Knows who sent a request by its token."""

    name = "jwt"
    challenge = b'WWW-Authenticate: Bearer realm="bokeh-gateway"\r\n'

    def __init__(self, settings: Jwt, keys: list[Key], source: ToldKeys | None, tickets: Tickets | None = None) -> None:
        """`keys`: those of the configuration; `source`: the signer's own list; `tickets`: for embedded apps."""
        self._settings = settings
        self._rules = claim_rules(settings)
        self._algorithms: frozenset[str] = frozenset(settings.algorithms)
        self._fixed = keys
        self._keys = keys
        self._source = source
        self._tickets = tickets
        self._generation = 0
        self._known: dict[bytes, Identity] = {}
        self._cookie = settings.cookie.encode() if settings.cookie else b""
        self._argument = settings.argument.encode() if settings.argument else b""

    def look(self, exchange: Exchange, wanted: Requirement, now: float) -> Known | Coroutine[None, None, Known]:
        token = self._find(exchange.head)
        if token is None and self._tickets is not None and exchange.head.upgrade == b"websocket":
            return self._tickets.read(exchange.head, now)
        if token is None or isinstance(token, Deny):
            return token
        if self._source is not None and self._source.generation != self._generation:
            self._take_keys(self._source)
        digest = blake2b(token, digest_size=32).digest()
        known = self._known.get(digest)
        if known is not None and known.expires is not None:
            if now < known.expires + self._rules.leeway:
                return known
            del self._known[digest]
        header = read_header(token, self._algorithms, self.name)
        if isinstance(header, Deny):
            return header
        if self._is_stale(header):
            return self._look_again(token, digest, header)
        found = self._check(token, digest, header, now)
        if isinstance(found, Deny) and found.reason == "token-signature" and self._may_be_a_new_key(header):
            return self._look_again(token, digest, header)
        return found

    def login(self, exchange: Exchange, wanted: Requirement, host: bytes) -> str | None:
        return None

    def settle(self, exchange: Exchange, identity: Identity) -> HTTPMessageDelegate | None:
        """A page that was opened with a token in its address gets it as a cookie, and an address without it.

        The WebSocket that follows carries no argument, and addresses end in histories and logs.  In a frame of another
        site's page a cookie would not be kept; there the WebSocket carries the arguments of the frame's address.
        """
        head = exchange.head
        if self._tickets is not None and head.method == b"GET" and is_autoload(head.path):
            head.plain = [*head.plain, *self._tickets.line(identity, head.path)]
            return None
        if not self._argument or not self._cookie or not may_redirect(head) or is_foreign_frame(head):
            return None
        token = argument(head, self._argument)
        if not isinstance(token, bytes) or len(token) > COOKIE_SIZE or authorization(head, b"bearer") is not None:
            return None
        age = max(int((identity.expires or 0) - time()), 0)
        line = set_cookie(self._cookie, token, secure=exchange.secure, max_age=age)
        return Redirect(exchange, without_argument(head.target, self._argument).decode("latin-1"), line)

    def strip(self, exchange: Exchange) -> None:
        head = exchange.head
        if self._settings.header and authorization(head, b"bearer") is not None:
            head.plain = without(head.plain, _AUTHORIZATION)
        if self._cookie:
            head.plain = without_cookies(head.plain, (self._cookie,))
        if self._argument and argument(head, self._argument) is not None:
            head.target = without_argument(head.target, self._argument)
            head.query = head.target.partition(b"?")[2]

    def _find(self, head: RequestHead) -> bytes | Deny | None:
        token: bytes | Deny | None = None
        if self._settings.header:
            token = authorization(head, b"bearer")
        if token is None and self._argument and head.query:
            token = argument(head, self._argument)
        if token is None and self._cookie:
            token = cookie(head, self._cookie)
        return token or None

    def _check(self, token: bytes, digest: bytes, header: Header, now: float) -> Identity | Deny:
        claims = verify(token, header, self._keys, self.name)
        if claims is None:
            return self._no_key()
        found = claims if isinstance(claims, Deny) else self._rules.check(claims, now)
        if isinstance(found, Identity):
            if len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[digest] = found
        return found

    def _is_stale(self, header: Header) -> bool:
        """Whether the signer may have a key that is not known here."""
        source = self._source
        if source is None:
            return False
        known = any(key.kid == header.kid for key in self._keys) if header.kid else bool(source.keys)
        return not known and source.may_look_again()

    def _may_be_a_new_key(self, header: Header) -> bool:
        """Of a signer that gives its keys no names; else the name says which one it is."""
        return not header.kid and self._source is not None and self._source.may_look_again()

    async def _look_again(self, token: bytes, digest: bytes, header: Header) -> Known:
        source = self._source
        assert source is not None
        await source.look_again()
        self._take_keys(source)
        return self._check(token, digest, header, time())

    def _take_keys(self, source: ToldKeys) -> None:
        """Keys may have been taken away: what they signed is looked at again."""
        self._generation = source.generation
        self._keys = [*self._fixed, *source.keys]
        self._known.clear()

    def _no_key(self) -> Deny:
        if self._source is not None and not self._source.keys:
            return Deny(503, "token-keys", "no key could be fetched yet", "[auth.jwt] jwks_url = ...")
        return Deny(
            401, "token-key", "no key is known that could have signed the token", "[auth.jwt] keyfiles, jwks_url"
        )
