"""Names of servers, and whom to ask for them, as text."""

from __future__ import annotations

import pytest

from bokeh_gateway.config.address import Address
from bokeh_gateway.config.server_name import ServerName, parse_place, parse_resolver


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("dns+a://Bokeh-Workers:5006", ServerName("a", "bokeh-workers", 5006), id="a"),
        pytest.param("dns+srv://_bokeh._tcp.workers", ServerName("srv", "_bokeh._tcp.workers"), id="srv"),
        pytest.param("dns+a://workers.svc.:80", ServerName("a", "workers.svc.", 80), id="absolute"),
        pytest.param("dns.example:5006", Address("dns.example", 5006), id="a-host-called-dns"),
        pytest.param("127.0.0.1:5006", Address("127.0.0.1", 5006), id="address"),
    ],
)
def test_a_place_is_an_address_or_a_name(text: str, expected: Address | ServerName) -> None:
    """`str` writes what the file could say."""
    assert parse_place(text) == expected
    assert str(expected) == text.lower()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("dns+a://workers", "A records carry no port", id="no-port"),
        pytest.param("dns+a://workers:0", "from 1 to 65535", id="port-0"),
        pytest.param("dns+srv://workers:5006", "SRV records carry the port", id="srv-with-port"),
        pytest.param("dns+aaaa://workers:5006", r'"dns\+a://name:port" or', id="unknown-kind"),
        pytest.param("dns://workers:5006", r'"dns\+a://name:port" or', id="no-kind"),
        pytest.param("dns+a://10.0.0.1:5006", "a name that a name server knows", id="ip"),
        pytest.param("dns+a://:5006", "a name that a name server knows", id="empty"),
        pytest.param("dns+srv://", "a name that a name server knows", id="srv-empty"),
        pytest.param("dns+srv://a/b", "a name that a name server knows", id="path"),
    ],
)
def test_a_bad_name_says_why(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_place(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("127.0.0.1:5353", Address("127.0.0.1", 5353), id="with-port"),
        pytest.param("10.96.0.10", Address("10.96.0.10", 53), id="alone"),
        pytest.param("[::1]:5353", Address("::1", 5353), id="ipv6-with-port"),
        pytest.param("fd00::a", Address("fd00::a", 53), id="ipv6-alone"),
        pytest.param("[fd00::a]", Address("fd00::a", 53), id="ipv6-in-brackets"),
    ],
)
def test_a_name_server_is_an_ip_address(text: str, expected: Address) -> None:
    assert parse_resolver(text) == expected


@pytest.mark.parametrize("text", ["", "dns.example", "dns.example:53", "127.0.0.1:0", "127.0.0.1:x", "[::1]:", "[::1"])
def test_anything_else_is_none(text: str) -> None:
    """A name would have to be asked for itself."""
    with pytest.raises(ValueError, match="IP address of a name server"):
        parse_resolver(text)
