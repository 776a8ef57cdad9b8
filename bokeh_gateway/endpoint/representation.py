"""One file in one coding: its headers, made ahead, and which of 200, 206, 304 and 416 a request gets.  No I/O.

Source: RFC 9110 sections 8.8 (validators), 12.5.3 (Accept-Encoding), 13 (conditions), 14 (ranges).
"""

from __future__ import annotations

import email.utils
import mimetypes
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bokeh_gateway.endpoint.file_slice import FileSlice

Get = Callable[[bytes], bytes | None]
"""Reads a request header by its lower-case name."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer.  `headers` are `Name: value` lines without Content-Length, Connection, Date and Server.

    The body is given for HEAD too, so that Content-Length is right; 304 has none.
    """

    status: int
    headers: bytes
    body: bytes | FileSlice = b""


REVALIDATE: Final = b"public, max-age=0, must-revalidate"
"""For a URL that does not name its content: kept, but asked about each time (304 costs some 200 bytes).  As no-cache,
and it also tells a cache that cannot reach us to fail rather than mix an old bundle with a new page."""
IMMUTABLE: Final = b"public, max-age=31536000, immutable"
"""For a URL that names its content: a year, and not asked about even when the page is reloaded."""

_BUILTIN_TYPES = mimetypes.MimeTypes(filenames=())  # without the system's files: the same answer on every host
# What browsers insist on under nosniff, and what the built-in table has wrong or not at all in some Python versions.
_TYPES: Final = {
    "js": "text/javascript", "mjs": "text/javascript", "cjs": "text/javascript", "map": "application/json",
    "ts": "text/plain", "md": "text/markdown", "yml": "text/yaml", "yaml": "text/yaml",
    "json": "application/json", "geojson": "application/geo+json", "ipynb": "application/json",
    "webmanifest": "application/manifest+json", "wasm": "application/wasm", "ico": "image/x-icon",
    "svg": "image/svg+xml", "webp": "image/webp", "avif": "image/avif", "woff": "font/woff", "woff2": "font/woff2",
    "ttf": "font/ttf", "otf": "font/otf", "eot": "application/vnd.ms-fontobject", "glb": "model/gltf-binary",
    "parquet": "application/vnd.apache.parquet", "arrow": "application/vnd.apache.arrow.file",
    "gz": "application/gzip", "bz2": "application/x-bzip2", "xz": "application/x-xz", "zst": "application/zstd",
}  # fmt: skip
_WITH_CHARSET: Final = (
    "text/",
    "application/json",
    "application/manifest+json",
    "application/geo+json",
    "image/svg+xml",
)
_COMPRESSIBLE: Final = (
    *_WITH_CHARSET,
    "application/wasm",
    "application/xml",
    "font/ttf",
    "font/otf",
    "application/vnd.ms-f",
)

