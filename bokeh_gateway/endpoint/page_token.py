"""The session token in a page that a worker sent: which session was made, and how big its token is.

A page holds `"token":"eyJ..."` in its JSON (`bokeh.embed.elements.script_for_render_items`); autoload.js the same in a
script.  The search runs over the whole page once, when it has passed: a page costs its worker 80 ms, this some 10 us.
"""

from __future__ import annotations

import re
from typing import Final

from bokeh_gateway.bokeh.token import TokenError, read_claims

PAGE_LIMIT: Final = 4 * 1024 * 1024
"""Bytes of a page that are looked through."""
_TOKEN: Final = re.compile(rb'\\?"token\\?"\s*:\s*\\?"([A-Za-z0-9_-]{16,1048576}(?:\.[A-Za-z0-9_-]+)?)\\?"')


class PageToken:
    """Collects a page while it passes."""

    __slots__ = ("_chunks", "_size", "bytes")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self.bytes = 0
        """Size of the token that was found."""

    def feed(self, chunk: bytes) -> None:
        if self._size <= PAGE_LIMIT:
            self._size += len(chunk)
            self._chunks.append(chunk)

    def session_id(self) -> str | None:
        """The session that the page belongs to; None where it names none (a login page, an index)."""
        found = _TOKEN.search(b"".join(self._chunks))
        self._chunks = []
        if found is None:
            return None
        token = found.group(1).decode("ascii")
        self.bytes = len(token)
        try:
            return read_claims(token).session_id
        except TokenError:
            return None
