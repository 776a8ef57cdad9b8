"""Bokeh session tokens: who the session is and until when, and whether a token is genuine.  Pure.

A token is the unpadded url-safe base64 of a JSON object `{"session_id", "session_expiry", "__bk__zlib_"}` and, where
sessions are signed, a dot and the HMAC of that base64.  The page's headers, cookies and arguments are in `__bk__zlib_`,
compressed by whoever made the token: it is carried along, and only `page_header` inflates it, up to a limit.
Source: `bokeh.util.token`, the oracle of our tests.  Stricter in one thing: base64 has no foreign characters.
"""

from __future__ import annotations

import json
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bokeh_gateway.bokeh import session_id as ids

MAX_LENGTH: Final = 1 << 20
"""Characters of a token.  Tornado takes 64 KiB of request head, so no worker ever takes a longer one."""

_MAX_EXPIRY: Final = 1 << 53
"""Seconds since 1970: beyond this a float `now` no longer counts seconds.  It is 285 million years away."""

MAX_CONTENT: Final = 256 * 1024
"""Bytes that a token's compressed part is inflated to; a worker takes 64 KiB of headers."""

_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


class TokenError(ValueError):
    """The token cannot be read.  `reason` is a fixed slug; the message says what is wrong and quotes nothing of it."""

    reason: Final = "token-malformed"


@dataclass(frozen=True, slots=True)
class Claims:
    """What the gateway reads in a token."""

    session_id: str
    expiry: int | None
    """Seconds since 1970 from which on workers refuse the token; None when the token does not say."""


def read_claims(token: str) -> Claims:
    """The session and the expiry in `token`, whoever made it: says nothing about its signature.

    Raises:
        TokenError: too long, not base64, not a JSON object, no `session_id` in it, or an expiry that is no integer.
    """
    payload = _payload(token)
    session_id = payload.get("session_id")
    if not isinstance(session_id, str):
        raise TokenError("the token names no session")
    expiry = payload.get("session_expiry")
    if expiry is None:
        return Claims(session_id, None)
    # `type` and not isinstance: True is an int, and no time.
    if type(expiry) is not int or abs(expiry) > _MAX_EXPIRY:
        raise TokenError("the token's expiry is not a whole number of seconds")
    return Claims(session_id, expiry)


def verify_outer(token: str, secrets: Sequence[bytes]) -> bool:
    """Whether the token itself is signed by one of `secrets`; the session id inside is another question."""
    return len(token) <= MAX_LENGTH and ids.verify(token, secrets)


def verify(token: str, secrets: Sequence[bytes]) -> bool:
    """Whether both signatures are good: the token's, and that of the session id inside, as Bokeh wants it.

    Several secrets are for rotation, and each signature may be by another one.  What cannot be read is not good.
    """
    if not verify_outer(token, secrets):
        return False
    try:
        return ids.verify(read_claims(token).session_id, secrets)
    except TokenError:
        return False


def encode(session_id: str, expiry: int, secret: bytes | None) -> str:
    """A token for `session_id` that carries nothing else; signed when there is a `secret`.  `expiry` as in `Claims`."""
    return _sealed({"session_id": session_id, "session_expiry": expiry}, secret)


def renew(token: str, expiry: int, secret: bytes | None) -> str:
    """The same token with another expiry: what else it carries stays as it is, still compressed.

    Raises:
        TokenError: `token` cannot be read.
    """
    read_claims(token)
    return _sealed(_payload(token) | {"session_expiry": expiry}, secret)


def page_header(token: str, name: str) -> str | None:
    """The value that the page request's header had, which the token repeats; None where it has none, or is too big.

    Says nothing about the token's signature: the value has to prove itself.
    """
    try:
        compressed = _payload(token).get("__bk__zlib_")
        if not isinstance(compressed, str):
            return None
        inflater = zlib.decompressobj()
        content = json.loads(inflater.decompress(_decoded(compressed), MAX_CONTENT))
        value = content["headers"][name]
    except (TokenError, ValueError, RecursionError, zlib.error, KeyError, TypeError):
        return None
    return value if isinstance(value, str) else None


def sign_again(token: str, secret: bytes) -> str:
    """The same token, it and the session id inside signed with `secret`: what a worker with a new key takes.

    Raises:
        TokenError: `token` cannot be read.
    """
    session_id = ids.sign_again(read_claims(token).session_id, secret)
    return _sealed(_payload(token) | {"session_id": session_id}, secret)


def _sealed(payload: dict[str, object], secret: bytes | None) -> str:
    base = urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("=")
    return base if secret is None else f"{base}.{ids.signature(base, secret)}"


def _payload(token: str) -> dict[str, object]:
    if len(token) > MAX_LENGTH:
        raise TokenError(f"the token has {len(token)} characters, more than {MAX_LENGTH}")
    try:
        payload = json.loads(_decoded(token.partition(".")[0]))
    except (ValueError, RecursionError) as exc:
        if isinstance(exc, TokenError):
            raise
        # `from None`: the decoder's message quotes what it was given.
        raise TokenError("the token is not the base64 of a JSON text") from None
    if not isinstance(payload, dict):
        raise TokenError("the token's JSON is not an object")
    return payload


def _decoded(base: str) -> bytes:
    raw = base.encode("ascii", "replace")
    # Python's decoder skips what it does not know, so that one session would have many spellings.
    if raw.translate(None, _ALPHABET):
        raise TokenError("the token holds characters that are not url-safe base64")
    return urlsafe_b64decode(raw + b"=" * (-len(raw) % 4))
