"""Cookies of the gateway's own: sealed, so that nobody can read or change them, and never readable by scripts.

A seal is AES-256-GCM under a key made from the cookie secret for one purpose; another purpose has another key.
Sources: RFC 6265 and its successor draft (`__Host-`, SameSite), RFC 5869 (HKDF).
"""

from __future__ import annotations

import json
import os
from base64 import urlsafe_b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAX_PIECE: Final = 3600
"""Bytes of one cookie's value: browsers drop a cookie over 4096 with name and attributes."""
MAX_PIECES: Final = 4
_NONCE: Final = 12
_URLSAFE: Final = bytes.maketrans(b"-_", b"+/")


class Seal:
    """Encrypts and signs JSON for one purpose."""

    __slots__ = ("_cipher", "_purpose")

    def __init__(self, secret: str, purpose: str) -> None:
        self._purpose = purpose.encode()
        key = HKDF(SHA256(), 32, b"bokeh-gateway", self._purpose).derive(secret.encode())
        self._cipher = AESGCM(key)

    def close(self, content: dict[str, Any]) -> bytes:
        """URL-safe text that only `open` of the same secret and purpose reads."""
        nonce = os.urandom(_NONCE)
        data = json.dumps(content, separators=(",", ":")).encode()
        return urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, data, self._purpose)).rstrip(b"=")

    def open(self, sealed: bytes) -> dict[str, Any] | None:
        """What was sealed; None for whatever was not, or was changed."""
        if len(sealed) > MAX_PIECE * MAX_PIECES or not sealed:
            return None
        try:
            raw = a2b_base64(sealed.translate(_URLSAFE) + b"=" * (-len(sealed) % 4), strict_mode=True)
            content = json.loads(self._cipher.decrypt(raw[:_NONCE], raw[_NONCE:], self._purpose))
        except (InvalidTag, Base64Error, ValueError):
            return None
        return content if isinstance(content, dict) else None


def set_cookie(name: bytes, value: bytes, *, secure: bool, max_age: int | None = None, path: bytes = b"/") -> bytes:
    """A Set-Cookie line; `max_age` 0 removes the cookie, None keeps it until the browser ends."""
    age = b"" if max_age is None else b"; Max-Age=%d" % max_age
    return b"Set-Cookie: %b=%b; Path=%b%b; HttpOnly; SameSite=Lax%b\r\n" % (
        name,
        value,
        path,
        age,
        b"; Secure" if secure else b"",
    )


def cookie_name(name: str, *, secure: bool) -> bytes:
    """Under https `__Host-` binds the cookie to this very host: no sibling domain can set it."""
    return (b"__Host-" if secure else b"") + name.encode()


def set_pieces(name: bytes, value: bytes, *, secure: bool, max_age: int, before: int = 0) -> bytes:
    """Set-Cookie lines for a value that may not fit one cookie; removes what is left of `before` pieces.

    Raises:
        ValueError: it does not fit four cookies.
    """
    pieces = [value[at : at + MAX_PIECE] for at in range(0, len(value), MAX_PIECE)]
    if len(pieces) > MAX_PIECES:
        raise ValueError(f"{len(value)} bytes do not fit {MAX_PIECES} cookies")
    lines = [
        set_cookie(_piece(name, number), piece, secure=secure, max_age=max_age) for number, piece in enumerate(pieces)
    ]
    lines += [set_cookie(_piece(name, number), b"", secure=secure, max_age=0) for number in range(len(pieces), before)]
    return b"".join(lines)


def read_pieces(cookies: dict[bytes, bytes], name: bytes) -> tuple[bytes, int]:
    """The value that `set_pieces` wrote, and how many pieces there are."""
    value, count = b"", 0
    while count < MAX_PIECES and (piece := cookies.get(_piece(name, count))):
        value += piece
        count += 1
    return value, count


def _piece(name: bytes, number: int) -> bytes:
    return name if not number else b"%b.%d" % (name, number)
