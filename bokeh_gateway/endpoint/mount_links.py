"""Pages of a worker that does not know of its mount: links from the root of the host are led below the mount again.

Only for the pages that people get no other way: the index, login and logout.  An app's own page links relatively.
"""

from __future__ import annotations

import re
from copy import copy
from typing import TYPE_CHECKING, Final

from bokeh_gateway.endpoint.proxy import Proxy
from bokeh_gateway.wire.exchange import UNKNOWN_LENGTH

if TYPE_CHECKING:
    from bokeh_gateway.http.answer import AnswerHead

PAGES: Final = frozenset({b"/", b"/login", b"/logout"})
"""Below the mount."""
_LARGEST: Final = 512 * 1024
"""Bytes of a page that is held until it is whole; a larger one goes out as it came."""
_LINK: Final = re.compile(
    rb"""(<(?:a|form|link|script|img)\s[^<>]*?\b(?:href|action|src)\s*=\s*["'])(/(?![/\\])[^"']*)"""
)
_DROPPED: Final = (b"content-encoding", b"etag", b"content-md5", b"digest")


def below(mount: bytes, page: bytes) -> bytes:
    """`page` with every link from the root of the host led below `mount`, once."""

    def lead(found: re.Match[bytes]) -> bytes:
        link = found[2]
        if link == mount or link.startswith(mount + b"/"):
            return found[0]
        return found[1] + mount + link

    return _LINK.sub(lead, page)


class MountLinks(Proxy):
    """One request for a page whose links may have to be led."""

    _AT_ONCE = False

    def answer_head(self, head: AnswerHead) -> None:
        self._holding = (
            head.content_type.startswith(b"text/html")
            and self.exchange.head.method != b"HEAD"
            and head.status not in (204, 304)
            and head.length <= _LARGEST
            and not any(piece.lower() == b"content-encoding" for piece in head.plain)
        )
        if not self._holding:
            super().answer_head(head)
            return
        self._held: list[bytes] = []
        self._size = 0
        self._lines = head

    def answer_body(self, chunk: bytes) -> None:
        if not self._holding:
            super().answer_body(chunk)
            return
        self._held.append(chunk)
        self._size += len(chunk)
        if self._size > _LARGEST:
            self._let_go(b"".join(self._held), UNKNOWN_LENGTH)

    def answer_flush(self) -> None:
        if not self._holding:
            super().answer_flush()

    def answer_end(self) -> None:
        if self._holding:
            page = below(self.mount.path, b"".join(self._held))
            self._let_go(page, len(page))
        super().answer_end()

    def _let_go(self, page: bytes, length: int) -> None:
        self._holding = False
        head = copy(self._lines)  # the connection to the worker still goes by the original's framing
        head.length, head.chunked = length, length == UNKNOWN_LENGTH
        # What it was measured by is no longer so.
        head.plain = without_lines(head.plain, _DROPPED)
        super().answer_head(head)
        super().answer_body(page)
        self._held = []


def without_lines(plain: list[bytes], names: tuple[bytes, ...]) -> list[bytes]:
    """`name, b": ", value, b"\\r\\n", ...` less the lines of these lower-case names."""
    kept: list[bytes] = []
    for at in range(0, len(plain), 4):
        if plain[at].lower() not in names:
            kept += plain[at : at + 4]
    return kept
