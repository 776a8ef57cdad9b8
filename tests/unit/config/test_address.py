"""Addresses as text."""

from __future__ import annotations

import pytest

from bokeh_gateway.config.address import Address, parse_listen, parse_server


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("127.0.0.1:8080", Address("127.0.0.1", 8080), id="ipv4"),
        pytest.param("Dash.Example.com:80", Address("dash.example.com", 80), id="name-in-lower-case"),
        pytest.param(":8080", Address("", 8080), id="every-interface"),
        pytest.param("[::1]:0", Address("::1", 0), id="ipv6-any-port"),
        pytest.param("unix:/run/gw.sock", Address(unix="/run/gw.sock"), id="unix"),
    ],
)
def test_listen_addresses_round_trip(text: str, expected: Address) -> None:
    """`str` writes what the file could say."""
    assert parse_listen(text) == expected
    assert str(expected) == text.lower()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "host:port", id="empty"),
        pytest.param("8080", "host:port", id="port-alone"),
        pytest.param("localhost", "host:port", id="host-alone"),
        pytest.param("a:65536", "port from 0 to 65535", id="port-too-high"),
        pytest.param("a:-1", "port from 0", id="negative"),
        pytest.param("a:\u0661", "port from 0", id="other-digits"),
        pytest.param("::1:80", "in brackets", id="bare-ipv6"),
        pytest.param("[::g]:80", "IPv6 address in the brackets", id="bad-ipv6"),
        pytest.param("1.2.3.400:80", "host name or an IP", id="bad-ipv4"),
        pytest.param("a b:80", "host name or an IP", id="space"),
        pytest.param("*:80", "host name or an IP", id="star"),
        pytest.param("unix:", "path of the socket", id="unix-without-path"),
    ],
)
def test_a_bad_listen_address_says_why(text: str, message: str) -> None:
    """The message names the part that is wrong."""
    with pytest.raises(ValueError, match=message):
        parse_listen(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(":5006", "with the host", id="no-host"),
        pytest.param("a:0", "port from 1", id="port-0"),
        pytest.param("http://127.0.0.1:5006", "without scheme", id="url"),
    ],
)
def test_a_server_needs_host_and_port(text: str, message: str) -> None:
    """Where to connect is no matter of defaults."""
    with pytest.raises(ValueError, match=message):
        parse_server(text)


@pytest.mark.parametrize(
    ("server", "listen", "expected"),
    [
        pytest.param("127.0.0.1:80", "127.0.0.1:80", True, id="same"),
        pytest.param("localhost:80", "127.0.0.1:80", True, id="localhost"),
        pytest.param("127.0.0.1:80", ":80", True, id="every-interface"),
        pytest.param("[::1]:80", "0.0.0.0:80", True, id="wildcard-and-loopback"),
        pytest.param("127.0.0.1:81", ":80", False, id="other-port"),
        pytest.param("127.0.0.2:80", "127.0.0.1:80", False, id="another-loopback-address"),
        pytest.param("worker:80", ":80", False, id="another-machine-perhaps"),
        pytest.param("unix:/a", "unix:/a", True, id="unix"),
        pytest.param("unix:/a", "unix:/b", False, id="other-unix"),
        pytest.param("127.0.0.1:80", ":0", False, id="any-free-port"),
    ],
)
def test_a_circle_is_seen(server: str, listen: str, expected: bool) -> None:
    """Connecting to one's own listener, as far as the texts tell."""
    assert parse_server(server).reaches(parse_listen(listen)) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.5:1", True), ("[::1]:1", True), ("localhost:1", True), ("unix:/a", True), (":1", False), ("a:1", False)],
)
def test_loopback(text: str, expected: bool) -> None:
    """Only this machine reaches it."""
    assert parse_listen(text).loopback is expected
