"""Claims of a token whose signature is good, as a table."""

from __future__ import annotations

from typing import Any

import pytest

from bokeh_gateway.policy.identity import Identity
from bokeh_gateway.policy.jwt_claims import ClaimRules
from bokeh_gateway.policy.verdict import Deny

NOW = 1_800_000_000
RULES = ClaimRules(
    method="jwt",
    issuers=frozenset({"https://sso.test"}),
    audiences=frozenset({"dash", "other"}),
    leeway=10.0,
    require=("jti",),
    headers=(("X-Email", "email"), ("X-Roles", "roles"), ("X-More", "more")),
)
GOOD: dict[str, Any] = {
    "iss": "https://sso.test",
    "aud": "dash",
    "sub": "ada",
    "exp": NOW + 60,
    "jti": "1",
}


def check(**changes: Any) -> Identity | Deny:
    whole = {**GOOD, **changes}
    return RULES.check({name: value for name, value in whole.items() if value is not ...}, NOW)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"exp": ...}, "token-exp-missing", id="no-exp"),
        pytest.param({"exp": None}, "token-exp-missing", id="null-exp"),
        pytest.param({"exp": str(NOW + 60)}, "token-time", id="text-exp"),
        pytest.param({"exp": NOW + 60.5}, "token-time", id="float-exp"),
        pytest.param({"exp": float("inf")}, "token-time", id="infinite-exp"),
        pytest.param({"exp": True}, "token-time", id="true-exp"),
        pytest.param({"exp": 0}, "token-time", id="zero-exp"),
        pytest.param({"exp": -5}, "token-time", id="negative-exp"),
        pytest.param({"exp": 2**63}, "token-time", id="2-63"),
        pytest.param({"exp": NOW - 10}, "token-expired", id="expired-at-the-leeway"),
        pytest.param({"nbf": NOW + 11}, "token-not-yet", id="nbf"),
        pytest.param({"iat": NOW + 11}, "token-not-yet", id="iat"),
        pytest.param({"nbf": "soon"}, "token-time", id="text-nbf"),
        pytest.param({"iss": "https://evil.test"}, "token-issuer", id="iss"),
        pytest.param({"iss": ["https://sso.test"]}, "token-issuer", id="iss-list"),
        pytest.param({"iss": ...}, "token-issuer", id="no-iss"),
        pytest.param({"aud": "Dash"}, "token-audience", id="aud-case"),
        pytest.param({"aud": []}, "token-audience", id="aud-empty"),
        pytest.param({"aud": {"dash": 1}}, "token-audience", id="aud-object"),
        pytest.param({"aud": ...}, "token-audience", id="no-aud"),
        pytest.param({"jti": ...}, "token-claim-missing", id="required"),
        pytest.param({"jti": ""}, "token-claim-missing", id="required-empty"),
        pytest.param({"sub": ...}, "token-user", id="no-user"),
        pytest.param({"sub": 5}, "token-user", id="user-number"),
        pytest.param({"sub": "a\r\nX: y"}, "token-user", id="user-line-end"),
        pytest.param({"sub": "x" * 300}, "token-user", id="user-long"),
    ],
)
def test_a_token_is_refused(changes: dict[str, Any], reason: str) -> None:
    found = check(**changes)
    assert isinstance(found, Deny)
    assert (found.status, found.reason) == (401, reason)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"exp": NOW - 9}, id="within-the-leeway"),
        pytest.param({"nbf": NOW + 10, "iat": NOW + 10}, id="nbf-within-the-leeway"),
        pytest.param({"aud": ["x", "other"]}, id="one-of-several-aud"),
    ],
)
def test_a_token_is_good(changes: dict[str, Any]) -> None:
    assert isinstance(check(**changes), Identity)


@pytest.mark.parametrize("payload", [None, [], "text", 5])
def test_a_payload_is_an_object(payload: object) -> None:
    assert isinstance(RULES.check(payload, NOW), Deny)


def test_without_audiences_a_token_for_somebody_else_is_refused() -> None:
    rules = ClaimRules(method="jwt")
    assert isinstance(rules.check({"exp": NOW + 1, "sub": "a"}, NOW), Identity)
    assert isinstance(rules.check({"exp": NOW + 1, "sub": "a", "aud": "dash"}, NOW), Deny)


def test_claims_become_headers() -> None:
    found = check(email="a@b", roles=["x", "y"], more={"a": 1}, groups="one group", scope="r w")
    assert isinstance(found, Identity)
    assert found.headers == (("X-Email", "a@b"), ("X-Roles", "x,y"), ("X-More", '{"a":1}'))
    assert (found.groups, found.scopes, found.expires) == ({"one group"}, {"r", "w"}, NOW + 60)
    assert b"".join(found.lines).startswith(b"X-Forwarded-User: ada\r\nX-Forwarded-Groups: one group\r\n")


def test_a_claim_with_a_line_end_becomes_no_header() -> None:
    found = check(email="a\r\nX-Evil: 1")
    assert isinstance(found, Identity)
    assert b"Evil" not in b"".join(found.lines)
