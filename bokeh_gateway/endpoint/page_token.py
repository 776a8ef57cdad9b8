"""The session token in a page that a worker sent: which session was made.

A page holds `"token":"eyJ..."` in its JSON (`bokeh.embed.elements.script_for_render_items`); autoload.js the same in a
script.  A page costs its worker 80 ms.  Finding in it the session that it was asked for costs 1 us, any other some 40.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from typing import Final

from bokeh_gateway.bokeh.token import TokenError, read_claims

PAGE_LIMIT: Final = 4 * 1024 * 1024
"""Bytes of a page that are looked through."""
_MARK: Final = b'"token'
_TOKEN: Final = re.compile(rb'\\?"token\\?"\s*:\s*\\?"([A-Za-z0-9_-]{16,1048576}(?:\.[A-Za-z0-9_-]+)?)\\?"')


class PageToken:
    """Collects a page while it passes."""

    __slots__ = ("_chunks", "_size")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> None:
        if self._size <= PAGE_LIMIT:
            self._size += len(chunk)
            self._chunks.append(chunk)

    def session_id(self, expected: str | None) -> str | None:
        """The session that the page belongs to, most probably `expected`; None where it names none (a login page)."""
        chunks, self._chunks = self._chunks, []
        return page_session(b"".join(chunks), expected)


def page_session(page: bytes, expected: str | None) -> str | None:
    """The session that `page` belongs to, most probably `expected`; None where it names none (a login page)."""
    if expected is not None and _beginning(expected) in page:
        return expected
    at = page.find(_MARK)
    # The expression alone would try every byte of the page.
    found = _TOKEN.search(page, at - 1 if at > 0 else 0) if at >= 0 else None
    if found is None:
        return None
    try:
        return read_claims(found.group(1).decode("ascii")).session_id
    except TokenError:
        return None


def _beginning(session_id: str) -> bytes:
    """How a token of the session begins, as `bokeh.util.token.generate_jwt_token` writes it, in its place in a page."""
    payload = b'{"session_id": "%b", "session_expiry": ' % session_id.encode()
    return b'"' + urlsafe_b64encode(payload[: len(payload) // 3 * 3])
