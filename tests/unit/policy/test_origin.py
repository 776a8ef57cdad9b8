"""Which origins may open a WebSocket: the table of patterns, the gateway's own names, and every trick with spelling."""

from __future__ import annotations

import pytest
from bokeh.server.util import check_allowlist
from hypothesis import given
from hypothesis import strategies as st

from bokeh_gateway.policy.origin import OriginPolicy, is_loopback, parse_origin, parse_pattern
from bokeh_gateway.policy.verdict import ALLOW, Deny

ELSEWHERE = "gateway.invalid"


def reason(
    origins: list[str],
    allow: list[str] | None = None,
    *,
    own: tuple[str, ...] = (),
    host: str = ELSEWHERE,
    secure: bool = False,
    required: bool = False,
) -> str | None:
    """The slug of the refusal, or None when it is let in."""
    verdict = OriginPolicy(allow or [], required, own).check(origins, host, secure)
    return verdict.reason if verdict else None


@pytest.mark.parametrize(
    ("allow", "origin", "admitted"),
    [
        pytest.param("acme.com", "https://acme.com", True, id="no-port-https"),
        pytest.param("acme.com", "http://acme.com", True, id="no-port-http"),
        pytest.param("acme.com", "https://acme.com:443", True, id="default-port-written"),
        pytest.param("acme.com", "http://acme.com:443", False, id="the-other-scheme's-port"),
        pytest.param("acme.com", "HTTPS://ACME.com", True, id="case"),
        pytest.param("ACME.com", "https://acme.com", True, id="case-of-pattern"),
        pytest.param("https://acme.com", "https://acme.com:443", True, id="scheme-and-its-port-are-one"),
        pytest.param("https://acme.com:443", "https://acme.com", True, id="scheme-and-its-port-are-one-reversed"),
        pytest.param("https://acme.com", "http://acme.com", False, id="scheme-listed-other-seen"),
        pytest.param("acme.com:443", "https://acme.com", True, id="port-listed-scheme-seen"),
        pytest.param("acme.com:80", "https://acme.com", False, id="port-80-is-not-https"),
        pytest.param("app.example.com", "https://app.example.com:8443", False, id="OR05-no-port"),
        pytest.param("app.example.com:*", "https://app.example.com:8443", True, id="OR05-any-port"),
        pytest.param("*:443", "https://app.example.com:8443", False, id="OR05-other-port"),
        pytest.param("*:8443", "https://app.example.com:8443", True, id="OR05-any-host-that-port"),
        pytest.param("*", "https://app.example.com:8443", True, id="anything"),
        pytest.param("*:*", "http://x", True, id="anything-in-full"),
        pytest.param("https://*", "http://x", False, id="any-https"),
        pytest.param("https://*", "https://x.y.z", True, id="any-https-many-labels"),
        pytest.param("*.example.com", "https://a.example.com", True, id="OR08-one-label"),
        pytest.param("*.example.com", "https://example.com", False, id="OR08-no-label"),
        pytest.param("*.example.com", "https://a.b.example.com", False, id="OR08-two-labels"),
        pytest.param("*.example.com", "https://evil-example.com", False, id="OR08-suffix"),
        pytest.param("*.acme.com:8443", "https://a.acme.com:8443", True, id="wildcard-and-port"),
        pytest.param("*.acme.com:8443", "https://a.acme.com", False, id="wildcard-and-other-port"),
        pytest.param("192.168.*.*", "http://192.168.3.4", True, id="octets"),
        pytest.param("192.168.*.*", "http://192.169.3.4", False, id="other-octets"),
        pytest.param("example.com", "http://example.com.evil.net", False, id="OR-06-longer"),
        pytest.param("example.com", "http://evilexample.com", False, id="OR-06-prefix"),
        pytest.param("example.com", "http://example.com:81", False, id="OR-06-port"),
        pytest.param("site:8000", "http://site:8000", True, id="OR-11-embedding-page"),
        pytest.param("münchen.example", "https://xn--mnchen-3ya.example", True, id="international-name"),
        pytest.param("example.com", "https://xn--xample-9uf.com", False, id="OR06-homograph"),
        pytest.param("localhost:8080", "http://127.0.0.1:8080", True, id="OR-03-loopback-group"),
        pytest.param("127.0.0.1:8080", "http://localhost:8080", True, id="loopback-reversed"),
        pytest.param("localhost:8080", "http://[::1]:8080", True, id="loopback-ipv6"),
        pytest.param("localhost:8080", "http://127.9.9.9:8080", True, id="loopback-net"),
        pytest.param("localhost:8080", "http://app.localhost:8080", True, id="loopback-below"),
        pytest.param("*.localhost:8080", "http://localhost:8080", True, id="loopback-wildcard-is-the-group"),
        pytest.param("localhost:8080", "http://127.0.0.1:8081", False, id="loopback-other-port"),
        pytest.param("localhost", "http://localhost.evil.com", False, id="loopback-prefix"),
        pytest.param("localhost", "http://notlocalhost", False, id="loopback-suffix"),
        pytest.param("localhost", "http://128.0.0.1", False, id="not-loopback"),
        pytest.param("[::1]:5006", "http://[::1]:5006", True, id="OR07-ipv6"),
        pytest.param("[0:0::1]:5006", "http://[::1]:5006", True, id="OR07-ipv6-spelling"),
        pytest.param("[::ffff:127.0.0.1]:80", "http://[::ffff:127.0.0.1]:80", True, id="OR07-mapped"),
        pytest.param("[2001:db8::1]", "http://[2001:DB8::1]", True, id="ipv6-case"),
        pytest.param("[2001:db8::1]", "http://[2001:db8::2]", False, id="ipv6-other"),
        pytest.param("acme.com", "null", False, id="OR03-null-with-a-name"),
        pytest.param("*", "null", False, id="OR03-null-with-star"),
        pytest.param("null", "null", True, id="OR03-null-listed"),
        pytest.param("null", "http://null", False, id="a-host-called-null"),
        pytest.param("http://null", "null", False, id="a-host-called-null-listed"),
        pytest.param("localhost", "capacitor://localhost", True, id="other-scheme-as-in-bokeh"),
        pytest.param("*", "vscode-webview://1a2b", True, id="other-scheme-anything"),
        pytest.param("https://x", "vscode-webview://x", False, id="other-scheme-not-https"),
    ],
)
def test_a_pattern_admits_an_origin(allow: str, origin: str, admitted: bool) -> None:
    """Exact in host and port; `*` is one whole label, the port, or everything."""
    assert reason([origin], [allow]) == (None if admitted else "origin-not-listed")


