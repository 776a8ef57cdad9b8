"""Public keys that signatures are verified with, each bound to the algorithms that it is for.

A key comes from the configuration or from the signer's JWKS, never from a token; a secret never from either of these.
Sources: RFC 7517, RFC 8725 sections 3.1 and 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from bokeh_gateway.errors import ConfigError

MAX_KEYS: Final = 100
"""Keys of one JWKS that are read."""
MIN_RSA: Final = 2048
"""Bits; RFC 7518 section 3.3."""
_RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


@dataclass(frozen=True, slots=True)
class Key:
    """One key."""

    material: Any
    """As cryptography has it; bytes of a secret."""
    algorithms: frozenset[str]
    """What it may verify."""
    kid: str = ""
    """The name that its signer gives it, "" where it has none."""


def candidates(keys: Sequence[Key], algorithm: str, kid: str) -> list[Key]:
    """The keys that may have signed a token with this header: the one that it names, else those without a name.

    A kid is only ever compared.  Keys without a name are few: they come from files.
    """
    able = [key for key in keys if algorithm in key.algorithms]
    if kid:
        named = [key for key in able if key.kid == kid]
        return named or [key for key in able if not key.kid]
    return able[:4]


def secret_key(secret: str) -> Key:
    """The secret of the HS algorithms."""
    return Key(secret.encode(), frozenset({"HS256", "HS384", "HS512"}))


def read_pem(path: Path, key: str) -> Key:
    """The public key, or a certificate's, in a PEM file.

    Raises:
        ConfigError: there is none in it; `key` is where the file names it.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise ConfigError(key, str(path), f"a file that can be read: {exc.strerror}") from None
    if b"PRIVATE KEY" in data:
        raise ConfigError(key, str(path), "a public key: who verifies needs no private one")
    try:
        if b"BEGIN CERTIFICATE" in data:
            material: Any = load_pem_x509_certificate(data).public_key()
        else:
            material = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(key, str(path), "a PEM file with a public key or a certificate") from None
    algorithms = _algorithms(material)
    if not algorithms:
        raise ConfigError(key, str(path), f"an RSA key of {MIN_RSA} bits or more, P-256, P-384, P-521 or Ed25519")
    return Key(material, algorithms)


def read_jwks(document: object) -> list[Key]:
    """The usable keys of a JWKS; those of unknown kinds are passed over, as RFC 7517 section 5 wants.

    Raises:
        ValueError: it is no JWKS, or holds no key of use.
    """
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("no JSON object with a list of keys")
    found = [key for entry in entries[:MAX_KEYS] if (key := _read_jwk(entry)) is not None]
    if not found:
        raise ValueError(f"none of its {len(entries)} keys can verify a signature")
    return found


def _read_jwk(entry: object) -> Key | None:
    if not isinstance(entry, dict) or entry.get("kty") == "oct" or entry.get("use", "sig") != "sig":
        return None
    operations = entry.get("key_ops")
    if isinstance(operations, list) and "verify" not in operations:
        return None
    public = {name: value for name, value in entry.items() if name not in ("d", "p", "q", "dp", "dq", "qi", "oth")}
    try:
        material = PyJWK.from_dict(public).key
    except (PyJWTError, ValueError, TypeError, KeyError, NotImplementedError):
        return None  # the last for an `alg` of `none`
    algorithms = _algorithms(material)
    said = entry.get("alg")
    if said is not None:
        algorithms &= {said} if isinstance(said, str) else set()
    kid = entry.get("kid")
    return Key(material, algorithms, kid if isinstance(kid, str) else "") if algorithms else None


def _algorithms(material: object) -> frozenset[str]:
    """What a key can verify; nothing for one that is too weak or of another kind."""
    if isinstance(material, rsa.RSAPublicKey):
        return _RSA if material.key_size >= MIN_RSA else frozenset()
    if isinstance(material, ec.EllipticCurvePublicKey):
        return frozenset({_CURVES[material.curve.name]} if material.curve.name in _CURVES else ())
    if isinstance(material, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)):
        return frozenset({"EdDSA"})
    return frozenset()
