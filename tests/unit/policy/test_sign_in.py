"""Credentials, logins, returns, routes and expiries, as tables."""

from __future__ import annotations

import pytest

from bokeh_gateway.http.head import RequestHead
from bokeh_gateway.policy.credentials import (
    argument,
    authorization,
    basic,
    cookie,
    cookie_pattern,
    without_argument,
    without_cookies,
    without_matching_cookies,
)
from bokeh_gateway.policy.expiries import Expiries
from bokeh_gateway.policy.identity import Identity, Requirement, without
from bokeh_gateway.policy.login import is_cross_site, is_foreign_frame, may_redirect
from bokeh_gateway.policy.return_to import safe_path
from bokeh_gateway.policy.verdict import Deny


def head(target: str = "/", *lines: tuple[str, str], method: str = "GET") -> RequestHead:
    pairs = [(b"Host", b"dash.test"), *((name.encode(), value.encode()) for name, value in lines)]
    return RequestHead(method.encode(), target.encode(), 1, pairs)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param("/app?x=1#y", "/app?x=1#y", id="path"),
        pytest.param("/", "/", id="root"),
        pytest.param("", "/d", id="empty"),
        pytest.param("app", "/d", id="relative"),
        pytest.param("//evil.test", "/d", id="scheme-relative"),
        pytest.param("///evil.test", "/d", id="three-slashes"),
        pytest.param("/\\evil.test", "/d", id="slash-backslash"),
        pytest.param("\\\\evil.test", "/d", id="backslashes"),
        pytest.param("/x\\y", "/d", id="backslash-inside"),
        pytest.param("https:evil.test", "/d", id="scheme-without-slashes"),
        pytest.param("https://evil.test/", "/d", id="absolute"),
        pytest.param("javascript:alert(1)", "/d", id="script"),
        pytest.param("/\t/evil.test", "/d", id="tab"),
        pytest.param("/x\r\nSet-Cookie: a=b", "/d", id="line-end"),
        pytest.param("/x\x00", "/d", id="nul"),
        pytest.param(" /x", "/d", id="space-before"),
        pytest.param("/é", "/d", id="not-ascii"),
        pytest.param("/" + "x" * 5000, "/d", id="long"),
    ],
)
def test_a_return_is_a_path_of_this_host(target: str, expected: str) -> None:
    assert safe_path(target, "/d") == expected


@pytest.mark.parametrize(
    ("request_head", "expected"),
    [
        pytest.param(head("/app"), True, id="page"),
        pytest.param(head("/app", ("Accept", "text/html,*/*;q=0.8")), True, id="browser"),
        pytest.param(head("/app", ("Accept", "*/*")), True, id="curl"),
        pytest.param(head("/app", ("Sec-Fetch-Mode", "navigate")), True, id="navigation"),
        pytest.param(head("/app", ("Sec-Fetch-Mode", "cors"), ("Accept", "text/html")), False, id="fetch"),
        pytest.param(head("/app", ("Accept", "application/json")), False, id="json"),
        pytest.param(head("/app", ("X-Requested-With", "XMLHttpRequest")), False, id="xhr"),
        pytest.param(head("/app/autoload.js"), False, id="autoload"),
        pytest.param(head("/app/ws", ("Connection", "upgrade"), ("Upgrade", "websocket")), False, id="websocket"),
        pytest.param(head("/app", method="POST"), False, id="post"),
        pytest.param(head("/app", method="OPTIONS"), False, id="preflight"),
    ],
)
def test_only_pages_are_led_to_a_login(request_head: RequestHead, expected: bool) -> None:
    assert may_redirect(request_head) is expected


