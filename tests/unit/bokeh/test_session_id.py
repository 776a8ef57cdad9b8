"""Session ids: what we mint is genuine to Bokeh, and what Bokeh makes is genuine to us."""

from __future__ import annotations

import re

import pytest
from bokeh.util.token import check_session_id_signature, generate_session_id
from hypothesis import given
from hypothesis import strategies as st

from bokeh_gateway.bokeh import session_id as ids

SECRET = b"a secret of some length"
KEYS = st.from_regex(r"[a-z2-7]{8}", fullmatch=True)
RANDOM = st.from_regex(r"[A-Za-z0-9_-]{22,64}", fullmatch=True)
GENUINE = ids.mint("abcdefgh", "r" * 43, SECRET)


@given(st.text(min_size=1))
def test_a_worker_key_is_8_characters_of_base32(name: str) -> None:
    """Lower case without padding: it stands at the front of a header, a URL and a metrics label."""
    assert re.fullmatch(r"[a-z2-7]{8}", ids.worker_key(name))


def test_a_worker_key_is_the_same_in_every_process_and_release() -> None:
    """Pages open in browsers carry it through an upgrade of the gateway."""
    assert ids.worker_key("127.0.0.1:5100") == "e26lrnbg"


@given(KEYS, RANDOM, st.binary(min_size=1, max_size=80))
def test_bokeh_takes_what_we_sign(key: str, random: str, secret: bytes) -> None:
    """Bokeh is the oracle of the signature."""
    session_id = ids.mint(key, random, secret)
    assert check_session_id_signature(session_id, secret, signed=True)
    assert ids.verify(session_id, [secret])
    assert ids.hint(session_id) == key
    assert ids.valid_form(session_id)


@given(st.binary(min_size=1, max_size=80))
def test_we_take_what_bokeh_signs(secret: bytes) -> None:
    """Its ids have no hint: they go by hashing."""
    session_id = generate_session_id(secret, signed=True)
    assert ids.verify(session_id, [secret])
    assert ids.hint(session_id) is None
    assert ids.valid_form(session_id)


@given(st.text(), st.binary(min_size=1, max_size=8))
def test_any_text_is_judged_as_bokeh_judges_it(session_id: str, secret: bytes) -> None:
    """Where Bokeh raises (characters that are not ASCII in the signature), the answer is no."""
    try:
        expected = check_session_id_signature(session_id, secret, signed=True)
    except (TypeError, UnicodeEncodeError):
        expected = False
    assert ids.verify(session_id, [secret]) is expected


@pytest.mark.parametrize(
    "session_id",
    [
        pytest.param("abcdefgh~" + "r" * 43, id="TK03-no-signature"),
        pytest.param("abcdefgh~" + "r" * 43 + ".", id="TK03-empty-signature"),
        pytest.param(GENUINE + ".", id="TK03-dot-after"),
        pytest.param(GENUINE + "A", id="TK03-trailing-character"),
        pytest.param(GENUINE + "=", id="TK03-padded"),
        pytest.param(GENUINE.replace(".", ".."), id="TK03-two-dots"),
        pytest.param(GENUINE.replace("abcdefgh", "abcdefgi"), id="hint-changed"),
        pytest.param("\ud800.x", id="half-a-surrogate-pair"),
        pytest.param("a.\udfff", id="half-a-surrogate-pair-as-signature"),
        pytest.param("", id="empty"),
        pytest.param(".", id="dot"),
    ],
)
def test_forged_ids_are_not_genuine(session_id: str) -> None:
    """Nothing raises, whatever a client sends."""
    assert not ids.verify(session_id, [SECRET])


def test_every_flipped_bit_is_noticed() -> None:
    """TK02, over the whole id, the last character's spare bits included."""
    for place, character in enumerate(GENUINE):
        for bit in range(7):
            changed = chr(ord(character) ^ 1 << bit)
            assert not ids.verify(GENUINE[:place] + changed + GENUINE[place + 1 :], [SECRET])


def test_any_of_several_secrets_will_do() -> None:
    """TK05: during a rotation the previous key still counts, and a revoked one does not."""
    assert ids.verify(GENUINE, [b"new", SECRET])
    assert not ids.verify(GENUINE, [b"new", b"other"])
    assert not ids.verify(GENUINE, [])


@pytest.mark.parametrize(
    ("session_id", "expected"),
    [
        pytest.param("abcdefgh~x", "abcdefgh", id="unsigned"),
        pytest.param("abcdefgh~", "abcdefgh", id="nothing-random"),
        pytest.param("abcdefg~x", None, id="short-key"),
        pytest.param("abcdefghi~x", None, id="long-key"),
        pytest.param("abcdefg1~x", None, id="not-base32"),
        pytest.param("ABCDEFGH~x", None, id="upper-case"),
        pytest.param("x.abcdefgh~x", None, id="not-in-front"),
        pytest.param("", None, id="empty"),
    ],
)
def test_a_hint_is_read_only_where_a_gateway_puts_it(session_id: str, expected: str | None) -> None:
    """Exactly 8 characters a-z2-7 and a tilde at the front."""
    assert ids.hint(session_id) == expected


@pytest.mark.parametrize(
    ("session_id", "expected"),
    [
        pytest.param("a", True, id="one-character"),
        pytest.param("a" * 512, True, id="longest"),
        pytest.param("a" * 513, False, id="too-long"),
        pytest.param("a" * 10240, False, id="TK14-10-kb"),
        pytest.param("", False, id="empty"),
        pytest.param("a/b", False, id="TK14-slash"),
        pytest.param("../../etc/passwd", False, id="TK14-dot-dot"),
        pytest.param("a\r\nX: y", False, id="TK14-crlf"),
        pytest.param("a\n", False, id="TK14-newline-at-the-end"),
        pytest.param("a\0", False, id="TK14-nul"),
        pytest.param("a b", False, id="TK14-space"),
        pytest.param("a\x7f", False, id="TK14-delete"),
        pytest.param("sitzung-ä", False, id="TK14-unicode"),
        pytest.param("a-b_c.d~e:1", True, id="punctuation"),
    ],
)
def test_only_what_fits_a_header_and_a_log_line_has_the_form_of_an_id(session_id: str, expected: bool) -> None:
    """Everything else is refused before it is written anywhere."""
    assert ids.valid_form(session_id) is expected
