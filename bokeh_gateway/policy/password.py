"""Password hashes: made, read and verified.  Pure, and slow by intent: call it off the event loop.

The form is PHC's, `$scrypt$ln=14,r=8,p=1$<salt>$<hash>`; `$argon2id$...` needs argon2-cffi.
Sources: RFC 7914 (scrypt), RFC 9106 (Argon2), the PHC string format.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from argon2 import PasswordHasher

DEFAULT_LN: Final = 15
"""log2 of scrypt's N: 32 MiB and some 50 ms."""
_R, _P = 8, 1
_SCRYPT: Final = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)")
_ARGON2: Final = re.compile(
    r"\$argon2(?:id|i|d)\$v=(?:16|19)\$m=(\d{1,7}),t=(\d{1,3}),p=(\d{1,2})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)"
)
MAX_MEMORY: Final = 256 * 1024 * 1024
"""Bytes that verifying one hash may take; a hash that wants more is refused when it is read."""


class BadHash(ValueError):
    """It is no hash that can be verified here."""


def scrypt_hash(password: str, salt: bytes, ln: int = DEFAULT_LN) -> str:
    """The hash of `password`; `salt` is 16 random bytes."""
    raw = _scrypt(password, salt, ln, _R, _P, 32)
    return f"$scrypt$ln={ln},r={_R},p={_P}${_text(salt)}${_text(raw)}"


def verify(password: str, hashed: str) -> bool:
    """Whether `hashed` was made of `password`.

    Raises:
        BadHash: `hashed` is none, or needs argon2-cffi, which is not installed.
    """
    if "\0" in password:
        return False  # to HMAC, and so to scrypt, one that ends with NULs is the same as without
    if hashed.startswith("$argon2"):
        return _verify_argon2(password, hashed)
    ln, r, p, salt, raw = _parse(hashed)
    return hmac.compare_digest(_scrypt(password, salt, ln, r, p, len(raw)), raw)


def check_form(hashed: str) -> None:
    """Whether `hashed` can be verified here, without the work.

    Raises:
        BadHash: it cannot.
    """
    if hashed.startswith("$argon2"):
        _argon2_hasher()
        _check_argon2(hashed)
    else:
        _parse(hashed)


def argon2_hash(password: str) -> str:
    """The Argon2id hash of `password`, with a salt of its own.

    Raises:
        BadHash: argon2-cffi is not installed.
    """
    return _argon2_hasher().hash(password)


def _parse(hashed: str) -> tuple[int, int, int, bytes, bytes]:
    found = _SCRYPT.fullmatch(hashed)
    if found is None:
        raise BadHash("a hash as `bokeh-gateway hash-password` prints it")
    ln, r, p = (int(found[n]) for n in (1, 2, 3))
    if not 1 <= ln <= 24 or not r or not p or 128 * r * (1 << ln) * p > MAX_MEMORY:
        raise BadHash(f"scrypt parameters that take at most {MAX_MEMORY >> 20} MiB")
    if ln >= 16 * r:
        raise BadHash("scrypt parameters with N below 2^(16 r)")  # RFC 7914 section 2
    return ln, r, p, *_salt_and_hash(found[4], found[5])


def _salt_and_hash(salt: str, hashed: str) -> tuple[bytes, bytes]:
    try:
        found = _bytes(salt), _bytes(hashed)
    except Base64Error:
        raise BadHash("base64 in salt and hash") from None
    if len(found[0]) < 8 or len(found[1]) < 16:
        raise BadHash("a salt of 8 bytes and a hash of 16 bytes or more")
    return found


def _scrypt(password: str, salt: bytes, ln: int, r: int, p: int, length: int) -> bytes:
    return hashlib.scrypt(
        password.encode(), salt=salt, n=1 << ln, r=r, p=p, maxmem=MAX_MEMORY + (1 << 20), dklen=length
    )


def _check_argon2(hashed: str) -> None:
    found = _ARGON2.fullmatch(hashed)
    if found is None:
        raise BadHash("an argon2 hash as `bokeh-gateway hash-password --algorithm argon2` prints it")
    memory, passes, lanes = (int(found[n]) for n in (1, 2, 3))
    if not 8 * lanes <= memory <= MAX_MEMORY >> 10 or not passes or not lanes:  # RFC 9106 section 3.1
        raise BadHash(f"argon2 parameters that take at most {MAX_MEMORY >> 20} MiB")
    _salt_and_hash(found[4], found[5])


def _argon2_hasher() -> PasswordHasher:
    try:
        from argon2 import PasswordHasher
    except ImportError:
        raise BadHash("a $scrypt$ hash, or argon2-cffi installed: pip install 'bokeh-gateway[argon2]'") from None
    return PasswordHasher()


def _verify_argon2(password: str, hashed: str) -> bool:
    hasher = _argon2_hasher()
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return hasher.verify(hashed, password)
    except VerificationError:
        return False
    except InvalidHashError:
        raise BadHash("an argon2 hash") from None


def _text(raw: bytes) -> str:
    return b64encode(raw).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return b64decode(text + "=" * (-len(text) % 4), validate=True)
