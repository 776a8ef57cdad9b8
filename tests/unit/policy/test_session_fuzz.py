"""Tokens mangled in every way, judged by us and by Bokeh: `bokeh.util.token` and the rules of its WebSocket handler."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any

from bokeh.util.token import (
    check_token_signature,
    generate_jwt_token,
    generate_session_id,
    get_session_id,
    get_token_payload,
)
from hypothesis import example, given
from hypothesis import strategies as st

from bokeh_gateway.bokeh import session_id as ids
from bokeh_gateway.bokeh.request import SessionRefs
from bokeh_gateway.policy.session import SessionPolicy
from bokeh_gateway.policy.verdict import Deny
from tests.support.fuzzing import ONCE, keep_on

SECRET, OTHER = b"the secret of the workers", b"another secret"
NOW = 2_000_000_000
SIGNED = SessionPolicy("signed", [SECRET], leeway=0)
STRICTER = ("token-malformed", "session-id-invalid")
"""Reasons for which we refuse what Bokeh would take: foreign characters, an expiry that is no whole number, an id that
cannot stand in a header."""


def sealed(payload: object, secret: bytes | None = SECRET) -> str:
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return resealed(urlsafe_b64encode(raw).decode().rstrip("="), secret)


def resealed(text: str, secret: bytes | None = SECRET) -> str:
    base = text.partition(".")[0]
    return base if secret is None else f"{base}.{ids.signature(base, secret)}"


def bokeh_takes(token: str) -> bool:
    """As `WSHandler.open` decides, of which every exception is a refusal."""
    try:
        if not check_token_signature(token, SECRET, signed=True):
            return False
        return bool(get_token_payload(token)["session_expiry"] > NOW)
    except Exception:  # noqa: BLE001 - a worker refuses by any of them
        return False


def payload_reads(token: str) -> bool:
    """Whether the compressed part, which is never inflated here, is one."""
    try:
        get_token_payload(token)
    except Exception:  # noqa: BLE001 - whatever it is, the worker refuses it
        return False
    return True


SECRETS = st.sampled_from([SECRET, SECRET, SECRET, OTHER])
SESSIONS = st.one_of(
    st.builds(lambda secret: str(generate_session_id(secret, signed=True)), SECRETS),
    st.builds(lambda secret: ids.mint("abcdefgh", "r" * 43, secret), SECRETS),
    st.text(max_size=20),
    st.text(max_size=8).map(lambda base: base if "." in base else base + "." + _signature(base)),
)
EXPIRIES = st.one_of(
    st.sampled_from(
        [NOW - 1, NOW, NOW + 1, NOW + 300, -1, 0, True, None, 1e400, 2.5e9, "2000000300", [], 2**63, 2**70]
    ),
    st.integers(),
)
EXTRAS = st.dictionaries(st.sampled_from(["headers", "cookies", "arguments"]), st.text(max_size=9), max_size=2)
PARTS = st.sampled_from(["", "x", "eJw", "eJyrVipWslJQKkstLU5NUQIAGkYDgA", "\u00e9", "A" * 300])


def _signature(base: str) -> str:
    try:
        return ids.signature(base, SECRET)
    except UnicodeEncodeError:
        return ""


def of_bokeh(session: str, secret: bytes, extra: dict[str, Any], lifetime: int) -> str:
    token = generate_jwt_token(session, secret, True, extra, 300)  # type: ignore[arg-type]
    payload = json.loads(urlsafe_b64decode(token.partition(".")[0] + "=="))
    return sealed(payload | {"session_expiry": NOW + lifetime}, secret)


TOKENS = st.one_of(
    st.builds(of_bokeh, SESSIONS, SECRETS, EXTRAS, st.integers(-2, 300)),
    st.builds(
        lambda session, expiry, part: sealed(
            {"session_id": session, "session_expiry": expiry, **({"__bk__zlib_": part} if part else {})}
        ),
        SESSIONS,
        EXPIRIES,
        PARTS,
    ),
    st.binary(max_size=60).map(sealed),
    st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5).map(sealed),
)

PLACES = st.floats(0, 1)


def replaced(place: float, text: str) -> Callable[[str], str]:
    return lambda token: token[: int(place * len(token))] + text + token[int(place * len(token)) + len(text) :]


def inserted(place: float, text: str) -> Callable[[str], str]:
    return lambda token: token[: int(place * len(token))] + text + token[int(place * len(token)) :]


def cut(start: float, end: float) -> Callable[[str], str]:
    return lambda token: token[: int(min(start, end) * len(token))] + token[int(max(start, end) * len(token)) :]


def padded(token: str) -> str:
    base, dot, signature = token.partition(".")
    return base + "=" * (-len(base) % 4) + dot + signature


def with_last_bits(token: str) -> str:
    """The same bytes in another spelling: base64 leaves bits of its last character unused."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    if not token or token[-1] not in alphabet:
        return token
    return token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]


