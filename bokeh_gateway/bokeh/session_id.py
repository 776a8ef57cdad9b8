"""Bokeh session ids: made with a worker's key in front, read, and their signatures checked.  Pure.

An id is `<base>` or, where sessions are signed, `<base>.<signature>`, split at the first dot; the signature is the
unpadded url-safe base64 of HMAC-SHA256(secret, base).  Source: `bokeh.util.token`, which reads its settings at import
and is therefore only the oracle of our tests.  An id that the gateway mints has the base `<worker key>~<random>`: the
key names the worker that serves the session, so every later request finds it without a table or a cookie.
"""

from __future__ import annotations

import hmac
import re
from binascii import b2a_base64
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

KEY_LENGTH: Final = 8
"""Characters of a worker's key: 40 bits, so that two workers of one pool practically never share one."""

MAX_LENGTH: Final = 512
"""Characters of a session id; Bokeh's own have 44, or 88 when signed."""

_MARK: Final = "~"
"""Ends the key in a minted id.  Neither Bokeh's random ids (letters and digits) nor UUIDs contain it."""

_SIGNATURE_LENGTH: Final = 43
"""Characters of base64 that hold 32 bytes, without the one that only pads."""
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_BASE32: Final = "abcdefghijklmnopqrstuvwxyz234567"
_HINTED: Final = re.compile(rf"([a-z2-7]{{{KEY_LENGTH}}}){_MARK}")
_FORM: Final = re.compile(rf"[!-.0-~]{{1,{MAX_LENGTH}}}")


def worker_key(name: str) -> str:
    """The 8 characters a-z2-7 that stand for the worker called `name`: a hash, never its place in a list."""
    number = int.from_bytes(blake2b(name.encode(), digest_size=5, person=b"worker key").digest(), "big")
    return "".join(_BASE32[number >> shift & 31] for shift in range(35, -1, -5))


def mint(key: str, random: str, secret: bytes | None) -> str:
    """A session id that leads to the worker with `key`; signed when there is a `secret`.

    `random` is what keeps the id from being guessed: at least 128 bits, without a dot, from the caller's generator.
    """
    base = f"{key}{_MARK}{random}"
    return base if secret is None else f"{base}.{signature(base, secret)}"


def hint(session_id: str) -> str | None:
    """The worker key in an id that some gateway minted; None for an id of anyone else's making."""
    found = _HINTED.match(session_id)
    return found[1] if found else None


def signature(base: str, secret: bytes) -> str:
    """What follows the dot of an id, or of a token, whose text before the dot is `base`: 43 characters.

    Raises:
        UnicodeEncodeError: `base` holds half of a surrogate pair, as JSON can.
    """
    # What base64.urlsafe_b64encode does, without its two calls: each page costs a signature.
    text = b2a_base64(hmac.digest(secret, base.encode(), "sha256"), newline=False)
    return text[:_SIGNATURE_LENGTH].translate(_URL_SAFE).decode()


def verify(session_id: str, secrets: Sequence[bytes]) -> bool:
    """Whether what follows the first dot is the signature of what precedes it, by any of `secrets`.

    Several secrets are for rotation.  Takes the same time wherever the first wrong character is.
    """
    base, dot, provided = session_id.partition(".")
    if not dot:
        return False
    try:
        given = provided.encode()
        return any(hmac.compare_digest(signature(base, secret).encode(), given) for secret in secrets)
    except UnicodeEncodeError:
        return False


def sign_again(session_id: str, secret: bytes) -> str:
    """The id with the signature of `secret` in place of the one that it has; the same for the same id, always."""
    base = session_id.partition(".")[0]
    return f"{base}.{signature(base, secret)}"


def valid_form(session_id: str) -> bool:
    """Whether it may go into a header, a URL and a log: 1 to 512 printable ASCII characters, no space, no slash."""
    return _FORM.fullmatch(session_id) is not None
