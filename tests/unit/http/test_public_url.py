"""What workers are told where `public_url` is set."""

from __future__ import annotations

import pytest

from bokeh_gateway.http.forwarded import PublicUrl, TrustedProxies, public_url, resolve


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h", PublicUrl("https", 443, b"X-Forwarded-Host: h\r\n")),
        ("http://h:8080/u", PublicUrl("http", 8080, b"X-Forwarded-Host: h:8080\r\n")),
    ],
)
def test_the_parts_of_a_public_url(url: str, expected: PublicUrl) -> None:
    assert public_url(url) == expected


def test_it_overrules_a_trusted_proxy_in_what_goes_upstream_alone() -> None:
    """What the policies see stays what the proxy says."""
    said = [(b"X-Forwarded-Proto", b"http"), (b"X-Forwarded-Host", b"inner"), (b"X-Forwarded-For", b"192.0.2.1")]
    heard = resolve(said, "10.0.0.1", "http", 80, b"h", TrustedProxies(["10.0.0.1"]), public_url("https://h"))
    assert (heard.scheme, heard.host, heard.client) == ("http", b"inner", "192.0.2.1")
    assert heard.lines.endswith(
        b"X-Forwarded-Proto: https\r\nX-Scheme: https\r\nX-Forwarded-Port: 443\r\nX-Forwarded-Host: h\r\n"
    )