@pytest.mark.parametrize(
    "origin",
    [
        pytest.param("", id="OR02-empty"),
        pytest.param("https://acme.com, https://evil.com", id="OR02-comma"),
        pytest.param("https://acme.com https://acme.com", id="OR02-space-separated"),
        pytest.param("https://acme.com@evil.com", id="OR06-user"),
        pytest.param("https://evil.com#acme.com", id="OR06-fragment"),
        pytest.param("https://evil.com?acme.com", id="query"),
        pytest.param("https://evil.com/acme.com", id="OR06-path"),
        pytest.param("https://acme.com/", id="slash"),
        pytest.param("https://acme.com%2eevil.com", id="OR06-percent"),
        pytest.param("https://acme.com.", id="OR06-trailing-dot"),
        pytest.param("https://.acme.com", id="leading-dot"),
        pytest.param("https://acme..com", id="empty-label"),
        pytest.param("https://acme.com\t", id="OR06-tab"),
        pytest.param(" https://acme.com", id="OR06-space"),
        pytest.param("https://acme.com\n", id="newline"),
        pytest.param("https://acme.com\0", id="nul"),
        pytest.param("https://аcme.com", id="OR06-cyrillic"),
        pytest.param("https://acme.com\u212a", id="kelvin-sign-lowers-to-k"),
        pytest.param("https://acme.com\\evil.com", id="backslash"),
        pytest.param("https://acme.com:", id="empty-port"),
        pytest.param("https://acme.com:0443", id="port-with-zero"),
        pytest.param("https://acme.com:0", id="port-zero"),
        pytest.param("https://acme.com:65536", id="port-too-high"),
        pytest.param("https://acme.com:443:443", id="two-ports"),
        pytest.param("https:acme.com", id="no-slashes"),
        pytest.param("//acme.com", id="no-scheme"),
        pytest.param("acme.com", id="bare-host"),
        pytest.param("https://", id="no-host"),
        pytest.param("file://", id="file"),
        pytest.param("NULL", id="null-in-capitals"),
        pytest.param("https://*", id="star"),
        pytest.param("http://127.1", id="short-ipv4"),
        pytest.param("http://0x7f.0.0.1.1", id="five-octets"),
        pytest.param("http://127.0.0.256", id="bad-octet"),
        pytest.param("http://2130706433", id="ipv4-as-a-number"),
        pytest.param("http://[::1", id="open-bracket"),
        pytest.param("http://[:::1]", id="bad-ipv6"),
        pytest.param("http://[fe80::1%25eth0]", id="zone"),
        pytest.param("http://[::1]x", id="behind-the-bracket"),
        pytest.param("http://::1", id="no-brackets"),
        pytest.param("https://" + "a" * 64 + ".com", id="long-label"),
        pytest.param("https://" + "a." * 130 + "com", id="long-name"),
    ],
)
def test_what_no_browser_sends_is_invalid(origin: str) -> None:
    """OR06, OR07: refused even where everything is allowed; never an exception."""
    assert reason([origin], ["*", "acme.com", "null"]) == "origin-invalid"


