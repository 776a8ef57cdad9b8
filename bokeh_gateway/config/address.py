"""Addresses as the file writes them: `host:port`, `:port`, `[::1]:port`, `unix:/path`.  Pure: nothing is resolved."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

EXPECTED: Final = '"host:port", "[::1]:port" or "unix:/path"'
_HOST: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\Z")
WILDCARDS: Final = ("", "0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen or to connect: `host` and `port`, or `unix`."""

    host: str = ""
    """A name or an IP address without brackets; empty: every interface (listening only)."""
    port: int = 0
    """0: any free port (listening only)."""
    unix: str = ""
    """Path of a unix socket; empty for TCP."""

    @property
    def wildcard(self) -> bool:
        """Whether it stands for every interface."""
        return not self.unix and self.host in WILDCARDS

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it: a unix socket, a loopback address or `localhost`."""
        if self.unix or self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def reaches(self, listener: Address) -> bool:
        """Whether connecting here would arrive at `listener` on this machine, as far as the texts tell."""
        if self.unix or listener.unix:
            return self.unix == listener.unix
        if self.port != listener.port or not self.port:
            return False
        if listener.wildcard:
            return self.loopback or self.wildcard
        return self.host == listener.host or (self.loopback and listener.loopback and _named(self, listener))

    def __str__(self) -> str:
        if self.unix:
            return f"unix:{self.unix}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(text: str) -> Address:
    """Where to listen: any form, port 0 is any free port.

    Raises:
        ValueError: the message says what was expected.
    """
    return _parse(text, EXPECTED.replace('"host:port"', '"host:port", ":port"'), lowest=0)


def parse_server(text: str) -> Address:
    """Where to connect: host and port, both needed, or a unix socket.

    Raises:
        ValueError: the message says what was expected.
    """
    if text.lower().startswith(("http://", "https://", "ws://", "wss://")):
        raise ValueError(f"{EXPECTED}, without scheme and path")
    address = _parse(text, EXPECTED, lowest=1)
    if not address.unix and not address.host:
        raise ValueError(f"{EXPECTED}, with the host")
    return address


def valid_host(host: str) -> bool:
    """Whether `host` is a lower-case name or an IPv4 address; something like `1.2.3.400` is neither."""
    if host.rsplit(".", 1)[-1].isdigit():
        return _is_ip(host, 4)
    return _HOST.match(host) is not None


def _parse(text: str, expected: str, lowest: int) -> Address:
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path or "\0" in path:
            raise ValueError(f"{expected}, with the path of the socket")
        return Address(unix=path)
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(expected)
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and lowest <= int(port) <= 65535):
        raise ValueError(f"{expected}, with a port from {lowest} to 65535")
    return Address(_host(host.lower(), expected), int(port))


def _host(text: str, expected: str) -> str:
    """The host without brackets; IPv6 compressed."""
    if text.startswith("[") and text.endswith("]"):
        if not _is_ip(text[1:-1], 6):
            raise ValueError(f"{expected}, with an IPv6 address in the brackets")
        return str(ipaddress.IPv6Address(text[1:-1]))
    if ":" in text:
        raise ValueError(f"{expected}; an IPv6 address stands in brackets")
    if text and not valid_host(text):
        raise ValueError(f"{expected}, with a host name or an IP address")
    return text


def _is_ip(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False


def _named(one: Address, other: Address) -> bool:
    """`localhost` is any loopback address; two different addresses of 127.0.0.0/8 are different listeners."""
    return "localhost" in (one.host, other.host)