@pytest.mark.parametrize(
    ("origins", "site", "expected"),
    [
        pytest.param((), None, False, id="no-browser"),
        pytest.param((b"https://dash.test",), None, False, id="own"),
        pytest.param((b"https://DASH.test:443",), b"same-origin", False, id="own-with-port"),
        pytest.param((b"https://evil.test",), None, True, id="other"),
        pytest.param((b"https://dash.test.evil.test",), None, True, id="suffix"),
        pytest.param((b"null",), None, True, id="opaque"),
        pytest.param((b"https://dash.test", b"https://evil.test"), None, True, id="two"),
        pytest.param((), b"cross-site", True, id="fetch-metadata"),
        pytest.param((), b"same-site", True, id="sibling"),
        pytest.param((), b"none", False, id="typed"),
        pytest.param((b"http://10.0.0.1:8080",), None, False, id="by-host"),
        pytest.param((b"https://public.test",), b"same-origin", False, id="a-proxy-in-front-changes-host"),
        pytest.param((b"https://dash.test",), b"same-site", True, id="sibling-with-our-name"),
    ],
)
def test_a_form_of_another_site(origins: tuple[bytes, ...], site: bytes | None, expected: bool) -> None:
    assert is_cross_site(origins, site, (b"10.0.0.1:8080", b"dash.test")) is expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([], None, id="none"),
        pytest.param([("Authorization", "Bearer abc")], b"abc", id="bearer"),
        pytest.param([("authorization", "bEARER  abc ")], b"abc", id="case-and-spaces"),
        pytest.param([("Authorization", "Basic abc")], None, id="other-scheme"),
        pytest.param([("Authorization", "Bearer")], None, id="empty"),
        pytest.param([("Authorization", "Bearer a"), ("Authorization", "Bearer a")], "auth-twice", id="twice"),
    ],
)
def test_authorization(lines: list[tuple[str, str]], expected: bytes | str | None) -> None:
    found = authorization(head("/", *lines), b"bearer")
    assert (found.reason if isinstance(found, Deny) else found) == expected


@pytest.mark.parametrize(
    ("target", "expected", "rest"),
    [
        pytest.param("/a?x=1", None, b"/a?x=1", id="none"),
        pytest.param("/a?t=abc", b"abc", b"/a", id="alone"),
        pytest.param("/a?x=1&t=a%2Eb&y", b"a.b", b"/a?x=1&y", id="among-others"),
        pytest.param("/a?%74=abc&x=1", b"abc", b"/a?x=1", id="encoded-name"),
        pytest.param("/a?t=1&t=2", "auth-twice", b"/a", id="twice"),
        pytest.param("/a?t=1&%74=2", "auth-twice", b"/a", id="twice-encoded"),
        pytest.param("/a?at=1", None, b"/a?at=1", id="other-name"),
    ],
)
def test_an_argument(target: str, expected: bytes | str | None, rest: bytes) -> None:
    found = argument(head(target), b"t")
    assert (found.reason if isinstance(found, Deny) else found) == expected
    assert without_argument(target.encode(), b"t") == rest


@pytest.mark.parametrize(
    ("credentials", "expected"),
    [
        pytest.param(b"YWRhOmNvcnJlY3Q=", ("ada", "correct"), id="good"),
        pytest.param(b"YWRhOmE6Yg==", ("ada", "a:b"), id="colon-in-the-password"),
        pytest.param(b"YWRh", None, id="no-colon"),
        pytest.param(b"OmE=", None, id="no-name"),
        pytest.param(b"***", None, id="no-base64"),
        pytest.param(b"/////w==", None, id="no-utf-8"),
        pytest.param(b"YQo6Yg==", None, id="line-end-in-the-name"),
    ],
)
def test_basic(credentials: bytes, expected: tuple[str, str] | None) -> None:
    assert basic(credentials) == expected


def test_cookies() -> None:
    request = head("/", ("Cookie", 'a=1; b="2"; own=x; own.1=y'), ("Cookie", "own=z"), ("X", "own=1"))
    assert (cookie(request, b"b"), cookie(request, b"own"), cookie(request, b"none")) == (b"2", b"x", None)
    kept = without_cookies(request.plain, (b"a",), (b"own",))
    assert b"".join(kept) == b'Cookie: b="2"\r\nX: own=1\r\n'


def test_headers_are_taken_out_however_they_are_spelled() -> None:
    request = head("/", ("x-TEAM", "1"), ("X-Other", "2"), ("X-Team", "3"))
    assert b"".join(without(request.plain, frozenset({b"x-team"}))) == b"X-Other: 2\r\n"