def test_several_origin_lines_are_invalid() -> None:
    """OR02: even when each would be let in."""
    assert reason(["https://acme.com", "https://acme.com"], ["acme.com"]) == "origin-invalid"


def test_no_origin_is_no_browser() -> None:
    """`pull_session` sends none; `[origins] required` refuses it and says so."""
    assert reason([]) is None
    verdict = OriginPolicy([], True, ()).check([], ELSEWHERE, False)
    assert verdict is not None
    assert (verdict.status, verdict.reason, verdict.setting) == (403, "origin-missing", "[origins] required = false")


OWN = ("dash.example.com", "*.wild.example", "https://public.example:8443")


@pytest.mark.parametrize(
    ("origin", "host", "secure", "admitted"),
    [
        pytest.param("https://dash.example.com", "dash.example.com", True, True, id="own-name-tls"),
        pytest.param("http://dash.example.com", "dash.example.com", False, True, id="own-name-plain"),
        pytest.param("https://dash.example.com", "dash.example.com", False, True, id="tls-ended-by-an-outer-proxy"),
        pytest.param("https://dash.example.com", "dash.example.com:443", False, True, id="outer-proxy-writes-the-port"),
        pytest.param("http://dash.example.com", "dash.example.com", True, False, id="a-plain-page-into-tls"),
        pytest.param("https://dash.example.com:8443", "dash.example.com:8443", True, True, id="own-port"),
        pytest.param("https://dash.example.com:8443", "dash.example.com", True, False, id="other-port"),
        pytest.param("https://dash.example.com", "DASH.example.com", True, True, id="case-of-host"),
        pytest.param("https://dash.example.com", "dash.example.com:", True, True, id="empty-port-is-none"),
        pytest.param("https://other.example.com", "dash.example.com", True, False, id="OR-01-another-origin"),
        pytest.param("https://evil.example", "evil.example", True, False, id="dns-rebinding"),
        pytest.param("http://evil.example:8080", "evil.example:8080", False, False, id="dns-rebinding-port"),
        pytest.param("https://a.wild.example", "a.wild.example", True, True, id="wildcard-certificate"),
        pytest.param("https://a.b.wild.example", "a.b.wild.example", True, False, id="wildcard-is-one-label"),
        pytest.param("https://wild.example", "wild.example", True, False, id="wildcard-is-a-label"),
        pytest.param("http://localhost:8080", "localhost:8080", False, True, id="loopback"),
        pytest.param("http://app.localhost:8080", "app.localhost:8080", False, True, id="below-localhost"),
        pytest.param("http://localhost:8080", "127.0.0.1:8080", False, False, id="loopback-names-still-equal"),
        pytest.param("http://localhost:2222", "localhost:2222", False, True, id="ssh-tunnel"),
        pytest.param("http://10.0.0.5:5006", "10.0.0.5:5006", False, True, id="ipv4"),
        pytest.param("http://[::1]:5006", "[::1]:5006", False, True, id="OR07-ipv6"),
        pytest.param("http://[2001:db8::1]", "[2001:DB8:0::1]", False, True, id="ipv6-spelling"),
        pytest.param("http://10.0.0.5", "10.0.0.6", False, False, id="other-ipv4"),
        pytest.param("capacitor://localhost", "localhost", False, False, id="other-scheme"),
        pytest.param("https://public.example:8443", "backend:9000", False, True, id="public-url-whatever-host"),
        pytest.param("http://public.example:8443", "backend:9000", False, False, id="public-url-has-a-scheme"),
        pytest.param("http://x", "", False, False, id="no-host"),
        pytest.param("http://x", "x@y", False, False, id="odd-host"),
        pytest.param("http://localhost", "localhost.", False, False, id="host-with-trailing-dot"),
        pytest.param("http://x", "\u212a", False, False, id="host-not-ascii"),
    ],
)
def test_the_own_host_is_admitted_when_the_host_proves_something(
    origin: str, host: str, secure: bool, admitted: bool
) -> None:
    """D5: an IP literal, a loopback name, or a name that the gateway owns; anything else can be pointed at us."""
    expected = None if admitted else "origin-not-listed"
    assert reason([origin], [], own=OWN, host=host, secure=secure) == expected


