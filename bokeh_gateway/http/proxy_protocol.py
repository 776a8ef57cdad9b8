"""The header of the PROXY protocol, versions 1 and 2, read from pieces of any size.  Pure.

A load balancer that passes connections on as they are puts it before the first byte, to tell whose they are.  It is
read strictly: what is sent here says who a client is.  TLVs of version 2 are skipped.
Source: HAProxy's proxy-protocol.txt, sections 2.1 and 2.2.
"""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

from bokeh_gateway.http.forwarded import UNIX, normalise

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
"""What version 2 begins with; no protocol that speaks text does."""
_WORD: Final = b"PROXY "
LONGEST_LINE: Final = 107
"""Bytes of a header of version 1, as the specification counts them, with the line's end."""
LONGEST: Final = 4096
"""Bytes of a header of version 2 with its TLVs.  65,551 would be possible; nginx takes no more than this either."""
_PREFIX: Final = 16
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6, _STREAM = 0x11, 0x21, 0x31
_ADDRESSES: Final = {_TCP4: 12, _TCP6: 36, _STREAM: 216}
"""Bytes of the two addresses by family and transport; datagrams do not come by a connection."""

Kind = type[IPv4Address] | type[IPv6Address]
_KINDS: Final[dict[bytes, Kind]] = {b"TCP4": IPv4Address, b"TCP6": IPv6Address}


class BadProxyHeader(Exception):
    """It is no header that can be believed; says why."""


class ProxyHeader:
    """One header, as it comes in.

    Attributes:
        whole: it has been read to its end.
        client: the address of who connected to the sender, `unix` for a unix socket; "" where the sender speaks for
            itself, as in its health checks: then it is the client.
        port: where the client connected to, 0 where that is not told.
    """

    __slots__ = ("_data", "client", "port", "whole")

    def __init__(self) -> None:
        self._data = b""
        self.whole = False
        self.client = ""
        self.port = 0

    def feed(self, data: bytes) -> int:
        """Reads on; how many bytes of `data` are the header's: all of them as long as it is not whole.

        Raises:
            BadProxyHeader: it cannot become a header any more.
        """
        before = len(self._data)
        self._data += data
        if not self._data:
            return 0
        end = self._second() if self._data[0] == SIGNATURE[0] else self._first()
        if end is None:
            return len(data)
        self.whole = True
        return end - before

    def _first(self) -> int | None:
        """Where the header of version 1 ends, which is then read; None: later."""
        data = self._data
        if not _WORD.startswith(data[: len(_WORD)]):
            raise BadProxyHeader("what came is no PROXY header")
        end = data.find(b"\n", 0, LONGEST_LINE) + 1
        if not end:
            if len(data) >= LONGEST_LINE:
                raise BadProxyHeader(f"the PROXY line is longer than {LONGEST_LINE} bytes")
            return None
        line = data[: end - 2]
        if data[end - 2 : end] != b"\r\n" or b"\r" in line:
            raise BadProxyHeader("the PROXY line does not end with CR LF")
        self._line(line[len(_WORD) :].split(b" "))
        return end

    def _line(self, words: list[bytes]) -> None:
        if words[0] == b"UNKNOWN":
            return
        kind = _KINDS.get(words[0])
        if kind is None or len(words) != 5:
            raise BadProxyHeader("the PROXY line is not `TCP4|TCP6 source destination port port` or `UNKNOWN`")
        source, _ = (_address(kind, word) for word in words[1:3])
        _, self.port = (_port(word) for word in words[3:5])
        self.client = source

    def _second(self) -> int | None:
        """As `_first`, of version 2."""
        data = self._data
        if not SIGNATURE.startswith(data[: len(SIGNATURE)]):
            raise BadProxyHeader("what came is no PROXY header")
        if len(data) < _PREFIX:
            return None
        command, family = data[12], data[13]
        if command not in (_LOCAL, _PROXY):
            raise BadProxyHeader(f"version and command {command:#04x} are not known")
        end = _PREFIX + int.from_bytes(data[14:16], "big")
        if end > LONGEST:
            raise BadProxyHeader(f"the PROXY header says it has {end} bytes, more than {LONGEST}")
        # A health check is free to say anything of its addresses; of an unspecified family there are none.
        if command == _PROXY and family != 0:
            size = _ADDRESSES.get(family)
            if size is None:
                raise BadProxyHeader(f"family and transport {family:#04x} are not those of a connection")
            if end < _PREFIX + size:
                raise BadProxyHeader(f"the PROXY header is too short for its addresses: {end} bytes")
        else:
            family = 0
        if len(data) < end:
            return None
        self._addresses(family, data[_PREFIX:])
        return end

    def _addresses(self, family: int, data: bytes) -> None:
        if family == _TCP4:
            self.client = str(IPv4Address(data[:4]))
            self.port = int.from_bytes(data[10:12], "big")
        elif family == _TCP6:
            self.client = normalise(str(IPv6Address(data[:16])))
            self.port = int.from_bytes(data[34:36], "big")
        elif family == _STREAM:
            self.client = UNIX


def _address(kind: Kind, word: bytes) -> str:
    try:
        text = word.decode("ascii")
        if "%" not in text:
            return normalise(str(kind(text)))
    except (AddressValueError, UnicodeDecodeError):
        pass
    raise BadProxyHeader("an address in the PROXY line is none of its family")


def _port(word: bytes) -> int:
    if not word.isdigit() or len(word) > 5 or (word[:1] == b"0" and word != b"0") or int(word) > 65535:
        raise BadProxyHeader("a port in the PROXY line is none")
    return int(word)
