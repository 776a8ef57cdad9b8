"""Sessions and tokens at the edge: Bokeh's rules in its three modes, said with a status."""

from __future__ import annotations

from typing import Any

import pytest
from bokeh.util.token import generate_jwt_token, generate_session_id

from bokeh_gateway.bokeh import session_id as ids
from bokeh_gateway.bokeh import token as tokens
from bokeh_gateway.bokeh.request import NOTHING, SessionRefs
from bokeh_gateway.policy.session import MINT, PASS, Mode, Named, SessionPolicy
from bokeh_gateway.policy.verdict import Deny

NOW = 2_000_000_000.0
LATER = int(NOW) + 300
SECRET, OLD = b"present secret", b"previous secret"
SIGNED = ids.mint("abcdefgh", "r" * 43, SECRET)
PLAIN = ids.mint("abcdefgh", "r" * 43, None)
MODES: tuple[Mode, ...] = ("unsigned", "signed", "external-signed")
SIGNING: tuple[Mode, ...] = ("signed", "external-signed")


def policy(mode: Mode) -> SessionPolicy:
    """Both secrets of a rotation."""
    return SessionPolicy(mode, (SECRET, OLD) if mode != "unsigned" else ())


def token(session_id: str = SIGNED, expiry: int = LATER, secret: bytes | None = SECRET) -> str:
    """A good one unless told otherwise."""
    return tokens.encode(session_id, expiry, secret)


def outcome(answer: Named | Deny) -> tuple[int, str] | Named:
    """What is compared: status and slug of a refusal."""
    return (answer.status, answer.reason) if isinstance(answer, Deny) else answer


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        pytest.param("unsigned", MINT, id="unsigned"),
        pytest.param("signed", MINT, id="signed"),
        pytest.param("external-signed", (403, "session-id-missing"), id="external-signed"),
    ],
)
@pytest.mark.parametrize("refs", [pytest.param(NOTHING, id="nothing"), pytest.param(SessionRefs(), id="an-equal-one")])
def test_a_page_that_names_no_session_gets_one(mode: Mode, expected: Any, refs: SessionRefs) -> None:
    """Unless another application makes the sessions."""
    assert outcome(policy(mode).check_page(refs, NOW)) == expected


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "refs",
    [
        pytest.param(SessionRefs(header=(SIGNED,)), id="header"),
        pytest.param(SessionRefs(argument=(SIGNED,)), id="argument"),
        pytest.param(SessionRefs(token_argument=(token(),)), id="token-argument"),
    ],
)
def test_a_session_may_be_named_in_any_one_way(mode: Mode, refs: SessionRefs) -> None:
    """And is then the one that the request goes to."""
    assert policy(mode).check_page(refs, NOW) == Named(SIGNED, False)
    assert policy(mode).check_websocket(refs, NOW) == Named(SIGNED, False)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "refs",
    [
        pytest.param(SessionRefs(header=(SIGNED,), argument=(SIGNED,)), id="header-beside-argument"),
        pytest.param(SessionRefs(header=(SIGNED, SIGNED)), id="two-headers"),
        pytest.param(SessionRefs(argument=(SIGNED, PLAIN)), id="two-arguments"),
        pytest.param(SessionRefs(argument=(SIGNED,), token_argument=(token(),)), id="token-beside-argument"),
        pytest.param(SessionRefs(header=(SIGNED,), token_argument=(token(),)), id="token-beside-header"),
        pytest.param(SessionRefs(token_argument=(token(), token())), id="two-tokens"),
    ],
)
def test_a_session_may_not_be_named_twice(mode: Mode, refs: SessionRefs) -> None:
    """As at the worker; on a WebSocket without a token as well."""
    assert outcome(policy(mode).check_page(refs, NOW)) == (403, "session-named-twice")
    assert outcome(policy(mode).check_websocket(refs, NOW)) == (403, "session-named-twice")


