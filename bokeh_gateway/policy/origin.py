"""Which browser origins may open a WebSocket.  Pure: no I/O, no clock, no logging.

An origin is admitted when `[origins] allow` lists it, or when it equals the request's own Host and that Host is an IP
literal, a loopback name or a name that the gateway owns: any other Host proves nothing, for whoever owns a domain can
point it at us (DNS rebinding).  Sources: RFC 6454 sections 6 and 7, RFC 6455 section 10.2, the patterns of
`bokeh serve --allow-websocket-origin`.  Loopback names are one group: a developer's page is at any of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from bokeh_gateway.config.origin_pattern import LABEL, OriginPattern, parse_origin_pattern
from bokeh_gateway.policy.verdict import ALLOW, Deny, Verdict

SHOWN: Final = 200
"""Characters of a foreign origin that a refusal repeats."""

_LISTED: Final = 10
"""Patterns that a refusal names before it only counts the rest."""

_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_OTHER: Final = "other"
"""Stands for every scheme but http and https, such as `vscode-webview`: only patterns without a scheme fit it."""

_SCHEMES: Final = (*_DEFAULT_PORTS, _OTHER)
_LOOPBACK: Final = "localhost"
_HOST: Final = r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)"
_ORIGIN: Final = re.compile(rf"([a-z][a-z0-9+.-]*)://{_HOST}(?::([1-9][0-9]{{0,4}}))?")
_AUTHORITY: Final = re.compile(rf"{_HOST}(?::([0-9]{{0,5}}))?")


@dataclass(frozen=True, slots=True)
class Origin:
    """A well-formed origin, lower case."""

    scheme: str
    """`http`, `https`, or `other`."""
    host: str
    """A name, an IPv4 address, or a compressed IPv6 address in brackets."""
    port: str
    """Decimal; the scheme's default filled in, which is 80 for a scheme of neither kind, as in Bokeh."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What wildcards are compared with."""
        return (self.host,) if self.host.startswith("[") else tuple(self.host.split("."))

    @property
    def pattern(self) -> str:
        """The shortest pattern that admits it."""
        default = _DEFAULT_PORTS.get(self.scheme, "80")
        return self.host if self.port == default else f"{self.host}:{self.port}"


class OriginPolicy:
    """`[origins]`, with the names that the gateway owns."""

    def __init__(self, allow: Sequence[str], required: bool, own_hosts: Sequence[str]) -> None:
        """`own_hosts` are names with or without port, `*.example.com` included; one with a scheme (`public_url`) is
        also an origin that is always admitted, whatever Host an outer proxy sends.

        Raises:
            ValueError: a pattern in `allow` is not one; what is odd in `own_hosts` (a certificate's) is passed over.
        """
        listed = [parse_origin_pattern(text) for text in allow]
        own = list(_readable(own_hosts))
        self._required = required
        self._allowed_text = _enumerated([str(text) for text in allow])
        self._null = any(_is_null(pattern) for pattern in listed)
        self._exact: set[tuple[str, str, str]] = set()
        self._wild: list[OriginPattern] = []
        for pattern in (*listed, *(pattern for pattern in own if pattern.scheme)):
            self._add(pattern)
        self._own = frozenset(pattern.host for pattern in own if not pattern.any_host)

    def check(self, origins: Sequence[str], host: str, secure: bool) -> Verdict:
        """May a page of this origin open a WebSocket here?

        `origins` are the values of all Origin lines, `host` is the value of Host, `secure` whether the browser's side
        is TLS, which gives Host its default port.
        """
        if not origins:
            return _missing() if self._required else ALLOW
        if len(origins) > 1:
            return _invalid(", ".join(origins), "the request has several Origin lines")
        seen = origins[0]
        if seen == "null":
            return ALLOW if self._null else self._not_listed(seen, "null")
        origin = parse_origin(seen)
        if origin is None:
            return _invalid(seen, "it is not scheme://host[:port]")
        if self._is_listed(origin) or self._is_own(origin, host, secure):
            return ALLOW
        return self._not_listed(seen, origin.pattern)

    def lists(self, seen: str) -> bool:
        """Whether an origin is listed, whatever Host says: for what other origins than the gateway's own may do."""
        if seen == "null":
            return self._null
        origin = parse_origin(seen)
        return origin is not None and self._is_listed(origin)

    def _add(self, pattern: OriginPattern) -> None:
        if _is_null(pattern):
            return
        if "*" in pattern.labels and pattern.host != "*.localhost":
            self._wild.append(pattern)
            return
        for scheme in (pattern.scheme,) if pattern.scheme else _SCHEMES:
            port = pattern.port or _DEFAULT_PORTS.get(scheme, "80")
            self._exact.add((scheme, _grouped(pattern.host), port))

    def _is_listed(self, origin: Origin) -> bool:
        scheme, host = origin.scheme, _grouped(origin.host)
        return (
            (scheme, host, origin.port) in self._exact
            or (scheme, host, "*") in self._exact
            or any(_fits(origin, pattern) for pattern in self._wild)
        )

    def _is_own(self, origin: Origin, host: str, secure: bool) -> bool:
        found = _AUTHORITY.fullmatch(host.lower()) if host.isascii() else None
        name = _host(found[1]) if found else None
        if found is None or name != origin.host or origin.scheme == _OTHER:
            return False
        # Without TLS here, an outer proxy may have ended it: then the browser's default port was 443.
        ports = (found[2],) if found[2] else ("443",) if secure else ("80", "443")
        return origin.port in ports and self._is_trusted(name)

    def _is_trusted(self, name: str) -> bool:
        """Whether nobody but the operator can have made a browser send `name` as Host."""
        if name in self._own or is_loopback(name) or _is_literal(name):
            return True
        _, dot, parent = name.partition(".")
        return bool(dot) and f"*.{parent}" in self._own

    def _not_listed(self, seen: str, pattern: str) -> Deny:
        return Deny(
            403,
            "origin-not-listed",
            f"The origin {_shown(seen)} may not open a WebSocket here: it is neither this server's own address nor one "
            f"of the origins allowed ({self._allowed_text}).",
            f'[origins] allow = ["{pattern}"]',
        )


