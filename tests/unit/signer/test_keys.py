"""Which key may verify what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from bokeh_gateway.errors import ConfigError
from bokeh_gateway.signer.keys import Key, candidates, read_jwks, read_pem, secret_key

RSA = rsa.generate_private_key(65537, 2048)
WEAK = rsa.generate_private_key(65537, 1024)
EC = ec.generate_private_key(ec.SECP256R1())
RSA_JWK: dict[str, Any] = json.loads(RSAAlgorithm.to_jwk(RSA.public_key()))
EC_JWK: dict[str, Any] = json.loads(ECAlgorithm.to_jwk(EC.public_key()))


@pytest.mark.parametrize(
    ("key", "algorithms"),
    [
        pytest.param(RSA, {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, id="rsa"),
        pytest.param(EC, {"ES256"}, id="p-256"),
        pytest.param(ec.generate_private_key(ec.SECP384R1()), {"ES384"}, id="p-384"),
        pytest.param(ed25519.Ed25519PrivateKey.generate(), {"EdDSA"}, id="ed25519"),
    ],
)
def test_a_pem_key_is_for_its_algorithms(tmp_path: Path, key: Any, algorithms: set[str]) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    assert read_pem(path, "k").algorithms == algorithms


@pytest.mark.parametrize("kind", ["private", "weak", "nonsense", "missing"])
def test_a_file_without_a_good_public_key(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "key.pem"
    if kind == "private":
        path.write_bytes(
            RSA.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    elif kind == "weak":
        path.write_bytes(
            WEAK.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
    elif kind == "nonsense":
        path.write_text("no key")
    with pytest.raises(ConfigError, match=r"auth\.jwt"):
        read_pem(path, "auth.jwt.keyfiles[0]")


def test_a_jwks() -> None:
    entries = [
        {**RSA_JWK, "kid": "r", "alg": "RS256"},
        {**EC_JWK, "kid": "e"},
        {**RSA_JWK, "kid": "enc", "use": "enc"},
        {**RSA_JWK, "kid": "sign-only", "key_ops": ["sign"]},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
        {"kty": "RSA", "kid": "broken"},
        {**RSA_JWK, "kid": "alg-none", "alg": "none"},
        {**RSA_JWK, "kid": "alg-list", "alg": ["RS256"]},
        {**EC_JWK, "kid": "no-text", "x": 5},
        "no object",
    ]
    found = {key.kid: key.algorithms for key in read_jwks({"keys": entries})}
    assert found == {"r": {"RS256"}, "e": {"ES256"}}


@pytest.mark.parametrize("document", [None, [], {}, {"keys": 1}, {"keys": []}, {"keys": [{"kty": "oct", "k": "eA"}]}])
def test_what_is_no_jwks(document: object) -> None:
    with pytest.raises(ValueError, match="key"):
        read_jwks(document)


def test_a_secret_and_a_public_key_never_stand_in_for_each_other() -> None:
    """RFC 8725 section 2.1: HS256 by the public key, RS256 by the secret."""
    keys = [secret_key("s" * 32), Key("rsa", frozenset({"RS256"}), "r")]
    assert [key.kid for key in candidates(keys, "RS256", "")] == ["r"]
    assert candidates(keys, "HS256", "r") == keys[:1]
    assert candidates(keys, "none", "r") == []
    assert [key.kid for key in candidates(keys, "RS256", "r")] == ["r"]
    assert candidates(keys, "RS256", "../r") == []
