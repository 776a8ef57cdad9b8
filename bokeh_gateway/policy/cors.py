"""What pages of other origins may read: `autoload.js` and static files, for `[embed] origins`.  Pure.

Source: Fetch standard, "CORS protocol".  A listed origin is answered by its name and may send cookies, as
`server_document(with_credentials=True)` does; with `*` a browser would refuse both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from bokeh_gateway.policy.origin import OriginPolicy
from bokeh_gateway.policy.verdict import Deny

VARY: Final = b"Vary: Origin\r\n"
_NAMES: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:[ \t]*,[ \t]*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*\Z")
_MOST: Final = 1024
"""Bytes of a list of header names that a preflight may ask for."""


class Cors:
    """`[embed] origins` as CORS."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = OriginPolicy(origins, False, ())

    def lines(self, origins: Sequence[bytes]) -> bytes:
        """Header lines of an answer; `origins` are the values of all Origin lines of the request."""
        if len(origins) != 1 or not self._origins.lists(origins[0].decode("latin-1")):
            return VARY
        return b"Access-Control-Allow-Origin: %b\r\nAccess-Control-Allow-Credentials: true\r\n" % origins[0] + VARY

    def preflight(self, origins: Sequence[bytes], wanted: bytes | None) -> bytes | Deny:
        """The header lines that answer a preflight; `wanted` is its Access-Control-Request-Headers."""
        allowed = self.lines(origins)
        if allowed == VARY:
            return _not_listed(origins)
        # Any header: server_document(headers=...) names what it likes, and each is the worker's to judge.
        names = b"Bokeh-Session-Id"
        if wanted and len(wanted) <= _MOST and _NAMES.match(wanted):
            names = wanted
        return (
            allowed
            + b"Access-Control-Allow-Methods: GET, HEAD, OPTIONS\r\nAccess-Control-Allow-Headers: %b\r\n" % names
            + b"Access-Control-Max-Age: 600\r\n"
        )


def _not_listed(origins: Sequence[bytes]) -> Deny:
    seen = ascii(b", ".join(origins)[:200].decode("latin-1"))
    return Deny(
        403,
        "embed-origin-not-listed",
        f"Pages of the origin {seen} may not embed apps of this server.",
        '[embed] origins = ["https://www.example.com"]',
    )
