"""Where a request carries what signs it in, and the request without it.  Finds, and judges nothing.  Pure.

Sources: RFC 6750 (bearer tokens), RFC 7617 (Basic), RFC 6265 section 4.2 (the Cookie header).
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol
from urllib.parse import unquote_to_bytes

from bokeh_gateway.policy.verdict import Deny

MAX_PASSWORD: Final = 1024
"""Bytes of name and password together."""


class Head(Protocol):
    """What is needed of `http.head.RequestHead`."""

    @property
    def query(self) -> bytes: ...
    def get_all(self, name: bytes) -> list[bytes]: ...


def authorization(head: Head, scheme: bytes) -> bytes | Deny | None:
    """What follows `scheme` (lower case) in the Authorization header; None where there is no such header."""
    values = head.get_all(b"authorization")
    if not values:
        return None
    if len(values) > 1:
        return Deny(401, "auth-twice", "more than one Authorization header")
    found, _, rest = values[0].strip().partition(b" ")
    return rest.strip() if found.lower() == scheme and rest.strip() else None


def basic(credentials: bytes) -> tuple[str, str] | None:
    """User and password of a Basic credential; None where it is none."""
    try:
        text = a2b_base64(credentials, strict_mode=True).decode("utf-8")
    except (Base64Error, UnicodeDecodeError):
        return None
    user, colon, password = text.partition(":")
    if not colon or not user or len(text) > MAX_PASSWORD or not user.isprintable():
        return None
    return user, password


def cookies(head: Head) -> Iterator[tuple[bytes, bytes]]:
    """Name and value of each cookie, in order."""
    for line in head.get_all(b"cookie"):
        for item in line.split(b";"):
            name, equals, value = item.strip(b" \t").partition(b"=")
            if equals:
                yield name, value.strip(b'"')


def cookie(head: Head, name: bytes) -> bytes | None:
    """The first cookie of this name: browsers send the one with the longest path first."""
    return next((value for found, value in cookies(head) if found == name), None)


def argument(head: Head, name: bytes) -> bytes | Deny | None:
    """A query argument, decoded; named twice it is refused, as two readers could take two different ones."""
    if name not in head.query and b"%" not in head.query:
        return None
    values = [_decoded(value) for found, value in _arguments(head.query) if _decoded(found) == name]
    if len(values) > 1:
        return Deny(401, "auth-twice", "the token's argument stands more than once in the query")
    return values[0] if values else None


def without_argument(target: bytes, name: bytes) -> bytes:
    """`target` without the query argument of this name."""
    path, mark, query = target.partition(b"?")
    if not mark:
        return target
    kept = [item for item in query.split(b"&") if _decoded(item.partition(b"=")[0]) != name]
    return path + b"?" + b"&".join(kept) if kept else path


def without_cookies(plain: Sequence[bytes], names: Iterable[bytes], prefixes: tuple[bytes, ...] = ()) -> list[bytes]:
    """Header lines (`name, b": ", value, b"\\r\\n", ...`) whose Cookie lines lack these cookies."""
    unwanted = frozenset(names)
    found: list[bytes] = []
    for at in range(0, len(plain), 4):
        name, colon, value, end = plain[at : at + 4]
        if name.lower() == b"cookie":
            items = [item.strip(b" \t") for item in value.split(b";")]
            kept = [item for item in items if not _is_named(item.partition(b"=")[0], unwanted, prefixes)]
            if not kept:
                continue
            value = b"; ".join(kept)
        found += (name, colon, value, end)
    return found


def cookie_pattern(patterns: Sequence[str]) -> re.Pattern[bytes] | None:
    """Matches names of cookies: each pattern as it stands, `*` for any run of characters; None where there is none."""
    if not patterns:
        return None
    return re.compile(b"|".join(re.escape(text.encode()).replace(rb"\*", b".*") for text in patterns), re.DOTALL)


def without_matching_cookies(plain: list[bytes], pattern: re.Pattern[bytes]) -> list[bytes]:
    """Header lines as in `without_cookies`, less the cookies whose names match; the same list where none does."""
    names: set[bytes] = set()
    for at in range(0, len(plain), 4):
        if plain[at].lower() == b"cookie":
            items = plain[at + 2].split(b";")
            names.update(name for item in items if pattern.fullmatch(name := item.strip(b" \t").partition(b"=")[0]))
    return without_cookies(plain, names) if names else plain


def _is_named(name: bytes, names: frozenset[bytes], prefixes: tuple[bytes, ...]) -> bool:
    return name in names or (bool(prefixes) and name.startswith(prefixes))


def _arguments(query: bytes) -> Iterator[tuple[bytes, bytes]]:
    for item in query.split(b"&"):
        name, _, value = item.partition(b"=")
        yield name, value


def _decoded(raw: bytes) -> bytes:
    return unquote_to_bytes(raw.replace(b"+", b" ")) if b"%" in raw or b"+" in raw else raw