_RANGE = re.compile(rb"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.IGNORECASE)
_QUALITY = re.compile(rb"[qQ]=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)")


def content_type(name: str) -> str:
    """The media type by the file's name, with the charset for text."""
    ending = name.rpartition(".")[2].lower() if "." in name else ""
    found = _TYPES.get(ending) or _BUILTIN_TYPES.guess_type(f"a.{ending}")[0] or "application/octet-stream"
    return f"{found}; charset=utf-8" if found.startswith(_WITH_CHARSET) else found


def compressible(media_type: str) -> bool:
    """Whether it is worth a try; pictures and woff2 are compressed already."""
    return media_type.startswith(_COMPRESSIBLE)


def accepted_codings(accept_encoding: bytes | None) -> tuple[str, ...]:
    """Those of br, gzip and identity that may be sent, best first: by the client's q, then by size.

    identity always ends the list, even if refused: an answer that can be read beats 406 (RFC 9110 allows either).
    """
    if not accept_encoding or len(accept_encoding) > 1024:
        return ("identity",)
    quality: dict[bytes, float] = {}
    for item in accept_encoding.lower().split(b","):
        coding, _, parameter = item.partition(b";")
        found = _QUALITY.fullmatch(parameter.strip()) if parameter.strip() else None
        # A q that cannot be read is no consent.
        quality[coding.strip()] = (float(found[1]) if found else 0.0) if parameter.strip() else 1.0
    default = quality.get(b"*", 0.0)
    ranks = {"br": quality.get(b"br", default), "gzip": quality.get(b"gzip", quality.get(b"x-gzip", default))}
    plain = quality.get(b"identity", 0.0)
    chosen = sorted((c for c, q in ranks.items() if q > 0 and q >= plain), key=lambda coding: -ranks[coding])
    return (*chosen, "identity")


@dataclass(frozen=True, slots=True)
class Part:
    """What to send: a status, its headers, and the stretch of the body."""

    status: int
    headers: bytes
    start: int
    length: int


class Representation:
    """Answers for one body whose bytes are held or opened elsewhere."""

    __slots__ = ("_modified", "_shared", "_typed", "etag", "last_modified", "size", "unchanged", "whole")

    def __init__(
        self, *, etag: str, modified: float, size: int, media_type: str, caching: bytes, coding: str = "identity",
        vary: bool = False, further: bytes = b"",
    ) -> None:  # fmt: skip
        """`modified` in seconds since 1970; `vary`: there are other codings of it; `further`: header lines for all."""
        self.etag = f'"{etag}"'.encode()
        self.last_modified = email.utils.formatdate(modified, usegmt=True).encode()
        self._modified = int(modified)
        self.size = size
        encoding = b"" if coding == "identity" else b"Content-Encoding: %s\r\n" % coding.encode()
        self._shared = b"Cache-Control: %s\r\nETag: %s\r\nLast-Modified: %s\r\n%s%s" % (
            caching, self.etag, self.last_modified, b"Vary: Accept-Encoding\r\n" if vary else b"", further,
        )  # fmt: skip
        self._typed = b"Content-Type: %s\r\nX-Content-Type-Options: nosniff\r\nAccept-Ranges: bytes\r\n%s" % (
            media_type.encode(), encoding,
        )  # fmt: skip
        self.whole = Part(200, self._typed + self._shared, 0, size)
        self.unchanged = Part(304, self._shared, 0, 0)

    def select(self, get: Get) -> Part:
        """`whole` or `unchanged`, by If-None-Match, else by If-Modified-Since."""
        listed = get(b"if-none-match")
        if listed is not None:
            return self.unchanged if listed == self.etag or self._listed(listed) else self.whole
        since = get(b"if-modified-since")
        return self.unchanged if since is not None and self._unmodified(since) else self.whole

    def select_range(self, wanted: bytes, get: Get) -> Part | None:
        """The part that a Range header names, or 304 or 416; None: the header does not count, send the whole file."""
        found = _RANGE.fullmatch(wanted)
        # Several ranges may be ignored (RFC 9110 14.2): the cost of answering overlapping ones is an old attack.
        if found is None or not self._same(get(b"if-range")):
            return None
        if self.select(get) is self.unchanged:
            return self.unchanged
        first, last = found.groups()
        if first:
            start, end = int(first), min(int(last), self.size - 1) if last else self.size - 1
            if last and int(last) < start:
                return None
        elif last:
            start, end = max(0, self.size - int(last)), self.size - 1
        else:
            return None
        if start > end:
            return Part(416, b"Content-Range: bytes */%d\r\n%s" % (self.size, self._shared), 0, 0)
        where = b"Content-Range: bytes %d-%d/%d\r\n" % (start, end, self.size)
        return Part(206, self._typed + where + self._shared, start, end - start + 1)

    def _listed(self, header: bytes) -> bool:
        """Weak comparison: `W/` does not count."""
        tags = (tag.strip() for tag in header.split(b","))
        return header.strip() == b"*" or any(tag.removeprefix(b"W/") == self.etag for tag in tags)

    def _unmodified(self, since: bytes) -> bool:
        if since == self.last_modified:
            return True
        try:
            return email.utils.parsedate_to_datetime(since[:64].decode("ascii")).timestamp() >= self._modified
        except (ValueError, TypeError, OverflowError):
            return False  # not a date: as if it were not there

    def _same(self, if_range: bytes | None) -> bool:
        """Strong comparison: part of another version must not be joined to what the client has."""
        return if_range is None or if_range.strip() in (self.etag, self.last_modified)


class Held(Representation):
    """A representation whose bytes are in memory."""

    __slots__ = ("_answers", "body")

    def __init__(
        self, body: bytes, *, etag: str, modified: float, media_type: str, caching: bytes, coding: str = "identity",
        vary: bool = False, further: bytes = b"",
    ) -> None:  # fmt: skip
        super().__init__(
            etag=etag, modified=modified, size=len(body), media_type=media_type, caching=caching, coding=coding,
            vary=vary, further=further,
        )  # fmt: skip
        self.body = body
        self._answers = (Answer(200, self.whole.headers, body), Answer(304, self.unchanged.headers))

    def answer(self, get: Get) -> Answer:
        return self._answers[self.select(get) is self.unchanged]

    def answer_range(self, wanted: bytes, get: Get) -> Answer | None:
        """As `select_range`."""
        part = self.select_range(wanted, get)
        if part is None:
            return None
        return Answer(part.status, part.headers, self.body[part.start : part.start + part.length])
