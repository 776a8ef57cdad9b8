"""Answer heads: the quick reading of the usual ones says what llhttp and `AnswerHead` say, or leaves them to these."""

from __future__ import annotations

import pytest
from httptools import HttpParserError, HttpResponseParser
from hypothesis import given
from hypothesis import strategies as st

from bokeh_gateway.http.answer import AnswerHead, BadAnswer, read_answer
from bokeh_gateway.http.head import Pairs
from tests.support.fuzzing import ONCE, keep_on

READ = ("status", "reason", "minor", "length", "chunked", "keep_alive", "content_type", "cache_control", "location")

FIRST = st.sampled_from(
    [b"HTTP/1.1 200 OK"] * 8
    + [b"HTTP/1.1 404 ", b"HTTP/1.1 204 No Content", b"HTTP/1.0 200 OK", b"HTTP/1.1 100 Continue", b"HTTP/1.1 99 Low"]
    + [b"HTTP/1.1 200", b"http/1.1 200 OK", b"HTTP/1.1  200 OK", b"HTTP/1.1 200 O\x00K", b"HTTP/1.1 200 O\rK"]
)
NAMES = st.sampled_from(
    [b"Content-Length"] * 4
    + [b"content-length", b"Content-Type", b"Server", b"Date", b"Cache-Control", b"Location", b"X-A", b"Connection"]
    + [b"Transfer-Encoding", b"Upgrade", b"Set-Cookie", b"Trailer", b"X A", b"X-A ", b" X-A", b"", b"X\x85"]
)
VALUES = st.one_of(
    st.sampled_from([b"5", b"0", b"5", b"text/html", b"keep-alive", b"close", b"chunked", b"/x", b"-1", b"0x5", b""]),
    st.binary(max_size=6),
)
COLONS = st.sampled_from([b": "] * 8 + [b":", b":\t ", b" :", b""])
ENDS = st.sampled_from([b"\r\n"] * 16 + [b"\n", b"\r", b"\r\n "])


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    data = draw(FIRST) + b"\r\n"
    for name, value in draw(st.lists(st.tuples(NAMES, VALUES), max_size=4)):
        data += name + draw(COLONS) + value + draw(ENDS)
    return data + b"\r\n"


class Oracle:
    """llhttp, and what is made of its pairs."""

    def __init__(self) -> None:
        self.pairs: Pairs = []
        self.reason = b""
        self.head: AnswerHead | None = None
        self.parser = HttpResponseParser(self)

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self.pairs.append((name, value.rstrip(b" \t")))  # as the connection to a worker does

    def on_headers_complete(self) -> None:
        minor = 1 if self.parser.get_http_version() == "1.1" else 0
        self.head = AnswerHead(self.parser.get_status_code(), self.reason, minor, self.pairs)


def read_in_full(data: bytes) -> AnswerHead | None:
    """None where it is no answer."""
    oracle = Oracle()
    try:
        oracle.parser.feed_data(data)
    except (HttpParserError, BadAnswer, ValueError):
        return None
    return oracle.head


def test_the_quick_reading_agrees_with_the_full_one() -> None:
    """Read twice: the second time its lines are remembered."""

    @ONCE
    @given(heads())
    def check(data: bytes) -> None:
        end = data.find(b"\r\n\r\n")
        data = data[: end + 4]  # a status without a body is whole here, and more would be another answer
        for _ in range(2):
            quick = read_answer(data, end)
            if quick is None:
                return
            full = read_in_full(data)
            assert full is not None, data
            assert [getattr(quick, name) for name in READ] == [getattr(full, name) for name in READ], data
            assert quick.plain == full.plain, data

    keep_on(check)


@pytest.mark.parametrize(
    ("data", "quick"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\n\r\n", True, id="usual"),
        pytest.param(b"HTTP/1.1 304 Not Modified\r\nEtag: x\r\n\r\n", True, id="bodiless"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", False, id="ends-with-the-connection"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", False, id="chunked"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", False, id="two-lengths"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", False, id="closes"),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", False, id="upgrade"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", False, id="old"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n" + b"X: y\r\n" * 300 + b"\r\n", False, id="many"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: a\rb\r\n\r\n", False, id="bare-cr"),
    ],
)
def test_only_usual_heads_are_read_quickly(data: bytes, quick: bool) -> None:
    """The guard of the cost: were none read so, the agreement above would hold for nothing."""
    assert (read_answer(data, data.find(b"\r\n\r\n")) is not None) is quick


def test_pieces_are_name_colon_value_and_end() -> None:
    """Whoever takes lines out of `plain` counts on four pieces a line."""
    data = b"HTTP/1.1 200 OK\r\nX-A:1\r\nContent-Length: 0\r\nContent-Type: text/html \r\n\r\n"
    head = read_answer(data, data.find(b"\r\n\r\n"))
    assert head is not None
    assert head.plain == [b"X-A", b": ", b"1", b"\r\n", b"Content-Type", b": ", b"text/html", b"\r\n"]
