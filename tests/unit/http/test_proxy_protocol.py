"""Tests of http/proxy_protocol.py."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bokeh_gateway.http.proxy_protocol import LONGEST, LONGEST_LINE, SIGNATURE, BadProxyHeader, ProxyHeader
from tests.support.fuzzing import ONCE

BEHIND = b"\x16\x03\x01PROXY \r\n"
FOUR = socket.inet_aton("203.0.113.7") + socket.inet_aton("198.51.100.1") + b"\x9c\x40\x01\xbb"
SIX = socket.inet_pton(socket.AF_INET6, "2001:db8::7") + socket.inet_pton(socket.AF_INET6, "::1") + b"\x9c\x40\x01\xbb"


def two(command: int = 0x21, family: int = 0x11, body: bytes = FOUR, length: int | None = None) -> bytes:
    """A header of version 2."""
    return SIGNATURE + bytes([command, family]) + (len(body) if length is None else length).to_bytes(2, "big") + body


def read(data: bytes, cuts: list[int] | None = None) -> tuple[ProxyHeader, int]:
    """The header in `data` that comes in pieces, and how many bytes of it were taken."""
    header = ProxyHeader()
    taken = 0
    for start, end in zip([0, *(cuts or [])], [*(cuts or []), len(data)], strict=True):
        if not header.whole:
            took = header.feed(data[start:end])
            assert header.whole or took == end - start, "what is not whole takes everything"
            taken += took
    return header, taken


GOOD = [
    pytest.param(b"PROXY TCP4 203.0.113.7 198.51.100.1 40000 443\r\n", "203.0.113.7", 443, id="v1-tcp4"),
    pytest.param(b"PROXY TCP6 2001:db8::7 ::1 40000 443\r\n", "2001:db8::7", 443, id="v1-tcp6"),
    pytest.param(b"PROXY TCP6 2001:DB8:0:0::7 ::1 0 65535\r\n", "2001:db8::7", 65535, id="v1-one-form"),
    pytest.param(b"PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n", "203.0.113.7", 2, id="v1-mapped"),
    pytest.param(b"PROXY UNKNOWN\r\n", "", 0, id="v1-unknown"),
    pytest.param(b"PROXY UNKNOWN ffff::1 whatever 1 2\r\n", "", 0, id="v1-unknown-with-words"),
    pytest.param(two(), "203.0.113.7", 443, id="v2-tcp4"),
    pytest.param(two(body=FOUR + b"\x01\x00\x08http/1.1" + b"\x04\x00\x00"), "203.0.113.7", 443, id="v2-tlvs"),
    pytest.param(two(family=0x21, body=SIX), "2001:db8::7", 443, id="v2-tcp6"),
    pytest.param(two(family=0x31, body=b"/run/lb".ljust(216, b"\0")), "unix", 0, id="v2-unix"),
    pytest.param(two(command=0x20, family=0, body=b""), "", 0, id="v2-local"),
    pytest.param(two(command=0x20), "", 0, id="v2-local-with-addresses"),
    pytest.param(two(command=0x20, family=0x77, body=b"?"), "", 0, id="v2-local-says-anything"),
    pytest.param(two(family=0, body=b"abc"), "", 0, id="v2-unspecified"),
    pytest.param(two(body=FOUR.ljust(LONGEST - 16, b"\0")), "203.0.113.7", 443, id="v2-longest"),
]


@pytest.mark.parametrize(("data", "client", "port"), GOOD)
def test_a_header_is_read_and_nothing_behind_it(data: bytes, client: str, port: int) -> None:
    """In whatever two pieces it comes."""
    for cut in range(len(data) + 1) if len(data) < 300 else (1, 12, 16, 28, len(data) - 1, len(data)):
        header, taken = read(data + BEHIND, [cut])
        assert (header.whole, header.client, header.port, taken) == (True, client, port, len(data))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="a-request"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01", id="a-client-hello"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="h2-preface"),
        pytest.param(b"\r\nGET / HTTP/1.1\r\n\r\n", id="blank-line"),
        pytest.param(b"proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n", id="lower-case"),
        pytest.param(b"PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n", id="two-spaces"),
        pytest.param(b"PROXY TCP4 1.1.1.1  2.2.2.2 1 2\r\n", id="two-spaces-inside"),
        pytest.param(b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n", id="space-behind"),
        pytest.param(b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n", id="a-port-less"),
        pytest.param(b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n", id="a-word-more"),
        pytest.param(b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n", id="bare-lf"),
        pytest.param(b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\r\n", id="cr-cr-lf"),
        pytest.param(b"PROXY TCP4 1.1.1.1\r2.2.2.2 1 2\r\n", id="cr-inside"),
        pytest.param(b"PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n", id="octal"),
        pytest.param(b"PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n", id="three-numbers"),
        pytest.param(b"PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n", id="256"),
        pytest.param(b"PROXY TCP4 ::1 ::1 1 2\r\n", id="six-as-four"),
        pytest.param(b"PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n", id="four-as-six"),
        pytest.param(b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", id="scope"),
        pytest.param(b"PROXY TCP4 1.1.1.1 evil 1 2\r\n", id="destination-none"),
        pytest.param(b"PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n", id="port-65536"),
        pytest.param(b"PROXY TCP4 1.1.1.1 2.2.2.2 -1 2\r\n", id="port-negative"),
        pytest.param(b"PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n", id="port-with-zero"),
        pytest.param("PROXY TCP4 1.1.1.1 2.2.2.2 1 ²\r\n".encode(), id="port-superscript"),
        pytest.param(b"PROXY TCP4 1.1.1.1,9.9.9.9 2.2.2.2 1 2\r\n", id="two-addresses"),
        pytest.param(b"PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n", id="udp"),
        pytest.param(b"PROXY \r\n", id="empty"),
        pytest.param(b"PROXY UNKNOWN " + b"x" * LONGEST_LINE, id="v1-too-long"),
        pytest.param(b"PROXY UNKNOWN " + b"x" * LONGEST_LINE + b"\r\n", id="v1-too-long-with-end"),
        pytest.param(SIGNATURE[:-1] + b"X" + two()[12:], id="v2-signature"),
        pytest.param(two(command=0x11), id="v2-version-1"),
        pytest.param(two(command=0x31), id="v2-version-3"),
        pytest.param(two(command=0x22), id="v2-command-2"),
        pytest.param(two(family=0x12), id="v2-udp"),
        pytest.param(two(family=0x41), id="v2-family-4"),
        pytest.param(two(family=0x10), id="v2-transport-0"),
        pytest.param(two(body=FOUR[:11]), id="v2-short-addresses"),
        pytest.param(two(family=0x21, body=FOUR), id="v2-six-with-four"),
        pytest.param(two(family=0x31, body=SIX), id="v2-short-path"),
        pytest.param(two(length=LONGEST - 15), id="v2-too-long"),
        pytest.param(two(length=65535), id="v2-longest-possible"),
    ],
)
def test_what_is_no_header_is_said_as_soon_as_it_shows(data: bytes) -> None:
    for cuts in ([], list(range(1, len(data)))):
        with pytest.raises(BadProxyHeader):
            read(data, cuts)


@ONCE
@given(st.binary(max_size=40), st.data())
def test_bytes_of_any_kind_are_a_header_or_refused(noise: bytes, data: st.DataObject) -> None:
    """However they are cut, the outcome is the same, and no other exception leaves."""
    start = data.draw(
        st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 1.1.1.1 ", SIGNATURE, SIGNATURE + b"\x21\x11\0\x0c"])
    )
    sent = start + noise
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))

    def outcome(at: list[int]) -> object:
        try:
            header, taken = read(sent, at)
        except BadProxyHeader:
            return "refused"
        return header.whole, header.client, header.port, taken if header.whole else None

    assert outcome(cuts) == outcome([])


@ONCE
@given(
    st.ip_addresses(), st.integers(0, 65535), st.booleans(), st.binary(max_size=50), st.binary(max_size=20), st.data()
)
def test_what_a_sender_writes_is_read_back(
    client: ipaddress.IPv4Address | ipaddress.IPv6Address,
    port: int,
    binary: bool,
    tlvs: bytes,
    behind: bytes,
    data: st.DataObject,
) -> None:
    if binary:
        body = client.packed + client.packed + b"\0\0" + port.to_bytes(2, "big") + tlvs
        sent = two(family=0x11 if client.version == 4 else 0x21, body=body)
    else:
        sent = f"PROXY TCP{client.version} {client} {client} 0 {port}\r\n".encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
    header, taken = read(sent + behind, cuts)
    mapped = client.ipv4_mapped if isinstance(client, ipaddress.IPv6Address) else None
    assert (header.whole, header.client, header.port, taken) == (True, str(mapped or client), port, len(sent))
