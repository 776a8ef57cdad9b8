"""What [headers] and [embed] make of an answer's headers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bokeh_gateway.policy.response_headers import Changes, ResponseHeaders, Security, frame_sources

NONE = Changes(set={}, add={}, remove=())


def lines(*pairs: tuple[str, str]) -> list[bytes]:
    return [piece for name, value in pairs for piece in (name.encode(), b": ", value.encode(), b"\r\n")]


def merged(headers: ResponseHeaders, *pairs: tuple[str, str], path: bytes = b"/app") -> list[str]:
    """All header lines of an answer whose worker sent `pairs`."""
    text = b"".join(headers.kept(lines(*pairs), path)) + headers.lines
    return text.decode("latin-1").splitlines()


def test_set_replaces_add_adds_remove_removes() -> None:
    """Whatever the case of the names, and however often the worker sent them."""
    changes = Changes(set={"X-A": "ours"}, add={"X-B": "ours"}, remove=("x-c",))
    headers = ResponseHeaders("off", (), [changes])
    got = merged(headers, ("x-a", "1"), ("X-A", "2"), ("X-B", "3"), ("X-C", "4"), ("X-D", "5"))
    assert got == ["X-B: 3", "X-D: 5", "X-A: ours", "X-B: ours"]


def test_a_route_goes_before_the_whole() -> None:
    """It can set anew, and take away, what [headers] or a preset set."""
    whole = Changes(set={"X-A": "whole", "Referrer-Policy": "no-referrer"}, add={}, remove=())
    route = Changes(set={"x-a": "route"}, add={}, remove=("Referrer-Policy", "Permissions-Policy"))
    got = merged(ResponseHeaders("strict", (), [whole, route]))
    assert "x-a: route" in got
    assert not [line for line in got if line.startswith(("X-A", "Referrer", "Permissions"))]


def test_a_route_goes_before_what_the_whole_adds() -> None:
    whole = Changes(set={}, add={"X-A": "whole", "X-B": "whole", "X-C": "whole"}, remove=())
    route = Changes(set={"X-a": "route"}, add={"X-C": "route"}, remove=("x-b",))
    assert merged(ResponseHeaders("off", (), [whole, route])) == ["X-a: route", "X-C: whole", "X-C: route"]


@pytest.mark.parametrize(
    ("security", "embed", "csp", "frame_options"),
    [
        pytest.param("off", (), None, None, id="off"),
        pytest.param("off", ("https://a.example",), "frame-ancestors 'self' https://a.example", None, id="off-embed"),
        pytest.param("strict", (), "; frame-ancestors 'self'", "SAMEORIGIN", id="strict"),
        pytest.param("strict", ("https://a.example",), "'self' https://a.example", None, id="strict-embed"),
        pytest.param("embed", ("https://a.example",), "'self' https://a.example", None, id="embed"),
    ],
)
def test_presets(security: Security, embed: Sequence[str], csp: str | None, frame_options: str | None) -> None:
    """X-Frame-Options knows no list, so it goes where frames of others are allowed."""
    headers = ResponseHeaders(security, embed, [NONE])
    got = dict(line.split(": ", 1) for line in merged(headers, ("X-Frame-Options", "DENY") if embed else ("X-Z", "")))
    assert got.get("Content-Security-Policy", "").endswith(csp or "")
    assert ("Content-Security-Policy" in got) is (csp is not None)
    assert got.get("X-Frame-Options") == frame_options
    assert (got.get("X-Content-Type-Options") == "nosniff") is (security != "off")


def test_a_workers_own_policy_stays_beside_frame_ancestors() -> None:
    """Both are in force; only a preset, or one that was set, is in its place."""
    worker = ("Content-Security-Policy", "default-src 'self'")
    assert len([x for x in merged(ResponseHeaders("off", ("a.example",), [NONE]), worker) if "Security" in x]) == 2
    assert len([x for x in merged(ResponseHeaders("strict", (), [NONE]), worker) if "Security" in x]) == 1


@pytest.mark.parametrize(
    ("path", "embed", "kept"),
    [
        pytest.param(b"/app/autoload.js", ("a.example",), False, id="autoload"),
        pytest.param(b"/static/js/x.js", ("a.example",), False, id="static"),
        pytest.param(b"/app/api", ("a.example",), True, id="an-app's-own-endpoint"),
        pytest.param(b"/app/autoload.js", (), True, id="no-list"),
    ],
)
def test_a_workers_cors_headers_are_replaced(path: bytes, embed: Sequence[str], kept: bool) -> None:
    """Two Access-Control-Allow-Origin are an error to browsers."""
    headers = ResponseHeaders("off", embed, [Changes(set={"X-A": "b"}, add={}, remove=())])
    got = merged(headers, ("Access-Control-Allow-Origin", "*"), path=path)
    assert ("Access-Control-Allow-Origin: *" in got) is kept
    static = headers.kept_of_static(b"Access-Control-Allow-Origin: *\r\nETag: x\r\nX-A: c\r\n")
    assert static == (b"" if embed else b"Access-Control-Allow-Origin: *\r\n") + b"ETag: x\r\n"


@pytest.mark.parametrize(
    ("pattern", "sources"),
    [
        ("https://acme.com", ["https://acme.com"]),
        ("acme.com", ["http://acme.com", "https://acme.com"]),
        ("*.acme.com:8443", ["http://*.acme.com:8443", "https://*.acme.com:8443"]),
        ("acme.com:*", ["http://acme.com:*", "https://acme.com:*"]),
        ("*", ["*"]),
        ("https://*", ["https:"]),
        ("*.*.acme.com", ["http://*.acme.com", "https://*.acme.com"]),
        ("https://a.*.acme.com:8443", ["https://*.acme.com:8443"]),
        ("https://acme.*", ["https:"]),
        ("null", []),
        ("[::1]:8000", ["http://[::1]:8000", "https://[::1]:8000"]),
    ],
)
def test_patterns_as_sources_of_a_policy(pattern: str, sources: list[str]) -> None:
    """A pattern without scheme is either scheme, as for WebSockets."""
    assert frame_sources([pattern]) == sources


def test_nothing_to_change_makes_no_new_list() -> None:
    """The usual answer passes as it is."""
    plain = lines(("X-Z", "1"))
    assert ResponseHeaders("strict", (), [NONE]).kept(plain, b"/app") is plain
