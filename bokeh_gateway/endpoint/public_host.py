"""What the browser calls the gateway, where a proxy in front, or the configuration, knows better than Host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bokeh_gateway.wire.exchange import Exchange

_LINE: Final = b"X-Forwarded-Host: "


def public_host(exchange: Exchange) -> bytes:
    """`[gateway] public_url`'s host; else what a trusted proxy says; else the request's."""
    public = exchange.connection.edge.public
    if public is not None:
        return public.line.removeprefix(_LINE).rstrip(b"\r\n")
    for line in exchange.forward_lines.split(b"\r\n"):
        if line.startswith(_LINE):
            return line.removeprefix(_LINE)
    return exchange.head.host
