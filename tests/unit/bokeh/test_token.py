"""Tokens: what Bokeh makes is read and judged as Bokeh does, and what is malformed is a TokenError and nothing else."""

from __future__ import annotations

import json
import zlib
from base64 import urlsafe_b64encode
from time import perf_counter
from typing import Any

import pytest
from bokeh.util.token import (
    check_token_signature,
    generate_jwt_token,
    generate_session_id,
    get_session_id,
    get_token_payload,
)
from hypothesis import given
from hypothesis import strategies as st

from bokeh_gateway.bokeh import session_id as ids
from bokeh_gateway.bokeh import token as tokens

SECRET = b"a secret of some length"
SESSION = ids.mint("abcdefgh", "r" * 43, SECRET)
GENUINE = tokens.encode(SESSION, 2_000_000_000, SECRET)
EXTRAS = st.dictionaries(st.sampled_from(["headers", "cookies", "arguments"]), st.text() | st.binary() | st.none())


def packed(payload: Any) -> str:
    """The base64 of a JSON text, or of the bytes given."""
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return urlsafe_b64encode(raw).decode().rstrip("=")


@given(st.binary(min_size=1), st.booleans(), EXTRAS, st.integers(1, 10**6))
def test_tokens_of_bokeh_are_read(secret: bytes, signed: bool, extra: dict[str, Any], lifetime: int) -> None:
    """Session and expiry are what Bokeh itself reads in it."""
    session_id = generate_session_id(secret, signed=True)
    token = generate_jwt_token(session_id, secret, signed, extra, lifetime)
    claims = tokens.read_claims(token)
    assert claims.session_id == session_id
    assert claims.expiry == get_token_payload(token)["session_expiry"]
    assert tokens.verify(token, [secret]) is signed


@given(st.text(), st.integers(-(1 << 53), 1 << 53), st.binary(min_size=1))
def test_bokeh_reads_tokens_of_ours(session_id: str, expiry: int, secret: bytes) -> None:
    """Any text can be a session id to Bokeh, and is escaped as it escapes it."""
    token = tokens.encode(session_id, expiry, secret)
    assert get_session_id(token) == session_id
    assert get_token_payload(token) == {"session_expiry": expiry}
    assert tokens.read_claims(token) == tokens.Claims(session_id, expiry)
    assert tokens.verify_outer(token, [secret])


@given(st.binary(min_size=1), EXTRAS)
def test_a_renewed_token_carries_the_same(secret: bytes, extra: dict[str, Any]) -> None:
    """Only the expiry is another one, and both signatures are good."""
    old = generate_jwt_token(generate_session_id(secret, signed=True), secret, True, extra)
    new = tokens.renew(old, 1_234_567_890, secret)
    assert check_token_signature(new, secret, signed=True)
    assert get_session_id(new) == get_session_id(old)
    assert get_token_payload(new) == get_token_payload(old) | {"session_expiry": 1_234_567_890}
    assert "." not in tokens.renew(old, 1, None)


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(GENUINE.partition(".")[0], id="TK03-signature-removed"),
        pytest.param(GENUINE.partition(".")[0] + ".", id="TK03-signature-empty"),
        pytest.param(GENUINE.replace(".", ".."), id="TK03-two-dots"),
        pytest.param(GENUINE + "A", id="TK03-trailing-character"),
        pytest.param(GENUINE + ".x", id="TK03-trailing-part"),
        pytest.param(
            GENUINE.partition(".")[0] + "." + tokens.encode(SESSION, 1, SECRET).partition(".")[2],
            id="TK02-signature-of-another-token",
        ),
        pytest.param(tokens.encode(SESSION + "A", 2_000_000_000, SECRET), id="TK04-wrong-signature-inside"),
        pytest.param(tokens.encode("abcdefgh~x", 2_000_000_000, SECRET), id="TK04-no-signature-inside"),
        pytest.param(tokens.encode(SESSION, 2_000_000_000, b"revoked"), id="TK05-revoked-key"),
        pytest.param("", id="empty"),
        pytest.param("\xff.\xff", id="not-ascii"),
    ],
)
def test_forged_tokens_are_not_genuine(token: str) -> None:
    """Nothing raises, whatever a client sends; where Bokeh can judge, it says the same."""
    assert not tokens.verify(token, [SECRET])


def test_every_flipped_bit_is_noticed() -> None:
    """TK02, over the whole token."""
    assert tokens.verify(GENUINE, [SECRET])
    for place, character in enumerate(GENUINE):
        for bit in range(7):
            changed = chr(ord(character) ^ 1 << bit)
            assert not tokens.verify(GENUINE[:place] + changed + GENUINE[place + 1 :], [SECRET])


