"""What may be written in `[origins] allow`."""

from __future__ import annotations

import pytest

from bokeh_gateway.config.origin_pattern import OriginPattern, parse_origin_pattern


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("acme.com", OriginPattern(None, ("acme", "com"), None), id="default-port"),
        pytest.param("ACME.com:8443", OriginPattern(None, ("acme", "com"), "8443"), id="lower-case-and-port"),
        pytest.param("*.acme.com:*", OriginPattern(None, ("*", "acme", "com"), "*"), id="wildcard-label-and-port"),
        pytest.param("192.168.*.*", OriginPattern(None, ("192", "168", "*", "*"), None), id="wildcard-octets"),
        pytest.param("https://acme.com", OriginPattern("https", ("acme", "com"), None), id="scheme"),
        pytest.param("*", OriginPattern(None, ("*",), "*"), id="star-is-any-port-too"),
        pytest.param("*:*", OriginPattern(None, ("*",), "*"), id="star-star"),
        pytest.param("*:8443", OriginPattern(None, ("*",), "8443"), id="any-host-one-port"),
        pytest.param("https://*", OriginPattern("https", ("*",), None), id="any-https-at-443"),
        pytest.param("[0:0::1]:5006", OriginPattern(None, ("[::1]",), "5006"), id="ipv6-compressed"),
        pytest.param("[::1]", OriginPattern(None, ("[::1]",), None), id="ipv6-no-port"),
        pytest.param("null", OriginPattern(None, ("null",), None), id="opaque"),
        pytest.param("bücher.example", OriginPattern(None, ("xn--bcher-kva", "example"), None), id="international"),
        pytest.param("my_host:05006", OriginPattern(None, ("my_host",), "5006"), id="underscore-and-port-zeros"),
    ],
)
def test_patterns_are_parsed(text: str, expected: OriginPattern) -> None:
    """Scheme, labels and port come apart, normalised as browsers write them."""
    assert parse_origin_pattern(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "acme.com/",
        "https://acme.com/path",
        "https://user@acme.com",
        "acme.com?x",
        "acme.com#x",
        "ws://acme.com",
        "https://",
        "app*.acme.com",
        "a..b",
        ".com",
        "acme.com.",
        "acme.com:",
        "acme.com:0",
        "acme.com:65536",
        "acme.com:http",
        "acme.com:*1",
        "acme.com:\u0661",
        "::1",
        "[::1",
        "[acme]",
        "[::1]x",
        "acme.com, b.com",
        "a b",
        "a\tb",
        "acme.com\n",
        "-a.com",
        "a" * 64,
        "\\acme.com",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """A pattern that could never match, or means more than it says, is a mistake of the file."""
    with pytest.raises(ValueError, match=r"origin|port|IPv6"):
        parse_origin_pattern(text)


@pytest.mark.parametrize("text", ["acme.com", "*.acme.com:8443", "https://acme.com:*", "[::1]:5006", "null"])
def test_str_writes_the_pattern_back(text: str) -> None:
    """The text in messages is the text that can be written in the file."""
    assert str(parse_origin_pattern(text)) == text


def test_star_says_that_it_is_anything() -> None:
    """Only `*` and `*:*` are the open door that `check` warns of."""
    assert [parse_origin_pattern(t).anything for t in ("*", "*:*", "*:80", "https://*", "*.com")] == [
        True,
        True,
        False,
        False,
        False,
    ]
