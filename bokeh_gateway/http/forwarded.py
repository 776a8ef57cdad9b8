"""Who the client is, and what a worker is told about it.  Pure: no I/O, no clock, no logging.

Nobody's `X-Forwarded-*` is believed but a trusted proxy's.  Without trusted proxies all lines but `X-Forwarded-Host`
are constant for a connection: `constant_lines` once, `host_line` for each request, `may_pass` for each received header.
With one, `resolve` reads the chain from the right, as each hop vouches only for the one before it.

Sources: RFC 7239 section 8 (what may be believed), RFC 3986 section 3.2.2 (hosts), RFC 9110 section 7.2 (Host).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

UNIX: Final = "unix"
"""The address of a peer that came over a unix socket; `trusted_proxies = ["unix:"]` trusts it."""

REPLACED: Final = frozenset(
    {
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
        b"x-forwarded-server",
        b"x-real-ip",
        b"x-scheme",
    }
)
"""Names that are never sent on as received, not even a trusted proxy's: the gateway writes its own."""

STRIPPED: Final = REPLACED | {
    b"client-ip",
    b"remote-user",
    b"true-client-ip",
    b"x-client-ip",
    b"x-cluster-client-ip",
    b"x-forwarded",
    b"x-forwarded-access-token",
    b"x-forwarded-by",
    b"x-forwarded-email",
    b"x-forwarded-groups",
    b"x-forwarded-path",
    b"x-forwarded-prefix",
    b"x-forwarded-preferred-username",
    b"x-forwarded-protocol",
    b"x-forwarded-scheme",
    b"x-forwarded-ssl",
    b"x-forwarded-uri",
    b"x-forwarded-user",
    b"x-original-forwarded-for",
    b"x-original-host",
    b"x-original-url",
    b"x-remote-user",
    b"x-rewrite-url",
    b"x-script-name",
    b"x-url-scheme",
}
"""Names that only a trusted proxy may send: frameworks behind us take them for a proxy's word."""

VIA: Final = b"Via: 1.1 bokeh-gateway\r\n"
"""Says to the next hop that the request came through a gateway; `MAX_HOPS` of them are a loop."""
MAX_HOPS: Final = 5
CHAIN_LENGTH: Final = 32
"""Hops of `X-Forwarded-For`, counted from the right, that are read and sent on."""
_CACHED: Final = 1024
_LONGEST_HOST: Final = 253 + len(":65535")

Network = IPv4Network | IPv6Network

