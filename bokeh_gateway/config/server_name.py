"""Servers that stand in the DNS: `dns+a://bokeh-workers:5006`, `dns+srv://_bokeh._tcp.workers`; and whom to ask.

Pure: nothing is resolved.  The forms are those of Thanos and Prometheus.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from bokeh_gateway.config.address import Address, parse_server, valid_host

A: Final = "dns+a://"
SRV: Final = "dns+srv://"
EXPECTED: Final = '"dns+a://name:port" or "dns+srv://name"'
DNS_PORT: Final = 53


@dataclass(frozen=True, slots=True)
class ServerName:
    """A name that is followed."""

    kind: str
    """"a" (A and AAAA records, with `port`) or "srv" (which carry a port)."""
    name: str
    """Lower case; with a dot at the end the search list of the system is left alone."""
    port: int = 0

    def __str__(self) -> str:
        return f"dns+{self.kind}://{self.name}" + (f":{self.port}" if self.port else "")


def parse_place(text: str) -> Address | ServerName:
    """Where workers are: an address, or a name that is followed.

    Raises:
        ValueError: the message says what was expected.
    """
    if not text.lower().startswith("dns"):
        return parse_server(text)
    lowered = text.lower()
    if lowered.startswith(A):
        name, colon, port = lowered.removeprefix(A).rpartition(":")
        if not colon or not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
            raise ValueError(f"{EXPECTED}: A records carry no port, it stands here, from 1 to 65535")
        return ServerName("a", _name(name), int(port))
    if lowered.startswith(SRV):
        if ":" in (name := lowered.removeprefix(SRV)):
            raise ValueError(f"{EXPECTED}: SRV records carry the port")
        return ServerName("srv", _name(name))
    if "://" in lowered:
        raise ValueError(EXPECTED)
    return parse_server(text)


def _name(text: str) -> str:
    plain = text.removesuffix(".")
    if plain.replace(".", "").isdigit() or not valid_host(plain):
        raise ValueError(f"{EXPECTED}, with a name that a name server knows")
    return text


def parse_resolver(text: str) -> Address:
    """A name server: an IP address, with or without a port.

    Raises:
        ValueError: the message says what was expected.
    """
    host, port = text, str(DNS_PORT)
    if text.startswith("[") or text.count(":") == 1:
        head, colon, tail = text.rpartition(":")
        if colon and not tail.endswith("]"):
            host, port = head, tail
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        address = None
    if address is None or not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise ValueError('the IP address of a name server, such as "127.0.0.1:5353" or "10.96.0.10"')
    return Address(str(address), int(port))
