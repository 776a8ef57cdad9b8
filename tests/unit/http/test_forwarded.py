"""Tests of http/forwarded.py."""

from __future__ import annotations

import pytest

from bokeh_gateway.http.forwarded import (
    STRIPPED,
    TrustedProxies,
    constant_lines,
    host_line,
    may_pass,
    normalise,
    parse_network,
    resolve,
    split_host,
    valid_host,
)

PROXIES = TrustedProxies(["10.0.0.0/8", "fd00::/8", "unix:"])


def lines(block: bytes) -> dict[str, str]:
    """Header lines as a mapping."""
    assert block.endswith(b"\r\n")
    return dict(line.split(": ", 1) for line in block.decode("ascii").splitlines())


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        pytest.param("192.0.2.7", "192.0.2.7", id="ipv4"),
        pytest.param("::ffff:192.0.2.7", "192.0.2.7", id="ipv4-mapped"),
        pytest.param("::ffff:c000:207", "192.0.2.7", id="ipv4-mapped-hex"),
        pytest.param("2001:DB8:0::1", "2001:db8::1", id="one-form"),
        pytest.param("fe80::1%eth0", "fe80::1", id="scope"),
        pytest.param("", "unix", id="unix"),
        pytest.param("/run/x.sock", "unix", id="unix-path"),
        pytest.param("\0abstract", "unix", id="unix-abstract"),
    ],
)
def test_peer_addresses_have_one_form(peer: str, expected: str) -> None:
    """Logs and trust compare text."""
    assert normalise(peer) == expected


