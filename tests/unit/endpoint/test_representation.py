"""Codings, conditions and ranges, as RFC 9110 has them."""

from __future__ import annotations

import pytest

from bokeh_gateway.endpoint.representation import Get, Held, accepted_codings, content_type

BODY = b"0123456789"
FILE = Held(
    BODY, etag="abc", modified=1_700_000_000.9, media_type="text/css; charset=utf-8", caching=b"no-cache", vary=True
)
DATE = b"Tue, 14 Nov 2023 22:13:20 GMT"


def get(**headers: str) -> Get:
    return {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}.get


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param(None, ("identity",), id="none"),
        pytest.param(b"", ("identity",), id="empty"),
        pytest.param(b"gzip, deflate, br, zstd", ("br", "gzip", "identity"), id="chrome"),
        pytest.param(b"gzip, deflate", ("gzip", "identity"), id="http-page-of-a-browser"),
        pytest.param(b"br;q=0, gzip", ("gzip", "identity"), id="q-zero-refuses"),
        pytest.param(b"br;q=0.000, gzip;q=0", ("identity",), id="all-refused"),
        pytest.param(b"br;q=0.5, gzip;q=0.8", ("gzip", "br", "identity"), id="q-orders"),
        pytest.param(b"identity, br;q=0.5", ("identity",), id="identity-preferred"),
        pytest.param(b"identity;q=0, br", ("br", "identity"), id="identity-refused"),
        pytest.param(b"*", ("br", "gzip", "identity"), id="star"),
        pytest.param(b"*;q=0, gzip", ("gzip", "identity"), id="star-refused"),
        pytest.param(b"BR ; Q=1.0", ("br", "identity"), id="case-and-space"),
        pytest.param(b"br;q=high, gzip;q=7", ("identity",), id="q-that-is-none"),
        pytest.param(b"x-gzip", ("gzip", "identity"), id="x-gzip"),
        pytest.param(b"broken,,;;=,brr", ("identity",), id="garbage"),
        pytest.param(b"br," * 1000, ("identity",), id="endless"),
    ],
)
def test_accept_encoding(header: bytes | None, expected: tuple[str, ...]) -> None:
    assert accepted_codings(header) == expected


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, 200, id="no-condition"),
        pytest.param({"if_none_match": '"abc"'}, 304, id="same"),
        pytest.param({"if_none_match": 'W/"abc"'}, 304, id="weak"),
        pytest.param({"if_none_match": '"x", W/"abc" ,"y"'}, 304, id="list"),
        pytest.param({"if_none_match": "*"}, 304, id="star"),
        pytest.param({"if_none_match": '"abc-br"'}, 200, id="another-coding"),
        pytest.param({"if_none_match": "abc"}, 200, id="unquoted"),
        pytest.param({"if_modified_since": DATE.decode()}, 304, id="date-same"),
        pytest.param({"if_modified_since": "Wed, 15 Nov 2023 00:00:00 GMT"}, 304, id="date-later"),
        pytest.param({"if_modified_since": "Tue, 14 Nov 2023 22:13:19 GMT"}, 200, id="date-earlier"),
        pytest.param({"if_modified_since": "yesterday"}, 200, id="date-garbage"),
        pytest.param({"if_modified_since": "Tue, 14 Nov 99999999999999 22:13:19 GMT"}, 200, id="date-overflow"),
        pytest.param({"if_none_match": '"x"', "if_modified_since": DATE.decode()}, 200, id="tag-before-date"),
    ],
)
def test_conditions(headers: dict[str, str], status: int) -> None:
    answer = FILE.answer(get(**headers))
    assert (answer.status, answer.body) == (status, BODY if status == 200 else b"")
    assert b'ETag: "abc"\r\n' in answer.headers
    assert b"Last-Modified: " + DATE in answer.headers
    assert (b"Content-Type" in answer.headers) == (status == 200)


@pytest.mark.parametrize(
    ("wanted", "status", "body", "where"),
    [
        pytest.param("bytes=0-3", 206, b"0123", b"bytes 0-3/10", id="from-to"),
        pytest.param("bytes=7-", 206, b"789", b"bytes 7-9/10", id="from"),
        pytest.param("bytes=-2", 206, b"89", b"bytes 8-9/10", id="last"),
        pytest.param("bytes=-99", 206, BODY, b"bytes 0-9/10", id="last-more-than-all"),
        pytest.param("bytes=5-99", 206, b"56789", b"bytes 5-9/10", id="beyond"),
        pytest.param("bytes=10-", 416, b"", b"bytes */10", id="after-the-end"),
        pytest.param("bytes=-0", 416, b"", b"bytes */10", id="last-none"),
        pytest.param("bytes=0-1,3-4", None, b"", b"", id="several-give-the-whole"),
        pytest.param("bytes=3-1", None, b"", b"", id="backwards"),
        pytest.param("bytes=-", None, b"", b"", id="empty"),
        pytest.param("lines=0-3", None, b"", b"", id="other-unit"),
        pytest.param("bytes=" + "9" * 40 + "-", None, b"", b"", id="digits-without-end"),
    ],
)
def test_ranges(wanted: str, status: int | None, body: bytes, where: bytes) -> None:
    answer = FILE.answer_range(wanted.encode(), get())
    if status is None:
        assert answer is None
        return
    assert answer is not None
    assert (answer.status, answer.body) == (status, body)
    assert b"Content-Range: " + where + b"\r\n" in answer.headers


@pytest.mark.parametrize(
    ("if_range", "counts"),
    [
        pytest.param('"abc"', True, id="same"),
        pytest.param('W/"abc"', False, id="weak"),
        pytest.param('"abc-br"', False, id="another-coding"),
        pytest.param(DATE.decode(), True, id="same-date"),
        pytest.param("Wed, 15 Nov 2023 00:00:00 GMT", False, id="another-date"),
    ],
)
def test_if_range_is_a_strong_comparison(if_range: str, counts: bool) -> None:
    assert (FILE.answer_range(b"bytes=0-0", get(if_range=if_range)) is not None) == counts


def test_range_of_an_unchanged_file_is_304() -> None:
    answer = FILE.answer_range(b"bytes=0-0", get(if_none_match='"abc"'))
    assert answer is not None
    assert answer.status == 304


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.MJS", "text/javascript; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.json", "application/json; charset=utf-8"),
        ("a.ts", "text/plain; charset=utf-8"),
        ("a.svg", "image/svg+xml; charset=utf-8"),
        ("a.html", "text/html; charset=utf-8"),
        ("a.wasm", "application/wasm"),
        ("a.woff2", "font/woff2"),
        ("a.png", "image/png"),
        ("LICENSE", "application/octet-stream"),
        ("a.%s", "application/octet-stream"),
    ],
)
def test_content_type(name: str, expected: str) -> None:
    assert content_type(name) == expected


def test_every_header_line_is_whole() -> None:
    for part in (FILE.whole, FILE.unchanged):
        assert all(b": " in line for line in part.headers.removesuffix(b"\r\n").split(b"\r\n"))