PIECES = st.sampled_from(
    [".", "..", "=", "==", "+", "/", "-", "_", " ", "\t", "\n", "\0", ",", "A", "\u00e9", "\ud800"]
)
MANGLERS = st.one_of(
    st.builds(replaced, PLACES, PIECES),
    st.builds(replaced, PLACES, st.characters(max_codepoint=127)),
    st.builds(inserted, PLACES, PIECES),
    st.builds(cut, PLACES, PLACES),
    st.sampled_from(
        [
            padded,
            with_last_bits,
            str.upper,
            str.swapcase,
            resealed,
            resealed,
            lambda token: resealed(token, OTHER),
            lambda token: resealed(token, None),
            lambda token: resealed(token, None) + ".",
            lambda token: token + "." + token,
            lambda token: ".".join(reversed(token.split("."))),
            lambda token: token.replace("-", "+").replace("_", "/"),
            lambda token: token.partition(".")[0] + "." + sealed({}).partition(".")[2],
            lambda token: sealed({"session_id": token, "session_expiry": NOW + 300}),
        ]
    ),
)


def mangled(token: str, manglers: list[Callable[[str], str]]) -> str:
    for mangle in manglers:
        try:
            token = mangle(token)
        except UnicodeEncodeError:
            return token
    return token


def judged(token: str) -> None:
    named = SIGNED.check_websocket(SessionRefs(subprotocol=token), NOW)
    if not isinstance(named, Deny):
        assert named.session_id == get_session_id(token)
        assert bokeh_takes(token) or not payload_reads(token)
    elif bokeh_takes(token):
        assert named.reason in STRICTER, (token, named)
    if isinstance(named, Deny):
        base = token.partition(".")[0]
        assert len(base) < 8 or base not in named.detail


def test_our_verdict_on_a_token_is_bokehs() -> None:
    @ONCE
    @given(TOKENS, st.lists(MANGLERS, max_size=4))
    @example(sealed({"session_id": ids.mint("abcdefgh", "r" * 43, SECRET), "session_expiry": NOW + 1}), [])
    def judge(token: str, manglers: list[Callable[[str], str]]) -> None:
        judged(mangled(token, manglers))

    keep_on(judge)


def test_a_good_token_is_taken_by_both_and_each_changed_byte_by_none() -> None:
    """Every byte by every character of the alphabet, and by some that are none of it; each cut, each byte left out."""
    session = ids.mint("abcdefgh", "r" * 20, SECRET)
    good = of_bokeh(session, SECRET, {"headers": "x"}, 300)
    assert not isinstance(SIGNED.check_websocket(SessionRefs(subprotocol=good), NOW), Deny)
    assert bokeh_takes(good)
    for at, character in enumerate(good):
        for other in "Aa0-_.=+/ \t\n\0\xff\u0100" + chr(ord(character) ^ 1) + character.swapcase():
            changed = [good[:at] + other + good[at + 1 :], good[:at] + other + good[at:], good[:at] + good[at + 1 :]]
            for token in changed:
                if token != good:
                    judged(token)
                    assert isinstance(SIGNED.check_websocket(SessionRefs(subprotocol=token), NOW), Deny), token
        judged(good[:at])
