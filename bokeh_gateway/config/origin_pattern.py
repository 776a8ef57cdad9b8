"""How `[origins] allow` is written: `[scheme://]host[:port]`.  Pure: syntax only, what matches is policy's to decide.

Source: `bokeh serve --allow-websocket-origin` (`bokeh.server.util.match_host`), RFC 6454 section 6 for `null`.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

SCHEMES: Final = ("http", "https")
LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\Z")
EXPECTED: Final = 'an origin pattern such as "acme.com", "*.acme.com:8443", "https://acme.com", "[::1]:5006" or "null"'


@dataclass(frozen=True, slots=True)
class OriginPattern:
    """One parsed pattern: lower case, ports decimal, IPv6 compressed, international names in their `xn--` form."""

    scheme: str | None
    """`http` or `https`; None: either."""
    labels: tuple[str, ...]
    """The host, one item a label; `*` stands for one whole label.  `("*",)` is any host of any length, `("[::1]",)`
    an IPv6 literal, `("null",)` the opaque origin."""
    port: str | None
    """Decimal digits, `*` for any, None for the default port: 80 or 443, the scheme's own one if there is a scheme."""

    @property
    def any_host(self) -> bool:
        """Whether every host fits, however many labels it has."""
        return self.labels == ("*",)

    @property
    def anything(self) -> bool:
        """Whether every origin with a host fits: `*` or `*:*`."""
        return self.any_host and self.port == "*" and self.scheme is None

    @property
    def null(self) -> bool:
        """Whether this is the opaque origin of sandboxed frames and files."""
        return self.labels == ("null",)

    @property
    def host(self) -> str:
        """The host part as one string, wildcards left in."""
        return ".".join(self.labels)

    def __str__(self) -> str:
        scheme = f"{self.scheme}://" if self.scheme else ""
        port = f":{self.port}" if self.port else ""
        return scheme + self.host + port


def parse_origin_pattern(text: str) -> OriginPattern:
    """The pattern that `text` says.

    `*` alone is any host at any port, as in Bokeh; `https://*` is any host at port 443.

    Raises:
        ValueError: the message says what was expected.
    """
    if text == "null":
        return OriginPattern(None, ("null",), None)
    scheme, rest = _split_scheme(text.lower())
    if not rest or any(c in rest for c in "/?#@%\\") or rest.split() != [rest]:
        raise ValueError(f"{EXPECTED}, without user, path, query or spaces")
    if rest == "*":
        return OriginPattern(scheme, ("*",), None if scheme else "*")
    host, port = _split_port(rest)
    return OriginPattern(scheme, _labels(host), port)


def _split_scheme(text: str) -> tuple[str | None, str]:
    """`https://a` is ("https", "a"); without a scheme None."""
    scheme, found, rest = text.partition("://")
    if not found:
        return None, text
    if scheme not in SCHEMES:
        raise ValueError("http:// or https:// as the scheme of an origin, or none for either")
    return scheme, rest


def _split_port(text: str) -> tuple[str, str | None]:
    """Host and port; the colons of an IPv6 literal are inside its brackets."""
    bracket = text.rfind("]")
    colon = text.find(":", bracket + 1)
    if colon < 0:
        return text, None
    host, port = text[:colon], text[colon + 1 :]
    if ":" in port:
        raise ValueError(f"{EXPECTED}; an IPv6 address stands in brackets: [::1]")
    if port == "*":
        return host, port
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ValueError("a port from 1 to 65535, or * for any, after the host of an origin")
    return host, str(int(port))


def _labels(host: str) -> tuple[str, ...]:
    """The labels of a host, each one valid or a whole `*`."""
    if host.startswith("["):
        return (_ipv6(host),)
    labels = tuple(label if label == "*" else _ascii(label) for label in host.split("."))
    if not all(label == "*" or LABEL.match(label) for label in labels):
        raise ValueError(f"{EXPECTED}; * stands for one whole label or the port")
    return labels


def _ipv6(host: str) -> str:
    """`[0:0::1]` as browsers write it: `[::1]`."""
    try:
        return f"[{ipaddress.IPv6Address(host.removeprefix('[').removesuffix(']')).compressed}]"
    except ValueError:
        raise ValueError("an IPv6 address in brackets, such as [::1]") from None


def _ascii(label: str) -> str:
    """An international label as browsers send it."""
    if label.isascii():
        return label
    try:
        return label.encode("idna").decode("ascii")
    except UnicodeError:
        raise ValueError(f"{EXPECTED}; {label!r} is no host label") from None