# No comma, though RFC 3986 lets a reg-name have one: two Host headers joined must not look like one.
_HOST: Final = re.compile(
    rb"(?P<name>(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+|\[(?=[0-9A-Fa-f]*:)[0-9A-Fa-f:.]{2,45}\])"
    rb"(?::(?P<port>[0-9]{0,5}))?"
)
_WITH_PORT: Final = re.compile(r"\[(?P<six>[^\]]*)\](?::[0-9]{1,5})?|(?P<four>[0-9.]+):[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What is known of a request's origin, once the trusted proxies have been heard."""

    client: str
    """Address for log and limits: the right-most that is no trusted proxy; `unix` for an unnamed local peer."""
    scheme: str
    """`http` or `https`, as the browser sees it."""
    host: bytes
    """Host as the browser sees it."""
    lines: bytes
    """Header lines for the worker, `Name: value\\r\\n` each."""


@dataclass(frozen=True, slots=True)
class PublicUrl:
    """Where browsers find the gateway, as `public_url` says."""

    scheme: str
    port: int
    line: bytes
    """The `X-Forwarded-Host` line."""


def public_url(url: str) -> PublicUrl:
    """The parts of a `public_url` that has been found valid."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return PublicUrl(parts.scheme, port, host_line(parts.netloc.encode("ascii")))


class TrustedProxies:
    """The peers whose `X-Forwarded-*` are believed: networks, single addresses, and `unix:`.

    Raises:
        ValueError: an entry is none of these.
    """

    __slots__ = ("_known", "_networks", "_unix")

    def __init__(self, entries: Sequence[str | Network] = ()) -> None:
        self._unix = any(entry in ("unix:", UNIX) for entry in entries)
        self._networks: tuple[Network, ...] = tuple(
            parse_network(entry) for entry in entries if entry not in ("unix:", UNIX)
        )
        self._known: dict[str, bool] = {}

    def __bool__(self) -> bool:
        return self._unix or bool(self._networks)

    def trusts(self, address: str) -> bool:
        """Whether `address`, as `normalise` gives it, is a trusted proxy."""
        known = self._known.get(address)
        if known is None:
            known = self._look_up(address)
            if len(self._known) >= _CACHED:
                self._known.clear()
            self._known[address] = known
        return known

    def _look_up(self, address: str) -> bool:
        if address == UNIX:
            return self._unix
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)


def parse_network(entry: str | Network) -> Network:
    """`10.0.0.0/8`, `::1`, ... as a network; an IPv4-mapped one as the IPv4 network it stands for.

    Raises:
        ValueError: it is neither an address nor a network, or has bits set behind its prefix.
    """
    network = ip_network(entry.strip()) if isinstance(entry, str) else entry
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:
        return IPv4Network((mapped, network.prefixlen - 96))
    return network


def normalise(peer: str) -> str:
    """A peer's address from the socket's: without scope, IPv4-mapped as IPv4, `unix` for an empty one or a path."""
    if peer.count(".") == 3 and ":" not in peer:
        return peer
    if not peer or peer.startswith(("/", "\0", "@")):
        return UNIX
    return _address(peer.partition("%")[0]) or UNIX


def network(address: str) -> str:
    """What limits count an address under: an IPv6 client has a network of 2^64 of them (RFC 6177), so that counts.

    `address` as `normalise` gives it.
    """
    if ":" not in address:
        return address
    known = _networks.get(address)
    if known is None:
        known = str(IPv6Network((int(IPv6Address(address)) >> 64 << 64, 64)))
        if len(_networks) >= _CACHED:
            _networks.clear()
        _networks[address] = known
    return known


_networks: dict[str, str] = {}


def constant_lines(peer: str, scheme: str, port: int) -> bytes:
    """The header lines that stay the same on a connection whose peer is no trusted proxy.

    `peer` as `normalise` gives it; of a unix peer there is no address to tell, and a made-up one would be a lie.
    `port` is the listener's, 0 if it has none.
    """
    who = "" if peer == UNIX else f"X-Forwarded-For: {peer}\r\nX-Real-IP: {peer}\r\n"
    where = f"X-Forwarded-Port: {port}\r\n" if port else ""
    return f"{who}X-Forwarded-Proto: {scheme}\r\nX-Scheme: {scheme}\r\n{where}".encode("ascii")


def host_line(host: bytes) -> bytes:
    """`X-Forwarded-Host` for a request whose Host is `host`, already found valid; nothing if it has none."""
    return b"X-Forwarded-Host: %b\r\n" % host if host else b""


def may_pass(name: bytes, *, trusted: bool = False) -> bool:
    """Whether a received header of this lower-cased name may be sent on.

    Names with `_` never: CGI and WSGI take `X_Forwarded_For` for `X-Forwarded-For`.
    """
    return name not in (REPLACED if trusted else STRIPPED) and b"_" not in name


def resolve(
    pairs: Iterable[tuple[bytes, bytes]],
    peer: str,
    scheme: str,
    port: int,
    host: bytes,
    trusted: TrustedProxies,
    public: PublicUrl | None = None,
) -> Forwarded:
    """What the client is and what goes upstream; `pairs` are the headers as received.

    `peer` as `normalise` gives it, `scheme` and `port` (0: none) the listener's, `host` the request's, found valid.
    A peer that is not trusted is the client itself, and its headers are not read.  `public` overrules all but addresses
    in what goes upstream.
    """
    if not trusted.trusts(peer):
        return Forwarded(peer, scheme, host, constant_lines(peer, scheme, port) + host_line(host))
    said = _collect(pairs)
    chain = _chain(said.get(b"x-forwarded-for", b""))
    client = _client(chain, peer, trusted)
    told = _scheme(said)
    seen_host = _last(said.get(b"x-forwarded-host", b""))
    if not valid_host(seen_host):
        seen_host = host
    seen_port = _port(_last(said.get(b"x-forwarded-port", b""))) or _port_of(seen_host, told) or port
    hops = [*chain, *([] if peer == UNIX else [peer])]
    lines = f"X-Forwarded-For: {', '.join(hops)}\r\n" if hops else ""
    lines += "" if client == UNIX else f"X-Real-IP: {client}\r\n"
    shown = public.scheme if public is not None else told or scheme
    shown_port = public.port if public is not None else seen_port
    lines += f"X-Forwarded-Proto: {shown}\r\nX-Scheme: {shown}\r\n"
    lines += f"X-Forwarded-Port: {shown_port}\r\n" if shown_port else ""
    line = public.line if public is not None else host_line(seen_host)
    return Forwarded(client, told or scheme, seen_host, lines.encode("ascii") + line)


def valid_host(value: bytes) -> bool:
    """Whether `value` is `host[:port]` of RFC 3986: a name, IPv4 or [IPv6]; no user, path, comma or space.

    An empty port is one ("localhost:"), port 0, an empty host and an empty label are not.
    """
    known = _hosts.get(value)
    if known is None:
        known = _is_host(value)
        if len(_hosts) >= _CACHED:
            _hosts.clear()
        if len(value) <= _LONGEST_HOST:
            _hosts[value] = known
    return known


_hosts: dict[bytes, bool] = {}


def split_host(value: bytes) -> tuple[str, int | None]:
    """A valid host in the form that is compared: lower case, no trailing dot, no brackets; its port if it names one."""
    name, colon, port = value.rpartition(b":")
    if not colon or value.endswith(b"]"):
        name, port = value, b""
    text = name.decode("latin-1").lower()
    if text.startswith("["):
        text = _address(text[1:-1]) or text[1:-1]
    return text.removesuffix("."), int(port) if port else None


def _is_host(value: bytes) -> bool:
    found = _HOST.fullmatch(value) if len(value) <= _LONGEST_HOST else None
    if found is None:
        return False
    name, port = found["name"], found["port"]
    if name.startswith(b".") or b".." in name:
        return False
    if name.startswith(b"[") and _address(name[1:-1].decode("ascii")) is None:
        return False
    return not port or 0 < int(port) <= 65535


def _collect(pairs: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The headers that are the gateway's to write, by lower-cased name, several lines joined with commas."""
    said: dict[bytes, bytes] = {}
    for name, value in pairs:
        lower = name.lower()
        if lower in REPLACED:
            said[lower] = b"%b,%b" % (said[lower], value) if lower in said else value
    return said


def _chain(value: bytes) -> list[str]:
    """The last hops that `X-Forwarded-For` names, oldest first; what is no address is `unknown`."""
    if not value.strip(b" \t,"):
        return []
    entries = value.rsplit(b",", CHAIN_LENGTH)[-CHAIN_LENGTH:]
    return [_hop(entry.strip(b' \t"').decode("latin-1")) for entry in entries if entry.strip()]


@lru_cache(_CACHED)
def _hop(entry: str) -> str:
    if len(entry) > 64:
        return "unknown"
    found = _WITH_PORT.fullmatch(entry)
    return _address((found["six"] or found["four"] or "") if found else entry) or "unknown"


def _client(chain: Sequence[str], peer: str, trusted: TrustedProxies) -> str:
    """The right-most hop that is no trusted proxy; where the chain cannot be read further, the last one that could."""
    client = peer
    for hop in reversed(chain):
        if hop == "unknown":
            break
        client = hop
        if not trusted.trusts(hop):
            break
    return client


def _scheme(said: dict[bytes, bytes]) -> str | None:
    """What a trusted proxy says the browser used; the last word if several were said, as in Tornado."""
    for name in (b"x-forwarded-proto", b"x-scheme"):
        scheme = _last(said.get(name, b"")).lower()
        if scheme in (b"http", b"https"):
            return scheme.decode("ascii")
    return None


def _last(value: bytes) -> bytes:
    return value.rpartition(b",")[2].strip()


def _port(value: bytes) -> int | None:
    return int(value) if value.isdigit() and len(value) <= 5 and 0 < int(value) <= 65535 else None


def _port_of(host: bytes, scheme: str | None) -> int | None:
    """The port in `host`, else the one that a told scheme implies."""
    return (split_host(host)[1] if host else None) or {"http": 80, "https": 443}.get(scheme or "")


def _address(text: str) -> str | None:
    """An IP address in its one form, IPv4-mapped as IPv4; None if it is none.  Scopes are a host's own affair: none."""
    if "%" in text:
        return None
    try:
        parsed: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return str(mapped or parsed)
