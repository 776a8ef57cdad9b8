"""Password hashes; RFC 7914's own vector is the oracle of the arithmetic."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode

import pytest

from bokeh_gateway.policy.password import BadHash, argon2_hash, check_form, scrypt_hash, verify

ARGON = argon2_hash("correct")
FAST = scrypt_hash("correct", b"0123456789abcdef", 4)


def test_the_form_is_phcs() -> None:
    raw = hashlib.scrypt(b"correct", salt=b"0123456789abcdef", n=16, r=8, p=1, dklen=32)
    text = b64encode(raw).decode().rstrip("=")
    assert f"$scrypt$ln=4,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg${text}" == FAST


@pytest.mark.parametrize("hashed", [FAST, ARGON], ids=["scrypt", "argon2"])
def test_a_password_is_verified(hashed: str) -> None:
    assert verify("correct", hashed)
    for wrong in ("Correct", "", "correct ", "correct\x00"):
        assert not verify(wrong, hashed)


@pytest.mark.parametrize(
    "hashed",
    [
        pytest.param("", id="empty"),
        pytest.param("correct", id="plain"),
        pytest.param("$scrypt$ln=4,r=8,p=1$x", id="cut"),
        pytest.param(FAST.replace("ln=4", "ln=30"), id="memory"),
        pytest.param(FAST.replace("ln=4,r=8", "ln=20,r=99"), id="memory-by-blocks"),
        pytest.param(FAST.replace("ln=4", "ln=0"), id="no-work"),
        pytest.param("$scrypt$ln=4,r=8,p=1$AAAA$AAAAAAAAAAAAAAAAAAAAAA", id="short-salt"),
        pytest.param("$argon2id$v=19$m=65536,t=3$x$y", id="argon2-cut"),
        pytest.param(ARGON.rpartition("$")[0] + "$x", id="argon2-hash-cut"),
        pytest.param(ARGON.replace("$v=19$", "$v=99$"), id="argon2-unknown-version"),
        pytest.param(re.sub(r"m=\d+", "m=9999999", ARGON), id="argon2-memory"),
        pytest.param(re.sub(r"m=\d+", "m=1", ARGON), id="argon2-no-memory"),
        pytest.param(FAST.replace("ln=4,r=8", "ln=16,r=1"), id="scrypt-n-too-large-for-r"),
    ],
)
def test_what_is_no_hash_is_refused_when_it_is_read(hashed: str) -> None:
    with pytest.raises(BadHash):
        check_form(hashed)
