"""Signatures of tokens: which key, which algorithm, and whether it is right; the claims are the policy's.

Sources: RFC 7515, RFC 8725.  The signature itself is PyJWT's work.
"""

from __future__ import annotations

import json
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from jwt import PyJWS
from jwt.exceptions import PyJWTError

from bokeh_gateway.policy.verdict import Deny
from bokeh_gateway.signer.keys import Key, candidates

MAX_TOKEN: Final = 64 * 1024
"""Bytes."""
MAX_KID: Final = 256
_URLSAFE: Final = bytes.maketrans(b"-_", b"+/")
_JWS: Final = PyJWS()


@dataclass(frozen=True, slots=True)
class Header:
    """What a token says of its signature."""

    algorithm: str
    kid: str


def read_header(token: bytes, algorithms: frozenset[str], method: str) -> Header | Deny:
    """The token's header, where its algorithm is one of the configured; compared exactly, `None` is not `none`."""

    def deny(reason: str, detail: str, key: str = "") -> Deny:
        return Deny(401, reason, detail, f"[auth.{method}] {key} = ..." if key else "")

    if len(token) > MAX_TOKEN or token.count(b".") != 2:
        return deny("token-malformed", "not three parts, or too long")
    header = _json(token.partition(b".")[0])
    if not isinstance(header, dict):
        return deny("token-malformed", "the header is no JSON object")
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        shown = algorithm if isinstance(algorithm, str) and algorithm.isalnum() and len(algorithm) < 20 else "odd"
        return deny("token-algorithm", f"algorithm {shown!r} is not one that is accepted", "algorithms")
    if "crit" in header or header.get("b64") is False:
        return deny("token-critical", "the header demands an extension that is not understood")
    kid = header.get("kid", "")
    if not isinstance(kid, str) or len(kid) > MAX_KID:
        return deny("token-malformed", "the header's kid is no short string")
    return Header(algorithm, kid)


def verify(token: bytes, header: Header, keys: Sequence[Key], method: str) -> Any | Deny | None:
    """The claims, as JSON has them, where a key of `keys` signed the token; None where no key is there to try."""
    able = candidates(keys, header.algorithm, header.kid)
    if not able:
        return None
    for key in able:
        try:
            payload = _JWS.decode(token, key.material, algorithms=[header.algorithm])
        except (PyJWTError, ValueError, TypeError):
            continue
        try:
            return json.loads(payload)
        except (ValueError, RecursionError):
            return Deny(401, "token-malformed", "the payload is no JSON")
    return Deny(401, "token-signature", "the token's signature is wrong", f"[auth.{method}] keyfiles, jwks_url, secret")


def _json(part: bytes) -> Any:
    try:
        return json.loads(a2b_base64(part.translate(_URLSAFE) + b"=" * (-len(part) % 4)))
    except (Base64Error, ValueError, RecursionError):
        return None