def test_the_two_signatures_may_be_of_different_keys() -> None:
    """TK05: while keys rotate, a worker with the new one seals sessions that a parent named with the old one."""
    token = tokens.encode(SESSION, 2_000_000_000, b"new")
    assert tokens.verify(token, [b"new", SECRET])
    assert not tokens.verify(token, [b"new"])
    assert not tokens.verify(token, [])


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("", id="empty"),
        pytest.param(".", id="dot"),
        pytest.param("A", id="one-character"),
        pytest.param("AAAA=", id="padding"),
        pytest.param("AA+/", id="the-other-alphabet"),
        pytest.param("eyJ\n", id="newline"),
        pytest.param("ÿ", id="latin-1"),
        pytest.param("\ud800", id="half-a-surrogate-pair"),
        pytest.param("?", id="question-mark"),
        pytest.param(packed(b""), id="nothing"),
        pytest.param(packed(b"\xff\xfe\x00"), id="not-utf-8"),
        pytest.param(packed(b"{"), id="not-json"),
        pytest.param(packed([]), id="array"),
        pytest.param(packed("x"), id="string"),
        pytest.param(packed(None), id="null"),
        pytest.param(packed({}), id="no-session"),
        pytest.param(packed({"session_id": 7}), id="session-is-a-number"),
        pytest.param(packed({"session_id": None}), id="session-is-null"),
        pytest.param(packed({"session_id": ["x"]}), id="session-is-an-array"),
        pytest.param(packed({"session_id": "x", "session_expiry": "2000000000"}), id="TK07-expiry-string"),
        pytest.param(packed({"session_id": "x", "session_expiry": 2e9}), id="TK07-expiry-float"),
        pytest.param(packed({"session_id": "x", "session_expiry": True}), id="TK07-expiry-bool"),
        pytest.param(packed({"session_id": "x", "session_expiry": 2**63}), id="TK07-expiry-2-63"),
        pytest.param(packed({"session_id": "x", "session_expiry": -(2**63)}), id="TK07-expiry-minus-2-63"),
        pytest.param(packed({"session_id": "x", "session_expiry": {}}), id="TK07-expiry-object"),
        pytest.param(packed(b'{"session_id":"x","session_expiry":1e999}'), id="TK07-expiry-infinite"),
        pytest.param(packed(b'{"session_id":"x","session_expiry":' + b"9" * 5000 + b"}"), id="TK07-expiry-5000-digits"),
        pytest.param(packed(b"[" * 100_000), id="nesting-bomb"),
        pytest.param(packed(b'{"a":' * 100_000), id="nesting-bomb-objects"),
        pytest.param("A" * (tokens.MAX_LENGTH + 1), id="TK09-too-long"),
    ],
)
def test_what_cannot_be_read_is_a_token_error(token: str) -> None:
    """One exception for all of it, whose message quotes nothing of the token."""
    with pytest.raises(tokens.TokenError) as caught:
        tokens.read_claims(token)
    assert caught.value.reason == "token-malformed"
    assert caught.value.__cause__ is None
    assert not tokens.verify(token, [SECRET])


@given(st.text() | st.binary().map(packed) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(packed))
def test_no_text_raises_anything_else(token: str) -> None:
    """Fuzz: claims or TokenError."""
    try:
        claims = tokens.read_claims(token)
    except tokens.TokenError:
        return
    assert isinstance(claims.session_id, str)


def test_an_expiry_may_be_missing() -> None:
    """Who asks decides what that means."""
    assert tokens.read_claims(packed({"session_id": "x"})) == tokens.Claims("x", None)


def test_of_two_equal_names_the_last_counts_as_at_the_worker() -> None:
    """Otherwise the gateway would route one session and the worker open another."""
    token = packed(b'{"session_id":"first","session_id":"last","session_expiry":1}')
    assert tokens.read_claims(token).session_id == "last" == get_session_id(token)


def test_the_compressed_part_is_never_inflated() -> None:
    """TK11: 100 MiB of zeros, and a part that is no zlib stream at all, cost nothing."""
    bomb = packed(zlib.compress(bytes(100 << 20), 9))
    for part in (bomb, "no zlib"):
        token = packed({"session_id": "x", "session_expiry": 1, "__bk__zlib_": part})
        start = perf_counter()
        assert tokens.read_claims(token) == tokens.Claims("x", 1)
        assert perf_counter() - start < 0.1


@pytest.mark.parametrize("size", [pytest.param(64 << 10, id="64-KiB"), pytest.param(700 << 10, id="almost-1-MiB")])
def test_long_tokens_are_read_in_linear_time(size: int) -> None:
    """TK09."""
    token = packed({"session_id": SESSION, "session_expiry": 1, "__bk__zlib_": "x" * size})
    sealed = f"{token}.{ids.signature(token, SECRET)}"
    start = perf_counter()
    assert tokens.verify(sealed, [SECRET])
    assert perf_counter() - start < 0.5