@pytest.mark.parametrize(
    ("requirement", "reason"),
    [
        pytest.param(Requirement(("jwt",)), None, id="anybody"),
        pytest.param(Requirement(("jwt",), users=frozenset({"ada"})), None, id="user"),
        pytest.param(Requirement(("jwt",), users=frozenset({"Ada"})), "auth-user", id="user-case"),
        pytest.param(Requirement(("jwt",), groups=frozenset({"a", "z"})), None, id="one-group"),
        pytest.param(Requirement(("jwt",), groups=frozenset({"z"})), "auth-group", id="no-group"),
        pytest.param(Requirement(("jwt",), scopes=frozenset({"r", "w"})), None, id="all-scopes"),
        pytest.param(Requirement(("jwt",), scopes=frozenset({"r", "x"})), "auth-scope", id="a-scope-missing"),
    ],
)
def test_a_route_lets_in_whom_it_names(requirement: Requirement, reason: str | None) -> None:
    ada = Identity("ada", "jwt", frozenset({"a", "b"}), frozenset({"r", "w"}))
    found = requirement.check(ada)
    assert (found.reason if found else None) == reason


def test_websockets_end_with_the_newest_credential() -> None:
    expiries: Expiries[str] = Expiries()
    expiries.opened("one", "ada", 100.0)
    expiries.opened("two", "ada", 90.0)
    expiries.opened("three", "bob", 50.0)
    assert expiries.due(49.9) == []
    assert expiries.due(50.0) == ["three"]
    expiries.seen("ada", 120.0)
    expiries.seen("ada", 80.0)
    expiries.seen("nobody", 500.0)
    assert expiries.due(119.0) == []
    expiries.closed("one", "ada")
    assert expiries.due(120.0) == ["two"]
    assert expiries.due(1e9) == []


def test_a_sign_out_ends_all_websockets_of_one() -> None:
    expiries: Expiries[str] = Expiries()
    expiries.opened("one", "ada", 100.0)
    expiries.opened("two", "ada", 100.0)
    assert sorted(expiries.signed_out("ada")) == ["one", "two"]
    assert expiries.signed_out("ada") == []
    expiries.closed("one", "ada")


@pytest.mark.parametrize(
    ("site", "destination", "expected"),
    [
        pytest.param("cross-site", "iframe", True, id="frame-of-another-site"),
        pytest.param("same-origin", "iframe", False, id="own-frame"),
        pytest.param("cross-site", "document", False, id="link-from-another-site"),
    ],
)
def test_a_frame_of_another_sites_page_keeps_no_cookies(site: str, destination: str, expected: bool) -> None:
    request = head("/app", ("Sec-Fetch-Site", site), ("Sec-Fetch-Dest", destination))
    assert is_foreign_frame(request) is expected


@pytest.mark.parametrize(
    ("patterns", "kept"),
    [
        pytest.param(["_ga*"], b"sid=1; x_ga=2; _GA=3", id="beginning"),
        pytest.param(["_ga"], b"_ga_X1=b; sid=1; x_ga=2; _GA=3", id="exact"),
        pytest.param(["*"], None, id="all"),
        pytest.param(["*_ga"], b"_ga_X1=b; sid=1; _GA=3", id="end"),
        pytest.param(["_ga.*"], b"_ga=a; _ga_X1=b; sid=1; x_ga=2; _GA=3", id="a-dot-is-a-dot"),
    ],
)
def test_cookies_that_match_are_left_out(patterns: list[str], kept: bytes | None) -> None:
    pattern = cookie_pattern(patterns)
    assert pattern is not None
    value = b"_ga=a; _ga_X1=b; sid=1; x_ga=2; _GA=3"
    plain = [b"Accept", b": ", b"*/*", b"\r\n", b"Cookie", b": ", value, b"\r\n"]
    found = without_matching_cookies(plain, pattern)
    assert found[:4] == plain[:4]
    assert (found[6] if len(found) > 4 else None) == kept


def test_lines_without_a_matching_cookie_stay_the_same_list() -> None:
    """So that what was made of them for a connection stays good."""
    plain = [b"Cookie", b": ", b"sid=1", b"\r\n"]
    pattern = cookie_pattern(["_ga*"])
    assert pattern is not None
    assert without_matching_cookies(plain, pattern) is plain
    assert cookie_pattern([]) is None
