"""What `[headers]` and `[embed]` change in an answer's headers: made once for each route, as bytes.  Pure.

Sources: CSP Level 3, Fetch (CORS), Referrer Policy, Permissions Policy.  The Content-Security-Policy of the presets is
tried on pages of Bokeh in `tests/browser/test_security.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from bokeh_gateway.bokeh.paths import is_autoload, is_static
from bokeh_gateway.config.origin_pattern import parse_origin_pattern

Security = Literal["strict", "embed", "off"]

CORS: Final = frozenset(
    b"access-control-" + name
    for name in (
        b"allow-origin",
        b"allow-credentials",
        b"allow-headers",
        b"allow-methods",
        b"expose-headers",
        b"max-age",
        b"allow-private-network",
    )
)
"""What the gateway says in a worker's place where `[embed] origins` is set."""

_POLICY: Final = (
    "default-src 'self'; "
    # Pages and server_document begin with inline scripts that have no nonce.  BokehJS runs CustomJS and templates by
    # `new Function`, which is eval to a browser.
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    # Every view of BokehJS puts a style element or attribute into its shadow root; Panel's templates have their fonts
    # from Google, by a style sheet that leads to the files.
    "style-src 'self' 'unsafe-inline' https://fonts.googleapis.com; "
    # Icons and exported plots are data: and blob: images; tiles and image glyphs come from anywhere, by https.
    "img-src 'self' data: blob: https:; "
    "font-src 'self' data: https://fonts.gstatic.com; "
    "media-src 'self' data: blob:; "
    "worker-src 'self' blob:; "
    "connect-src 'self'; "
    "object-src 'none'; base-uri 'self'; form-action 'self'"
)
_COMMON: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=(), serial=(), bluetooth=()",
}
_STRICT: Final = {"Cross-Origin-Opener-Policy": "same-origin", "X-Frame-Options": "SAMEORIGIN"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What [headers], or [route.headers], asks for."""

    set: Mapping[str, str]
    add: Mapping[str, str]
    remove: Sequence[str]


class ResponseHeaders:
    """What is done to every answer of a route.

    Attributes:
        lines: header lines that every answer gets.
        drop: lower-case names of headers that are not passed on from a worker.
    """

    __slots__ = ("_cors_drop", "drop", "lines")

    def __init__(self, security: Security, embed: Sequence[str], changes: Iterable[Changes]) -> None:
        """`embed` is `[embed] origins`; of `changes` the later go before the earlier."""
        wanted = {name.lower(): (name, value) for name, value in preset(security, embed).items()}
        drop = set(wanted)
        if embed:
            drop.add("x-frame-options")  # knows no list of origins, and frame-ancestors goes before it
        added: list[tuple[str, str]] = []
        for change in changes:
            named = {name.lower() for name in (*change.remove, *change.set)}
            added = [(name, value) for name, value in added if name.lower() not in named]
            drop |= named
            for name in change.remove:
                wanted.pop(name.lower(), None)
            for name, value in change.set.items():
                wanted[name.lower()] = (name, value)
            added += change.add.items()
        # A worker's own policy stays in force beside frame-ancestors alone: browsers heed both.
        if security == "off" and "content-security-policy" not in _named(changes):
            drop.discard("content-security-policy")
        self.lines = b"".join(f"{n}: {v}\r\n".encode("latin-1") for n, v in (*wanted.values(), *added))
        self.drop = frozenset(name.encode("latin-1") for name in drop)
        self._cors_drop = self.drop | CORS if embed else self.drop

    def kept(self, plain: list[bytes], path: bytes) -> list[bytes]:
        """A worker's lines (`name, b": ", value, b"\\r\\n", ...`) without those that are not passed on."""
        drop = self._cors_drop if is_autoload(path) or is_static(path) else self.drop
        names = {name.lower() for name in plain[::4]}
        if names.isdisjoint(drop):
            return plain
        starts = [at for at in range(0, len(plain), 4) if plain[at].lower() not in drop]
        return [piece for at in starts for piece in plain[at : at + 4]]

    def kept_of_static(self, headers: bytes) -> bytes:
        """The same for the gateway's own header lines of a static file."""
        lines = headers.split(b"\r\n")[:-1]
        drop = self._cors_drop
        return b"".join(line + b"\r\n" for line in lines if line.partition(b":")[0].lower() not in drop)


def _named(changes: Iterable[Changes]) -> set[str]:
    return {name.lower() for change in changes for name in (*change.set, *change.remove)}


def preset(security: Security, embed: Sequence[str]) -> dict[str, str]:
    """The headers of a preset, and `frame-ancestors` for `[embed] origins`."""
    ancestors = " ".join(("frame-ancestors 'self'", *frame_sources(embed)))
    if security == "off":
        return {"Content-Security-Policy": ancestors} if embed else {}
    policy = {"Content-Security-Policy": f"{_POLICY}; {ancestors}"}
    if security == "strict":
        return policy | _COMMON | (_STRICT if not embed else {"Cross-Origin-Opener-Policy": "same-origin"})
    return policy | _COMMON | {"Cross-Origin-Resource-Policy": "cross-origin"}


def frame_sources(embed: Sequence[str]) -> list[str]:
    """Origin patterns as CSP host sources.

    A pattern without scheme is both: CSP alone would read it as the page's own scheme.  CSP's `*.` stands for one label
    or more, where ours is one label: a frame may be held by more pages than may open a WebSocket.  It can only stand
    first: of a host with further ones the last labels are said.  The opaque origin is no source.
    """
    sources: list[str] = []
    for text in embed:
        pattern = parse_origin_pattern(text)
        port = f":{pattern.port}" if pattern.port else ""
        if pattern.null:
            continue
        if pattern.anything:
            sources.append("*")
            continue
        schemes = (pattern.scheme,) if pattern.scheme else ("http", "https")
        name = _host_source(pattern.labels)
        host = "" if name == "*" and not port else f"//{name}{port}"
        sources += [f"{scheme}:{host}" for scheme in schemes]
    return sources


def _host_source(labels: Sequence[str]) -> str:
    """The labels of a pattern with one wildcard at most, and that first."""
    if "*" not in labels[1:]:
        return ".".join(labels)
    last = len(labels) - 1 - list(reversed(labels)).index("*")
    return ".".join(labels[last:])