@pytest.mark.parametrize("mode", MODES)
def test_on_a_websocket_the_token_alone_decides(mode: Mode) -> None:
    """BokehJS repeats the page's query, `bokeh-session-id` included, on the WebSocket's URL."""
    refs = SessionRefs(header=("x/y",), argument=(SIGNED, "other"), subprotocol=token())
    assert policy(mode).check_websocket(refs, NOW) == Named(SIGNED, False)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        pytest.param("unsigned", PASS, id="unsigned"),
        pytest.param("signed", (401, "token-missing"), id="signed"),
        pytest.param("external-signed", (401, "token-missing"), id="external-signed"),
    ],
)
def test_a_websocket_that_names_nothing(mode: Mode, expected: Any) -> None:
    """The worker's refusal is as good as ours where nothing could be verified anyway."""
    assert outcome(policy(mode).check_websocket(NOTHING, NOW)) == expected


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("expiry", "now", "expired"),
    [
        pytest.param(-1, 0.0, False, id="TK01-a-second-ago-within-leeway"),
        pytest.param(0, 0.0, False, id="TK01-now-within-leeway"),
        pytest.param(-29, 0.9, False, id="TK01-just-within-leeway"),
        pytest.param(-30, 0.0, True, id="TK01-leeway-over"),
        pytest.param(-31, 0.0, True, id="TK01-a-second-over"),
        pytest.param(-14400, 0.0, True, id="TK-09-four-hours"),
        pytest.param(300, 0.0, False, id="fresh"),
        pytest.param(-(2**52), 0.0, True, id="TK07-negative"),
    ],
)
def test_an_expired_token_is_refused(mode: Mode, expiry: int, now: float, expired: bool) -> None:
    """401 with the setting; now >= expiry + leeway."""
    sealed = token(expiry=int(NOW) + expiry)
    for answer in (
        policy(mode).check_websocket(SessionRefs(subprotocol=sealed), NOW + now),
        policy(mode).check_page(SessionRefs(token_argument=(sealed,)), NOW + now),
    ):
        assert outcome(answer) == ((401, "token-expired") if expired else Named(SIGNED, False))
        if isinstance(answer, Deny):
            assert "[sessions] token_expiration" in answer.setting


def test_without_leeway_the_border_is_the_worker_s() -> None:
    """TK01: Bokeh refuses when now >= expiry."""
    exact = SessionPolicy("signed", (SECRET,), leeway=0.0)
    refs = SessionRefs(subprotocol=token(expiry=int(NOW)))
    assert exact.check_websocket(refs, NOW - 0.001) == Named(SIGNED, False)
    assert outcome(exact.check_websocket(refs, NOW)) == (401, "token-expired")


@pytest.mark.parametrize("mode", SIGNING)
@pytest.mark.parametrize(
    ("sealed", "expected"),
    [
        pytest.param(token(secret=None), "token-signature", id="TK03-signature-removed"),
        pytest.param(token(secret=None) + ".", "token-signature", id="TK03-signature-empty"),
        pytest.param(token().replace(".", ".."), "token-signature", id="TK03-two-dots"),
        pytest.param(token() + "x", "token-signature", id="TK03-trailing"),
        pytest.param("f" + token()[1:], "token-signature", id="TK02-payload-changed"),
        pytest.param(token()[:-1] + "~", "token-signature", id="TK02-signature-changed"),
        pytest.param(token(secret=b"revoked"), "token-signature", id="TK05-revoked-key"),
        pytest.param(token(PLAIN), "session-id-signature", id="TK04-no-signature-inside"),
        pytest.param(token(SIGNED + "x"), "session-id-signature", id="TK04-wrong-signature-inside"),
        pytest.param(token(SIGNED + "x", expiry=1), "session-id-signature", id="forged-before-expired"),
        pytest.param(token("a/b." + ids.signature("a/b", SECRET)), "session-id-invalid", id="TK14-signed-slash"),
        pytest.param("", "token-signature", id="empty"),
        pytest.param("\xff", "token-signature", id="not-ascii"),
    ],
)
def test_a_forged_token_is_403(mode: Mode, sealed: str, expected: str) -> None:
    """On the WebSocket and as `bokeh-token`; the refusal quotes neither token nor session."""
    for answer in (
        policy(mode).check_websocket(SessionRefs(subprotocol=sealed), NOW),
        policy(mode).check_page(SessionRefs(token_argument=(sealed,)), NOW),
    ):
        assert isinstance(answer, Deny)
        assert (answer.status, answer.reason) == (403, expected)
        assert not sealed or sealed not in answer.detail + answer.setting
        assert SIGNED not in answer.detail + answer.setting