def test_odd_names_in_a_certificate_are_passed_over() -> None:
    """A certificate is nobody's configuration of origins; a lone `*` would own every name."""
    odd = ("foo*.example", "*", "", "a b", "ok.example")
    assert reason(["https://ok.example"], own=odd, host="ok.example", secure=True) is None
    assert reason(["https://evil.example"], own=odd, host="evil.example", secure=True) == "origin-not-listed"


@pytest.mark.parametrize(
    ("origin", "setting"),
    [
        pytest.param("https://acme.com:8443", '[origins] allow = ["acme.com:8443"]', id="port"),
        pytest.param("https://acme.com", '[origins] allow = ["acme.com"]', id="default-port"),
        pytest.param("http://acme.com:443", '[origins] allow = ["acme.com:443"]', id="odd-port"),
        pytest.param("http://[::2]:5006", '[origins] allow = ["[::2]:5006"]', id="ipv6"),
        pytest.param("vscode-webview://1a2b", '[origins] allow = ["1a2b"]', id="other-scheme"),
        pytest.param("null", '[origins] allow = ["null"]', id="null"),
    ],
)
def test_a_refusal_says_what_would_let_it_in(origin: str, setting: str) -> None:
    """OR-04: the origin seen, what is allowed, and a line that works when pasted."""
    verdict = OriginPolicy(["other.example"], False, ()).check([origin], ELSEWHERE, True)
    assert verdict is not None
    assert (verdict.status, verdict.reason, verdict.setting) == (403, "origin-not-listed", setting)
    assert repr(origin) in verdict.detail
    assert "other.example" in verdict.detail
    pasted = setting.partition('["')[2].removesuffix('"]')
    assert OriginPolicy([pasted], False, ()).check([origin], ELSEWHERE, True) is ALLOW


@pytest.mark.parametrize("origin", ["x\r\nSet-Cookie: a=b", "\x1b[2J", "é" * 1000, "https://" + "a" * 5000])
def test_a_refusal_is_one_short_printable_line(origin: str) -> None:
    """Whatever was sent, it can stand in a log."""
    verdict = OriginPolicy([], False, ()).check([origin], ELSEWHERE, True)
    assert isinstance(verdict, Deny)
    assert verdict.detail.isprintable()
    assert verdict.detail.isascii()
    assert len(verdict.detail) < 400


def test_a_long_list_is_not_repeated_whole() -> None:
    """Ten patterns, and the number of the others."""
    policy = OriginPolicy([f"h{n}.example" for n in range(25)], False, ())
    verdict = policy.check(["https://x.example"], ELSEWHERE, True)
    assert verdict is not None
    assert "h9.example and 15 more" in verdict.detail


def test_patterns_are_checked_when_the_policy_is_made() -> None:
    """The configuration's check is the same parser."""
    with pytest.raises(ValueError, match="origin pattern"):
        OriginPolicy(["ac*me.com"], False, ())
    assert parse_pattern("acme.com").host == "acme.com"


LABELS = st.sampled_from(["a", "b", "acme", "com", "x-y", "9a"])
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
PATTERNS = st.lists(LABELS | st.just("*"), min_size=1, max_size=4).map(".".join)
PORTS = st.sampled_from(["", ":80", ":8080", ":*"])


@given(NAMES, st.sampled_from(["", ":80", ":8080"]), PATTERNS, PORTS)
def test_for_http_it_is_bokeh_s_own_match(name: str, port: str, pattern: str, pattern_port: str) -> None:
    """`bokeh serve --allow-websocket-origin` is the oracle; it only ever thinks of port 80."""
    listed = pattern + pattern_port
    # As `create_hosts_allowlist` fills it in; that one refuses `:*`, which `match_host` knows.
    filled = listed if pattern_port or listed == "*" else f"{listed}:80"
    expected = check_allowlist(name + port, [filled])
    assert (reason([f"http://{name}{port}"], [listed]) is None) is expected


@given(st.text(max_size=60) | NAMES.map("https://".__add__), st.text(max_size=40) | NAMES)
def test_no_text_raises(origin: str, host: str) -> None:
    """Fuzz: a verdict for everything, and never an exception."""
    OriginPolicy(["*.acme.com", "localhost"], True, ("acme.com",)).check([origin], host, True)
    parse_origin(origin)
    is_loopback(host)
