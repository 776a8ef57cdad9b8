"""Takes tokens, session ids and sign-in secrets out of text that goes to a log.  Pure.

An argument is known by its name (percent-encoded, upper case and nested in another URL too); a Bokeh token or JWT is
known by its look: base64url of `{"`, which is `eyJ`.  What is not a secret stays, so that the line is still of use.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

MASK: Final = "***"

_NAMES: Final = (
    "bokeh-token",
    "bokeh-session-id",
    "access_token",
    "id_token",
    "refresh_token",
    "token",
    "jwt",
    "code",
    # Binds a browser to its sign-in: whoever holds both halves can finish that sign-in elsewhere.
    "state",
    "session_state",
    "client_secret",
    "secret",
    "password",
    "api_key",
    "apikey",
    "signature",
    "assertion",
    "samlresponse",
    "ticket",
)
_SECRET_NAMES: Final = frozenset(_NAMES)

# A value runs to the next `&`: Bokeh's own parser does not split at `;`, so what follows one is still the secret.
_ARGUMENT: Final = re.compile(
    rf"(?P<before>[?&;#]|%(?:25)*(?:3f|26|3b))(?P<name>{'|'.join(map(re.escape, _NAMES))})(?P<equals>=|%(?:25)*3d)"
    r"(?:(?!%(?:25)*26)[^&#\s\"'<>])*",
    re.IGNORECASE,
)
# A part of every name above: one look that most targets pass, as a regular expression costs ten times as much.
_PARTS: Final = (
    b"oken",
    b"jwt",
    b"session",
    b"code",
    b"state",
    b"secret",
    b"passw",
    b"key",
    b"sign",
    b"asser",
    b"saml",
    b"ticket",
)
_ENCODED_NAME: Final = re.compile(r"(?P<before>[?&;])(?P<name>[^=&;?#\s]*%[^=&;?#\s]*)=[^&#\s\"'<>]*")
_TOKEN: Final = re.compile(r"eyJ[A-Za-z0-9_-]{16,}(?:(?:[.+=]|%(?:25)*2[EeFfBb])[A-Za-z0-9_-]*)*")
_USERINFO: Final = re.compile(r"(?<=//)[^/?#@\s]*@")
_HEADER: Final = re.compile(
    r"\b(?P<name>set-cookie2?|cookie|(?:proxy-)?authorization|sec-websocket-protocol|bokeh-session-id|bokeh-token)"
    r"(?P<equals>['\"]?\s*[:,]\s*)[^\r\n]+",
    re.IGNORECASE,
)
_MESSAGE_HINT: Final = re.compile(
    r"eyJ|[?@]|cookie|authorization|websocket-protocol|bokeh-|token|secret", re.IGNORECASE
)


def redact(text: str) -> str:
    """`text`, a request target or URL, with every secret in it replaced by `***`."""
    if "?" not in text and "#" not in text and "eyJ" not in text and "@" not in text:
        return text
    return _redact(text)


def redact_bytes(raw: bytes) -> bytes:
    """`raw`, a request target or URL, with every secret in it replaced by `***`; other bytes stay as they are."""
    if b"eyJ" not in raw and b"@" not in raw and not _may_name_secret(raw):
        return raw
    return _redact(raw.decode("latin-1")).encode("latin-1")


def redact_message(text: str) -> str:
    """`text`, free text such as a log record, without secrets in URLs or in the headers that carry them."""
    if _MESSAGE_HINT.search(text) is None:
        return text
    return _HEADER.sub(rf"\g<name>\g<equals>{MASK}", _redact(text))


def _may_name_secret(raw: bytes) -> bool:
    query = (raw if b"#" in raw else raw.partition(b"?")[2]).lower()
    return bool(query) and (b"%" in query or any(part in query for part in _PARTS))


def _redact(text: str) -> str:
    text = _ARGUMENT.sub(rf"\g<before>\g<name>\g<equals>{MASK}", text)
    if "%" in text:
        text = _ENCODED_NAME.sub(_mask_encoded_name, text)
    if "eyJ" in text:
        text = _TOKEN.sub(MASK, text)
    return _USERINFO.sub(f"{MASK}@", text) if "@" in text else text


def _mask_encoded_name(found: re.Match[str]) -> str:
    name = found["name"]
    if unquote(name).strip().lower() not in _SECRET_NAMES:
        return found[0]
    return f"{found['before']}{name}={MASK}"