def parse_origin(text: str) -> Origin | None:
    """The origin in `text`, or None: user, path, query, fragment, space, percent, a dot at the end are in no origin."""
    # Before `lower`, which turns some letters of other alphabets into ours.
    if not text.isascii():
        return None
    found = _ORIGIN.fullmatch(text.lower())
    host = _host(found[2]) if found else None
    if found is None or host is None:
        return None
    scheme = found[1] if found[1] in _DEFAULT_PORTS else _OTHER
    port = found[3] or _DEFAULT_PORTS.get(scheme, "80")
    return Origin(scheme, host, port) if int(port) <= 65535 else None


def is_loopback(host: str) -> bool:
    """localhost and what is below it (RFC 6761 section 6.3), 127.0.0.0/8, [::1], and the latter two written as one."""
    if host == _LOOPBACK or host.endswith(".localhost"):
        return True
    try:
        if not host.startswith("["):
            return IPv4Address(host).is_loopback
        address = IPv6Address(host[1:-1])
        return (address.ipv4_mapped or address).is_loopback
    except ValueError:
        return False


def _host(text: str) -> str | None:
    """A host as origins and patterns spell it; None when no browser would send it."""
    try:
        if text.startswith("["):
            return f"[{IPv6Address(text[1:-1]).compressed}]"
        labels = text.split(".")
        # A name that ends in a number is an IPv4 address or nothing (WHATWG URL, "ends in a number checker").
        if labels[-1].isdigit():
            return str(IPv4Address(text))
    except ValueError:
        return None
    return text if len(text) <= 253 and all(LABEL.match(label) for label in labels) else None


def _is_literal(host: str) -> bool:
    return host.startswith("[") or host.rpartition(".")[2].isdigit()


def _grouped(host: str) -> str:
    return _LOOPBACK if is_loopback(host) or host == "*.localhost" else host


def _is_null(pattern: OriginPattern) -> bool:
    return pattern.null and pattern.scheme is None and pattern.port is None


def _fits(origin: Origin, pattern: OriginPattern) -> bool:
    if pattern.scheme not in (None, origin.scheme):
        return False
    if pattern.port != "*" and (pattern.port or _DEFAULT_PORTS.get(origin.scheme, "80")) != origin.port:
        return False
    if pattern.any_host:
        return True
    labels = origin.labels
    return len(labels) == len(pattern.labels) and all(
        want in ("*", label) for want, label in zip(pattern.labels, labels, strict=True)
    )


def _readable(own_hosts: Iterable[str]) -> Iterable[OriginPattern]:
    for text in own_hosts:
        try:
            yield parse_origin_pattern(text)
        except ValueError:
            continue


def _enumerated(allow: Sequence[str]) -> str:
    if not allow:
        return "none is listed"
    rest = len(allow) - _LISTED
    return ", ".join(allow[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")


def _shown(text: str) -> str:
    """Escaped, so that it can stand in one line of a log, and cut."""
    escaped = ascii(text[: SHOWN + 1])
    return escaped if len(escaped) <= SHOWN else f"{escaped[:SHOWN]}..."


def _invalid(seen: str, why: str) -> Deny:
    return Deny(403, "origin-invalid", f"The origin {_shown(seen)} is no origin of a browser: {why}.")


def _missing() -> Deny:
    return Deny(
        403,
        "origin-missing",
        "The request names no origin, and this server wants one of every WebSocket.",
        "[origins] required = false",
    )


parse_pattern = parse_origin_pattern
"""The syntax of a pattern, for whoever checks a configuration."""
