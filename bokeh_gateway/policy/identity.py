"""Who is signed in, whether a route lets him in, and what a worker is told of him.  Pure.

A worker believes the headers made here: clients' own copies are taken out before (`without`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bokeh_gateway.policy.verdict import ALLOW, Deny, Verdict

USER: Final = "X-Forwarded-User"
GROUPS: Final = "X-Forwarded-Groups"
MAX_USER: Final = 256
"""Characters of a user's name: it is in every log line."""
MAX_VALUE: Final = 4096
"""Bytes of one header made from a claim; workers' heads are bounded."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody who is signed in."""

    user: str
    """"" where a service lets somebody in without naming him."""
    method: str
    """Which method of [auth] knows him."""
    groups: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    expires: float | None = None
    """Seconds of the epoch at which this ends; None: it is looked at again for each request, and has no end."""
    subject: str = ""
    """What a newer credential of the same has in common with this one; "" where `expires` is None."""
    headers: tuple[tuple[str, str], ...] = ()
    """Further headers for the worker."""
    lines: tuple[bytes, ...] = field(init=False, compare=False)
    """All headers for the worker, as `name, b": ", value, b"\\r\\n", ...`."""

    def __post_init__(self) -> None:
        named = [(USER, self.user)] if self.user else []
        if self.groups:
            named.append((GROUPS, ",".join(sorted(self.groups))))
        pieces: list[bytes] = []
        for name, value in (*named, *self.headers):
            raw = value.encode("utf-8", "replace")
            if plain(value) and len(raw) <= MAX_VALUE:
                pieces += (name.encode("ascii"), b": ", raw, b"\r\n")
        object.__setattr__(self, "lines", tuple(pieces))


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a route wants: one of `methods`, and then all that is not empty."""

    methods: tuple[str, ...]
    users: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    base: str = ""
    """The path that a module's own paths are below: a stripped mount, a worker's prefix."""

    def check(self, identity: Identity) -> Verdict:
        """Whether somebody who is signed in may use the route."""
        if self.users and identity.user not in self.users:
            return Deny(403, "auth-user", f"user {identity.user!r} is not among the route's", "[[route]] users = [...]")
        if self.groups and not self.groups & identity.groups:
            return Deny(
                403,
                "auth-group",
                f"user {identity.user!r} is in none of {sorted(self.groups)}, but in {sorted(identity.groups)[:20]}",
                "[[route]] groups = [...]",
            )
        if self.scopes - identity.scopes:
            return Deny(
                403,
                "auth-scope",
                f"the token of {identity.user!r} lacks {sorted(self.scopes - identity.scopes)}",
                "[[route]] scopes = [...]",
            )
        return ALLOW


def plain(value: str) -> bool:
    """Whether it can stand in a header: no control character."""
    return not any(c < " " or c == "\x7f" for c in value)


def valid_user(value: object) -> str | None:
    """A user's name as it may go to logs and workers, or None."""
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_USER or not value.isprintable():
        return None
    return value


def scope_names(value: object) -> frozenset[str]:
    """Scopes of a claim: one string, separated by spaces (RFC 8693), or a list."""
    return frozenset(value.split()) if isinstance(value, str) else group_names(value)


def group_names(value: object) -> frozenset[str]:
    """Groups of a claim: a list, or one string."""
    items = value if isinstance(value, list) else [value]
    return frozenset(item for item in items if isinstance(item, str) and item and "," not in item and plain(item))


def claim_headers(claims: Mapping[str, Any], wanted: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Header and value of each claim that is there; lists are joined with commas, other structures are JSON."""
    found = []
    for name, claim in wanted.items():
        value = claims.get(claim)
        if value is None:
            continue
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            text = ",".join(value)
        else:
            text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        found.append((name, text))
    return tuple(found)


def without(plain_lines: Sequence[bytes], names: frozenset[bytes]) -> list[bytes]:
    """`plain_lines` (`name, b": ", value, b"\\r\\n", ...`) without the lines of these lower-case names."""
    return [
        piece
        for at in range(0, len(plain_lines), 4)
        if plain_lines[at].lower() not in names
        for piece in plain_lines[at : at + 4]
    ]
