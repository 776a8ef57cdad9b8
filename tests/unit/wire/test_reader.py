"""Requests read from bytes that are cut anywhere; h11 is the oracle: what we accept, it accepts and reads the same."""

from __future__ import annotations

from itertools import pairwise
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bokeh_gateway.config.schema import Limits
from bokeh_gateway.http.head import BadHead, RequestHead
from bokeh_gateway.wire.reader import OVERHEAD, RequestReader
from tests.support.fuzzing import ONCE, keep_on
from tests.support.h11_reading import Read, h11_requests

NAMES = st.sampled_from(
    [b"X-A", b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Expect", b"TE", b"X_A", b" X", b"X "]
)
VALUES = st.one_of(
    st.sampled_from(
        [b"localhost", b"5", b"0", b"chunked", b"close", b"5, 5", b"+5", b"gzip, chunked", b"a b", b"[::1]:80", b""]
    ),
    st.binary(max_size=8),
)
LINE_ENDS = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\r\n", b"\r\n "])
BODIES = st.sampled_from(
    [
        b"",
        b"hello",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"0\r\n\r\n",
        b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
        b"0x5\r\nhello\r\n",
    ]
)
TARGETS = st.sampled_from([b"/", b"/a?b", b"*", b"http://localhost/x", b"/\xff", b"x", b"/a#b"])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    data = b""
    for _ in range(draw(st.integers(1, 3))):
        version = draw(st.sampled_from([b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/2.0", b"http/1.1"]))
        method = draw(st.sampled_from([b"GET", b"POST", b"OPTIONS", b"get"]))
        data += b"%b %b %b\r\n" % (method, draw(TARGETS), version)
        if draw(st.integers(0, 5)):
            data += b"Host: localhost\r\n"
        framing = draw(st.integers(0, 3))
        if framing == 1:
            data += b"Transfer-Encoding: chunked\r\n"
        elif framing == 2:
            data += b"Content-Length: 5\r\n"
        if not draw(st.integers(0, 5)):
            data += b"Connection: Upgrade\r\nUpgrade: " + draw(st.sampled_from([b"websocket", b"h2c", b"x"])) + b"\r\n"
        for name, value in draw(st.lists(st.tuples(NAMES, VALUES), max_size=2)):
            data += name + b": " + value + draw(LINE_ENDS)
        data += b"\r\n" + draw(BODIES)
    return data


def read(
    data: bytes,
    cuts: list[int],
    limits: Limits | None = None,
    *,
    lines: list[list[tuple[bytes, bytes]]] | None = None,
) -> tuple[Read, str]:
    """The requests that are whole, and why reading ended: "" or the refusal; their header lines go to `lines`."""
    reader = RequestReader(limits or Limits())
    found: Read = []
    marks = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    try:
        for begin, end in pairwise(marks):
            rest = data[begin:end]
            while rest:
                rest = reader.feed(rest)
                if reader.complete:
                    head = reader.head
                    assert head is not None
                    found.append((head.method, head.target, b"".join(reader.take())))
                    if lines is not None:
                        lines.append([(name.lower(), value) for name, value in head.pairs])
                    reader.next()
    except BadHead as bad:
        return found, f"{bad.status} {bad.detail}"
    return found, ""


def origin_form(target: bytes) -> bytes:
    return b"/" + target.split(b"/", 3)[3] if target.startswith(b"http://") else target


def test_what_is_accepted_h11_accepts_and_reads_the_same() -> None:
    @ONCE
    @given(requests())
    def compare(data: bytes) -> None:
        lines: list[list[tuple[bytes, bytes]]] = []
        ours, _ = read(data, [], lines=lines)
        requests = h11_requests(data)[: len(ours)]
        assert [(request.method, origin_form(request.target), body) for request, body in requests] == ours
        assert [list(request.headers) for request, _ in requests] == lines

    keep_on(compare)


def test_the_cuts_between_reads_change_nothing() -> None:
    @ONCE
    @given(requests(), st.lists(st.integers(0, 1 << 16), max_size=12))
    def compare(data: bytes, cuts: list[int]) -> None:
        whole, in_pieces = read(data, []), read(data, cuts)
        assert in_pieces[0] == whole[0]
        assert in_pieces[1][:3] == whole[1][:3]

    keep_on(compare)


@pytest.mark.parametrize(
    "data",
    [
        b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"4\r\n\r\n\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
        b"PUT /a HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 31\r\n\r\n"
        b"GET /smug HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
        b"PUT /a HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"1f\r\nGET /smug HTTP/1.1\r\nHost: h\r\n\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
    ],
)
def test_two_requests_split_at_every_byte(data: bytes) -> None:
    for cut in range(len(data)):
        found, refusal = read(data, [cut])
        assert [target for _, target, _ in found] == [b"/a", b"/b"], cut
        assert not refusal


CHUNKED = b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("chunks", "body"),
    [
        pytest.param(b"0\r\n\r\n", b"", id="none"),
        pytest.param(b"009;x=y\r\n0\r\n\r\nab\r\n\r\n000;z\r\n\r\n", b"0\r\n\r\nab\r\n", id="an-end-within"),
        pytest.param(b"2\r\n\r\n\r\n1\r\n\n\r\n0\r\nT: 0\r\nU: v\r\n\r\n", b"\r\n\n", id="trailers"),
    ],
)
def test_a_chunked_body_ends_where_it_ends_whatever_cuts_it(chunks: bytes, body: bytes) -> None:
    data = CHUNKED + chunks + b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n"
    start = len(CHUNKED)
    for first in range(start, len(data)):
        for second in range(first, min(first + 6, len(data))):
            assert read(data, [first, second]) == ([(b"POST", b"/a", body), (b"GET", b"/b", b"")], ""), (first, second)


def test_ends_within_a_chunk_cost_no_more_than_other_bytes() -> None:
    """The end of a body is not searched for in its data: that took the loop seconds for each MiB."""
    data = CHUNKED + b"%x\r\n" % (1 << 20) + b"\r\n\r\n" * (1 << 18) + b"\r\n0\r\n\r\n"
    began = process_time()
    found, refusal = read(data, [])
    assert process_time() - began < 1.0
    assert (len(found), refusal) == (1, "")


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
@pytest.mark.parametrize(
    ("body", "accepted"),
    [
        pytest.param(b"1\r\na\r\n" * 5000 + b"0\r\n\r\n", True, id="many-small-chunks"),
        pytest.param(b"5;" + b"a" * (OVERHEAD + 100) + b"\r\nhello\r\n0\r\n\r\n", False, id="extension"),
        pytest.param(b"1;aaaaaaaaaaaaaaaaaaaaaaaaa\r\na\r\n" * 1500 + b"0\r\n\r\n", False, id="extensions-of-all"),
        pytest.param(b"5\r\nhello\r\n0\r\n" + b"T: x\r\n" * 4000 + b"\r\n", False, id="trailers"),
    ],
)
def test_chunk_extensions_and_trailers_are_bounded_wherever_reads_cut_them(
    body: bytes, accepted: bool, size: int
) -> None:
    data = b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + body
    found, refusal = read(data, list(range(0, len(data), size)))
    assert (len(found), refusal[:3]) == ((1, "") if accepted else (0, "413"))


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /", "505"),
        (b"GET / HTTP/2.0", "505"),
        (b"GET / HTTP/1.2", "400"),
        (b"GET / HTTP/0.9", "505"),
        (b"PRI * HTTP/2.0", "400"),
    ],
)
def test_other_versions_are_refused(line: bytes, status: str) -> None:
    found, refusal = read(line + b"\r\nHost: h\r\n\r\n", [])
    assert not found
    assert refusal[:3] in (status, "400")


def test_five_gateways_on_the_way_are_a_loop() -> None:
    """CF04: a gateway that is its own upstream ends the request instead of turning it round for ever."""
    pairs = [(b"Host", b"h"), (b"Via", b"1.1 other, 1.1 bokeh-gateway")]
    assert RequestHead(b"GET", b"/", 1, [*pairs, *[(b"Via", b"1.1 bokeh-gateway")] * 3]).target == b"/"
    with pytest.raises(BadHead) as caught:
        RequestHead(b"GET", b"/", 1, [*pairs, *[(b"Via", b"1.1 bokeh-gateway")] * 4])
    assert caught.value.status == 508


HEAD_READ = ("method", "target", "path", "query", "minor", "host", "plain", "origins", "protocols", "session_ids")


def fresh(data: bytes) -> RequestHead | None:
    """The head of a reader that has read nothing before; None where `data` is not one whole request."""
    reader = RequestReader(Limits())
    try:
        rest = reader.feed(data)
    except BadHead:
        return None
    return reader.head if reader.complete and not rest else None


def test_repeated_lines_are_read_as_if_they_were_new() -> None:
    """What `repeated` takes without llhttp, llhttp takes too, and reads the same."""

    @ONCE
    @given(
        requests(), TARGETS, st.sampled_from([b"GET", b"POST", b"get", b"HEAD"]), st.sampled_from([b"", b"x", b"\r\n"])
    )
    def check(first: bytes, target: bytes, method: bytes, behind: bytes) -> None:
        reader = RequestReader(Limits())
        try:
            rest = reader.feed(first)
        except BadHead:
            return
        if not reader.complete:
            return
        reader.next()
        request = first[: len(first) - len(rest)]
        again = method + b" " + target + request[request.find(b" HTTP/") :] + behind
        head = reader.repeated(again)
        if head is None:
            return
        expected = fresh(again)
        assert expected is not None, again
        assert [getattr(head, name) for name in HEAD_READ] == [getattr(expected, name) for name in HEAD_READ], again

    keep_on(check)


LINES = b" HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n\r\n"


@pytest.mark.parametrize(
    ("first", "then", "taken"),
    [
        pytest.param(b"GET /a" + LINES, b"GET /b?c=d" + LINES, True, id="another-target"),
        pytest.param(b"GET /a" + LINES, b"GET /b" + LINES + b"GET /c", False, id="pipelined"),
        pytest.param(b"GET /a" + LINES, b"GET /b" + LINES.replace(b"b\r", b"c\r"), False, id="other-lines"),
        pytest.param(b"GET /a" + LINES, b"GET /b HTTP/1.1\r\nHost: evil\r\n\r\nGET /c" + LINES, False, id="two-in-one"),
        pytest.param(b"GET /a" + LINES, b"GET /b\xff" + LINES, False, id="high-byte"),
        pytest.param(b"GET /a" + LINES, b"GET /b c" + LINES, False, id="space"),
        pytest.param(b"GET /a" + LINES, b"GET http://localhost/b" + LINES, False, id="absolute"),
        pytest.param(b"GET /a" + LINES, b"GET /" + b"b" * 40_000 + LINES, False, id="too-long"),
        pytest.param(b"POST /a" + LINES, b"GET /b" + LINES, False, id="after-a-post"),
        pytest.param(
            b"GET /a" + LINES.replace(b"X-A: b", b"Content-Length: 1") + b"x",
            b"GET /b" + LINES.replace(b"X-A: b", b"Content-Length: 1"),
            False,
            id="after-a-body",
        ),
    ],
)
def test_only_a_lone_get_with_the_same_lines_is_taken_as_repeated(first: bytes, then: bytes, taken: bool) -> None:
    reader = RequestReader(Limits())
    assert reader.feed(first) == b""
    assert reader.complete
    reader.next()
    assert (reader.repeated(then) is not None) is taken


def test_lines_that_an_endpoint_replaced_are_there_again() -> None:
    """The sign-in puts a user's name into `plain`: the next request of the connection must not inherit it."""
    reader = RequestReader(Limits())
    reader.feed(b"GET /a" + LINES)
    head = reader.head
    assert head is not None
    head.plain = [*head.plain, b"X-Forwarded-User", b": ", b"ada", b"\r\n"]
    reader.next()
    again = reader.repeated(b"GET /a" + LINES)
    assert again is not None
    assert again.plain == [b"X-A", b": ", b"b", b"\r\n"]


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_blank_lines_between_requests_are_counted_anew_for_each(method: bytes) -> None:
    """Old clients send one behind every body."""
    reader = RequestReader(Limits())
    request = method + b" / HTTP/1.1\r\nHost: h\r\n\r\n"
    for _ in range(20):
        if reader.repeated(request) is None:
            assert reader.feed(request) == b""
        assert reader.complete
        reader.next()
        assert reader.repeated(b"\r\n") is None
        assert reader.feed(b"\r\n") == b""
    with pytest.raises(BadHead, match="Blank lines"):
        reader.feed(b"\r\n" * 5)
