"""Which pages may come back, and what their new tokens are."""

from __future__ import annotations

import pytest
from bokeh.util.token import check_token_signature, generate_jwt_token, generate_session_id, get_token_payload

from bokeh_gateway.bokeh.token import TokenError, read_claims
from bokeh_gateway.policy.reconnect import ReconnectPolicy, gone

KEY, OLD = b"k" * 44, b"o" * 44
HOUR = 3600.0
NOW = 1_800_000_000.0


def policy(*secrets: bytes, leeway: float = 30.0, lifetime: float = 300.0) -> ReconnectPolicy:
    return ReconnectPolicy(window=8 * HOUR, lifetime=lifetime, leeway=leeway, secrets=secrets)


@pytest.mark.parametrize(
    ("left", "leeway", "lifetime", "near"),
    [
        pytest.param(270.0, 30.0, 300.0, False, id="fresh"),
        pytest.param(30.5, 30.0, 300.0, False, id="before-the-leeway"),
        pytest.param(30.0, 30.0, 300.0, True, id="the-worker's-clock-may-be-ahead"),
        pytest.param(0.0, 0.0, 300.0, True, id="workers-refuse-at-the-second"),
        pytest.param(0.5, 0.0, 300.0, False, id="no-leeway"),
        pytest.param(-9999.0, 30.0, 300.0, True, id="expired"),
        pytest.param(2.5, 30.0, 2.0, False, id="a-leeway-above-the-lifetime-is-cut"),
    ],
)
def test_a_token_is_made_again_from_shortly_before_its_expiry(
    left: float, leeway: float, lifetime: float, near: bool
) -> None:
    """Leeway counts both ways: what we pass, the worker must not refuse after its 101."""
    assert policy(leeway=leeway, lifetime=lifetime).near(int(NOW), NOW - left) is near


@pytest.mark.parametrize(
    ("age", "refused"),
    [
        pytest.param(301.0, False, id="just-expired"),
        pytest.param(8 * HOUR - 1, False, id="within"),
        pytest.param(8 * HOUR, True, id="at-the-end"),
        pytest.param(-60.0, False, id="made-by-a-clock-ahead"),
        pytest.param(9e15, True, id="a-token-of-the-beginning-of-time"),
    ],
)
def test_the_window_begins_when_the_page_was_made(age: float, refused: bool) -> None:
    """Expiry minus lifetime says when that was."""
    denied = policy().too_late(int(NOW + 300), NOW + age)
    assert (denied is not None) is refused
    if denied is not None:
        assert (denied.status, denied.reason) == (401, "reconnect-too-late")
        assert "[sessions] reconnect" in denied.setting


@pytest.mark.parametrize("key", [pytest.param(KEY, id="present"), pytest.param(OLD, id="previous")])
def test_a_new_token_is_signed_with_the_key_of_the_old_one(key: bytes) -> None:
    """The session's worker has been running since, so it has that key; and the page's data are still in the token."""
    session_id = generate_session_id(key, signed=True)
    token = generate_jwt_token(session_id, key, signed=True, extra_payload={"cookies": {"a": "b"}}, expiration=-1000)
    again = policy(KEY, OLD).renew(token, NOW)
    assert check_token_signature(again, key, signed=True)
    payload = get_token_payload(again)
    assert payload["cookies"] == {"a": "b"}
    assert payload["session_expiry"] == int(NOW) + 330
    assert read_claims(again).session_id == session_id


def test_unsigned_tokens_stay_unsigned() -> None:
    """Bokeh's own form of them: no dot."""
    token = generate_jwt_token(generate_session_id(None, signed=False), None, signed=False, expiration=-1)
    assert "." not in policy().renew(token, NOW)


def test_what_is_no_token_is_not_made_one() -> None:
    """The caller has read it before; a second reader does not take that on trust."""
    with pytest.raises(TokenError):
        policy().renew("e30", NOW)


def test_a_session_that_is_gone_is_refused_with_the_setting() -> None:
    """401 and no new session under the old name."""
    denied = gone("apps", 900.4, 60.0)
    assert (denied.status, denied.reason) == (401, "session-gone")
    assert "900 s ago" in denied.detail
    assert denied.setting == '[pool.apps] unused_session_lifetime = "1 min"'