@pytest.mark.parametrize("mode", SIGNING)
@pytest.mark.parametrize(
    "session_id", [pytest.param(PLAIN, id="unsigned"), pytest.param(SIGNED.replace("abcd", "abce"), id="hint-changed")]
)
def test_a_forged_session_id_is_403(mode: Mode, session_id: str) -> None:
    """As argument and as header."""
    for refs in (SessionRefs(argument=(session_id,)), SessionRefs(header=(session_id,))):
        assert outcome(policy(mode).check_page(refs, NOW)) == (403, "session-id-signature")


@pytest.mark.parametrize("mode", SIGNING)
def test_the_previous_key_counts_during_a_rotation(mode: Mode) -> None:
    """TK05: for tokens and for ids."""
    old = ids.mint("abcdefgh", "r" * 43, OLD)
    assert policy(mode).check_page(SessionRefs(argument=(old,)), NOW) == Named(old, False)
    refs = SessionRefs(subprotocol=token(old, secret=OLD))
    assert policy(mode).check_websocket(refs, NOW) == Named(old, False)


@pytest.mark.parametrize("mode", MODES)
def test_what_bokeh_makes_is_taken(mode: Mode) -> None:
    """Ids of a parent application and tokens of a worker."""
    session_id = generate_session_id(SECRET, signed=True)
    sealed = generate_jwt_token(session_id, SECRET, mode != "unsigned", {"headers": {"a": "b"}}, 300)
    assert policy(mode).check_page(SessionRefs(argument=(session_id,)), NOW) == Named(session_id, False)
    assert policy(mode).check_websocket(SessionRefs(subprotocol=sealed), 0.0) == Named(session_id, False)


@pytest.mark.parametrize(
    "session_id",
    [
        pytest.param("", id="empty"),
        pytest.param("x" * 10240, id="TK14-10-kb"),
        pytest.param("../x", id="TK14-dot-dot"),
        pytest.param("a\r\nX: y", id="TK14-crlf"),
        pytest.param("a\0b", id="TK14-nul"),
        pytest.param("sitzung-ä", id="TK14-unicode"),
        pytest.param("\ud800", id="half-a-surrogate-pair"),
    ],
)
def test_the_form_counts_in_every_mode(session_id: str) -> None:
    """TK14: nothing odd reaches a worker, a header or a log."""
    unsigned = policy("unsigned")
    for answer in (
        unsigned.check_page(SessionRefs(argument=(session_id,)), NOW),
        unsigned.check_page(SessionRefs(header=(session_id,)), NOW),
        unsigned.check_websocket(SessionRefs(subprotocol=token(session_id, secret=None)), NOW),
    ):
        assert outcome(answer) == (403, "session-id-invalid")


@pytest.mark.parametrize(
    "sealed",
    [
        pytest.param("", id="empty"),
        pytest.param("%%%", id="not-base64"),
        pytest.param("AAAA", id="not-json"),
        pytest.param("eyJzZXNzaW9uX2lkIjoieCJ9", id="no-expiry"),
        pytest.param("x" * (2 << 20), id="TK09-2-mib"),
    ],
)
def test_an_unreadable_token_is_403_in_unsigned_mode_too(sealed: str) -> None:
    """A worker would answer 101 and close."""
    assert outcome(policy("unsigned").check_websocket(SessionRefs(subprotocol=sealed), NOW)) == (403, "token-malformed")


def test_unsigned_mode_verifies_nothing() -> None:
    """As at the worker: a signature, good or bad, is part of the name."""
    assert policy("unsigned").check_page(SessionRefs(argument=(SIGNED + "x",)), NOW) == Named(SIGNED + "x", False)
    refs = SessionRefs(subprotocol=token("mine", secret=b"any"))
    assert policy("unsigned").check_websocket(refs, NOW) == Named("mine", False)


@pytest.mark.parametrize("mode", SIGNING)
def test_signing_needs_a_secret(mode: Mode) -> None:
    """Otherwise every token would be refused, one by one."""
    with pytest.raises(ValueError, match="secret_key"):
        SessionPolicy(mode, ())