def test_xf01_an_untrusted_peer_is_the_client() -> None:
    """Whatever its headers say."""
    pairs = [
        (b"X-Forwarded-For", b"1.2.3.4"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Host", b"evil.example"),
        (b"X-Real-IP", b"1.2.3.4"),
    ]
    seen = resolve(pairs, "192.0.2.7", "http", 8080, b"h.example", PROXIES)
    assert (seen.client, seen.scheme, seen.host) == ("192.0.2.7", "http", b"h.example")
    assert lines(seen.lines) == {
        "X-Forwarded-For": "192.0.2.7",
        "X-Real-IP": "192.0.2.7",
        "X-Forwarded-Proto": "http",
        "X-Scheme": "http",
        "X-Forwarded-Port": "8080",
        "X-Forwarded-Host": "h.example",
    }
    assert seen.lines == constant_lines("192.0.2.7", "http", 8080) + host_line(b"h.example")


@pytest.mark.parametrize(
    "name",
    [
        *sorted(STRIPPED),
        b"x_forwarded_for",
        b"x-forwarded_for",
        b"x_real_ip",
        b"anything_else",
    ],
)
def test_xf01_xf03_names_that_a_client_may_not_send(name: bytes) -> None:
    """Names with an underscore become dashed ones behind CGI and WSGI."""
    assert not may_pass(name)


@pytest.mark.parametrize("name", [b"host", b"cookie", b"bokeh-session-id", b"x-requested-with", b"via"])
def test_xf04_names_that_pass(name: bytes) -> None:
    """A session id from outside is checked elsewhere, and sent on."""
    assert may_pass(name)


def test_a_trusted_proxy_may_name_user_and_prefix() -> None:
    """But not the lines that the gateway writes, nor `Forwarded`."""
    assert may_pass(b"x-forwarded-user", trusted=True)
    assert may_pass(b"x-forwarded-prefix", trusted=True)
    assert not may_pass(b"x-forwarded-for", trusted=True)
    assert not may_pass(b"forwarded", trusted=True)
    assert not may_pass(b"x_forwarded_user", trusted=True)


@pytest.mark.parametrize(
    ("chain", "client", "upstream"),
    [
        pytest.param([b"1.2.3.4"], "1.2.3.4", "1.2.3.4, 10.0.0.1", id="XF02-one"),
        pytest.param(
            [b"6.6.6.6, 1.2.3.4, 10.1.1.1"], "1.2.3.4", "6.6.6.6, 1.2.3.4, 10.1.1.1, 10.0.0.1", id="XF02-forged"
        ),
        pytest.param([b"6.6.6.6", b"1.2.3.4"], "1.2.3.4", "6.6.6.6, 1.2.3.4, 10.0.0.1", id="XF02-two-lines"),
        pytest.param([b"10.3.3.3, 10.2.2.2"], "10.3.3.3", "10.3.3.3, 10.2.2.2, 10.0.0.1", id="all-trusted"),
        pytest.param([], "10.0.0.1", "10.0.0.1", id="no-chain"),
        pytest.param([b" , ,"], "10.0.0.1", "10.0.0.1", id="empty-entries"),
        pytest.param([b"1.2.3.4:567"], "1.2.3.4", "1.2.3.4, 10.0.0.1", id="port"),
        pytest.param([b"[2001:db8::1]:80"], "2001:db8::1", "2001:db8::1, 10.0.0.1", id="ipv6-port"),
        pytest.param([b'"[2001:db8::1]"'], "2001:db8::1", "2001:db8::1, 10.0.0.1", id="ipv6-quoted"),
        pytest.param([b"::ffff:1.2.3.4"], "1.2.3.4", "1.2.3.4, 10.0.0.1", id="ipv4-mapped"),
        pytest.param([b"::ffff:10.2.2.2"], "10.2.2.2", "10.2.2.2, 10.0.0.1", id="ipv4-mapped-trusted"),
        pytest.param([b"1.2.3.4, unknown"], "10.0.0.1", "1.2.3.4, unknown, 10.0.0.1", id="unknown-ends-the-chain"),
        pytest.param([b"1.2.3.4, <b>, 10.2.2.2"], "10.2.2.2", "1.2.3.4, unknown, 10.2.2.2, 10.0.0.1", id="garbage"),
        pytest.param([b"a\xff\r\nX: y"], "10.0.0.1", "unknown, 10.0.0.1", id="line-ends"),
        pytest.param([b"1.2.3.4, " + b"9" * 70_000], "10.0.0.1", "1.2.3.4, unknown, 10.0.0.1", id="long"),
        pytest.param([b"0x7f.1, 127.1, 010.0.0.1"], "10.0.0.1", "unknown, unknown, unknown, 10.0.0.1", id="odd-ipv4"),
    ],
)
def test_xf02_the_chain_is_read_from_the_right(chain: list[bytes], client: str, upstream: str) -> None:
    """The first address that is no trusted proxy is the client; where it cannot be read, the last that could."""
    pairs = [(b"x-forwarded-FOR", value) for value in chain]
    seen = resolve(pairs, "10.0.0.1", "http", 80, b"h", PROXIES)
    assert seen.client == client
    assert lines(seen.lines)["X-Forwarded-For"] == upstream
    assert lines(seen.lines)["X-Real-IP"] == client


def test_a_chain_is_bounded() -> None:
    """The nearest 32 hops count."""
    seen = resolve([(b"X-Forwarded-For", b"10.9.9.9," * 20_000)], "10.0.0.1", "http", 80, b"h", PROXIES)
    assert len(lines(seen.lines)["X-Forwarded-For"].split(",")) <= 33


@pytest.mark.parametrize(
    ("pairs", "scheme", "host", "port"),
    [
        pytest.param([], "http", b"h:8080", "8080", id="nothing-said"),
        pytest.param([(b"X-Forwarded-Proto", b"https")], "https", b"h:8080", "8080", id="proto"),
        pytest.param([(b"X-Forwarded-Proto", b"HTTPS")], "https", b"h:8080", "8080", id="proto-upper-case"),
        pytest.param([(b"X-Scheme", b"https")], "https", b"h:8080", "8080", id="x-scheme"),
        pytest.param([(b"X-Forwarded-Proto", b"http, https")], "https", b"h:8080", "8080", id="last-proto"),
        pytest.param([(b"X-Forwarded-Proto", b"javascript")], "http", b"h:8080", "8080", id="bad-proto"),
        pytest.param([(b"X-Forwarded-Host", b"pub.example")], "http", b"pub.example", "9000", id="host"),
        pytest.param([(b"X-Forwarded-Host", b"u@evil/")], "http", b"h:8080", "8080", id="bad-host"),
        pytest.param(
            [(b"X-Forwarded-Host", b"pub.example"), (b"X-Forwarded-Proto", b"https")],
            "https",
            b"pub.example",
            "443",
            id="port-from-proto",
        ),
        pytest.param(
            [(b"X-Forwarded-Host", b"pub.example:8443"), (b"X-Forwarded-Port", b"0")],
            "http",
            b"pub.example:8443",
            "8443",
            id="port-from-host",
        ),
        pytest.param([(b"X-Forwarded-Port", b"8443")], "http", b"h:8080", "8443", id="port"),
        pytest.param([(b"X-Forwarded-Port", b"99999")], "http", b"h:8080", "8080", id="bad-port"),
    ],
)
def test_what_a_trusted_proxy_says_is_believed_when_well_formed(
    pairs: list[tuple[bytes, bytes]], scheme: str, host: bytes, port: str
) -> None:
    """What is not is as if it had not been said."""
    seen = resolve(pairs, "10.0.0.1", "http", 9000, b"h:8080", PROXIES)
    told = lines(seen.lines)
    assert (seen.scheme, seen.host) == (scheme, host)
    assert (told["X-Forwarded-Proto"], told["X-Scheme"], told["X-Forwarded-Host"]) == (scheme, scheme, host.decode())
    assert told["X-Forwarded-Port"] == port


def test_unix_peers() -> None:
    """Trusted only if said so; of an unnamed one no address is made up."""
    pairs = [(b"X-Forwarded-For", b"1.2.3.4")]
    trusted = resolve(pairs, "unix", "http", 0, b"h", PROXIES)
    assert (trusted.client, lines(trusted.lines)["X-Forwarded-For"]) == ("1.2.3.4", "1.2.3.4")
    other = resolve(pairs, "unix", "http", 0, b"h", TrustedProxies(["10.0.0.0/8"]))
    assert other.client == "unix"
    assert set(lines(other.lines)) == {"X-Forwarded-Proto", "X-Scheme", "X-Forwarded-Host"}


def test_trust_is_off_without_entries() -> None:
    """The hot path asks for truth."""
    assert not TrustedProxies()
    assert TrustedProxies(["unix:"])
    assert TrustedProxies(["::1"]).trusts("::1")
    assert not TrustedProxies(["::1"]).trusts("no address")


def test_mapped_networks_are_ipv4_networks() -> None:
    """As peers are normalised, so are networks."""
    assert TrustedProxies([parse_network("::ffff:10.0.0.0/104")]).trusts("10.2.3.4")


@pytest.mark.parametrize("text", ["", "10.0.0.1/8", "all", "10.0.0.0/33"])
def test_what_is_no_network_is_refused(text: str) -> None:
    """By the standard library."""
    with pytest.raises(ValueError, match=r".*"):
        parse_network(text)


@pytest.mark.parametrize(
    "host",
    [
        b"localhost",
        b"LOCALHOST.",
        b"dash.example.com:8443",
        b"localhost:",
        b"127.0.0.1:1",
        b"[::1]",
        b"[::1]:65535",
        b"[::ffff:1.2.3.4]:80",
        b"xn--caf-dma.example",
        b"my_host",
        b"a%20b",
    ],
)
def test_hosts(host: bytes) -> None:
    """What RFC 3986 lets a browser say; twice, for the cache."""
    assert valid_host(host)
    assert valid_host(host)


@pytest.mark.parametrize(
    "host",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b":80", id="port-alone"),
        pytest.param(b"u@localhost", id="HD06-user"),
        pytest.param(b"localhost/../x", id="HD05-path"),
        pytest.param(b"localhost?x", id="query"),
        pytest.param(b"localhost#x", id="fragment"),
        pytest.param(b"localhost\\x", id="backslash"),
        pytest.param(b"a,b", id="two-joined"),
        pytest.param(b"a b", id="space"),
        pytest.param(b"a\tb", id="tab"),
        pytest.param(b"localhost\n", id="line-end"),
        pytest.param(b"localhost:0", id="port-0"),
        pytest.param(b"localhost:65536", id="port-too-big"),
        pytest.param(b"localhost:+80", id="port-sign"),
        pytest.param(b"localhost:80:80", id="two-ports"),
        pytest.param(b"::1", id="ipv6-bare"),
        pytest.param(b"[::1", id="ipv6-open"),
        pytest.param(b"[::1]x", id="ipv6-tail"),
        pytest.param(b"[fe80::1%25eth0]", id="ipv6-scope"),
        pytest.param(b"[1.2.3.4]", id="ipv4-in-brackets"),
        pytest.param(b"[v1.x]", id="ip-future"),
        pytest.param(b"a%2", id="half-escape"),
        pytest.param(b"caf\xc3\xa9", id="beyond-ascii"),
        pytest.param(b"a<script>", id="markup"),
        pytest.param(b"a" * 100_000, id="long"),
    ],
)
def test_what_is_no_host(host: bytes) -> None:
    """Each of these is a 400."""
    assert not valid_host(host)
    assert not valid_host(host)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        pytest.param(b"LOCALHOST.", ("localhost", None), id="HS04-dot-and-case"),
        pytest.param(b"localhost:80", ("localhost", 80), id="HS04-port"),
        pytest.param(b"localhost:", ("localhost", None), id="empty-port"),
        pytest.param(b"LOCALHOST.:8080", ("localhost", 8080), id="dot-before-port"),
        pytest.param(b"[::1]:80", ("::1", 80), id="ipv6-port"),
        pytest.param(b"[0:0::1]", ("::1", None), id="ipv6-one-form"),
        pytest.param(b"[::ffff:1.2.3.4]", ("1.2.3.4", None), id="ipv4-mapped"),
    ],
)
def test_hosts_are_compared_in_one_form(host: bytes, expected: tuple[str, int | None]) -> None:
    """The same route as the plain name."""
    assert split_host(host) == expected


def test_memory_of_hosts_is_bounded() -> None:
    """A client that invents hosts cannot fill it."""
    from bokeh_gateway.http import forwarded

    for n in range(3000):
        valid_host(b"h%d" % n)
    assert len(forwarded._hosts) <= 1024
