"""What a token says, once its signature is found good: whether it is for us, and whether it is so now.  Pure.

Stricter than the RFCs let a reader be: `exp` must be there, and times are whole seconds.
Sources: RFC 7519 section 4.1, RFC 8725 sections 2 and 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bokeh_gateway.policy.identity import Identity, claim_headers, group_names, scope_names, valid_user
from bokeh_gateway.policy.verdict import Deny

LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999: what is later is no time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRules:
    """What is wanted of a token's claims."""

    method: str
    issuers: frozenset[str] = frozenset()
    audiences: frozenset[str] = frozenset()
    leeway: float = 0.0
    require: tuple[str, ...] = ()
    user: str = "sub"
    groups: str = "groups"
    scopes: str = "scope"
    headers: tuple[tuple[str, str], ...] = ()
    """Header for the worker, claim."""

    def check(self, claims: object, now: float) -> Identity | Deny:
        """Who the claims are of, at `now` (seconds of the epoch)."""
        if not isinstance(claims, dict):
            return self._deny("token-malformed", "the token's payload is no JSON object")
        problem = self._times(claims, now) or self._parties(claims)
        if problem is not None:
            return problem
        missing = [name for name in self.require if claims.get(name) in (None, "")]
        if missing:
            return self._deny("token-claim-missing", f"the token lacks {missing}", "require")
        user = valid_user(claims.get(self.user))
        if user is None:
            return self._deny("token-user", f"the token's {self.user!r} names no user", "user_claim")
        return Identity(
            user,
            self.method,
            group_names(claims.get(self.groups)),
            scope_names(claims.get(self.scopes)),
            float(claims["exp"]),
            f"{self.method} {claims.get('iss', '')} {claims.get('sub', user)}",
            claim_headers(claims, dict(self.headers)),
        )

    def _times(self, claims: Mapping[str, Any], now: float) -> Deny | None:
        for name in ("exp", "nbf", "iat"):
            value = claims.get(name)
            if value is None and name != "exp":
                continue
            if value is None:
                return self._deny("token-exp-missing", "the token has no exp, so it would never end")
            if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= LAST_SECOND:
                return self._deny("token-time", f"the token's {name} is no whole number of seconds since 1970")
        if now >= claims["exp"] + self.leeway:
            return self._deny("token-expired", f"the token ended {now - claims['exp']:.0f} s ago", "leeway")
        for name in ("nbf", "iat"):
            early = claims.get(name, 0) - self.leeway - now
            if early > 0:
                return self._deny("token-not-yet", f"the token's {name} is in the future", "leeway")
        return None

    def _parties(self, claims: Mapping[str, Any]) -> Deny | None:
        issuer = claims.get("iss")
        if self.issuers and (not isinstance(issuer, str) or issuer not in self.issuers):
            return self._deny("token-issuer", "the token's iss is not one that is accepted", "issuer")
        audience = claims.get("aud")
        if audience is None:
            if self.audiences:
                return self._deny("token-audience", "the token has no aud", "audience")
            return None
        named = [audience] if isinstance(audience, str) else audience
        if not isinstance(named, list) or not any(isinstance(one, str) and one in self.audiences for one in named):
            return self._deny("token-audience", "the token was made for somebody else (aud)", "audience")
        return None

    def _deny(self, reason: str, detail: str, key: str = "") -> Deny:
        return Deny(401, reason, detail, f"[auth.{self.method}] {key} = ..." if key else "")
