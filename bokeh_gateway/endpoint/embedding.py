"""`[embed]` and `[headers]` at the exchange: a route's answer headers, CORS with its preflight, mixed content."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from bokeh_gateway.bokeh.paths import is_autoload, is_static
from bokeh_gateway.endpoint.representation import Answer
from bokeh_gateway.http.forwarded import split_host
from bokeh_gateway.policy.cors import Cors
from bokeh_gateway.policy.response_headers import Changes, ResponseHeaders
from bokeh_gateway.policy.verdict import Deny

if TYPE_CHECKING:
    from bokeh_gateway.config.schema import Config, Route
    from bokeh_gateway.endpoint.router import Mount
    from bokeh_gateway.wire.exchange import Exchange

log = logging.getLogger(__name__)

_REMEMBERED: Final = 1000
"""Origins whose mixed content was said already; origins are the client's to invent."""


def embedding(config: Config) -> Embedding | None:
    """[embed] and [headers] of a configuration; None where nothing is changed."""
    if all(response_headers(config, route) is None for route in (None, *config.route)):
        return None
    return Embedding(response_headers(config, None), Cors(config.embed.origins) if config.embed.origins else None)


def response_headers(config: Config, route: Route | None) -> ResponseHeaders | None:
    """What is changed in the answers of a route; None: nothing."""
    own = route.headers if route is not None else None
    changes = [Changes(set=table.set, add=table.add, remove=table.remove) for table in (config.headers, own) if table]
    security = own.security if own is not None and own.security is not None else config.headers.security
    if security == "off" and not config.embed.origins and not any(c.set or c.add or c.remove for c in changes):
        return None
    return ResponseHeaders(security, config.embed.origins, changes)


class Embedding:
    """What answers get, by route."""

    def __init__(self, headers: ResponseHeaders | None, cors: Cors | None) -> None:
        """`headers` are those of what has no route; `cors` is None where `[embed] origins` is empty."""
        self._headers = headers
        self._cors = cors

    def begin(self, exchange: Exchange, mount: Mount | None) -> Answer | Deny | None:
        """Gives the exchange its header lines.  Returns the answer to a preflight, None for any other request."""
        headers = mount.headers if mount is not None else self._headers
        if headers is not None:
            exchange.more_lines += headers.lines
        cors = self._cors
        if cors is None:
            return None
        head = exchange.head
        path = head.path
        if not (is_autoload(path) or is_static(path)):
            return None
        if head.method == b"OPTIONS" and head.get(b"access-control-request-method") is not None:
            lines = cors.preflight(head.origins, head.get(b"access-control-request-headers"))
            return lines if isinstance(lines, Deny) else Answer(204, lines)
        exchange.more_lines += cors.lines(head.origins)
        return None

    def of_static(self, mount: Mount | None, answer: Answer) -> Answer:
        """A static file without the headers that the exchange has in their place."""
        headers = mount.headers if mount is not None else self._headers
        if headers is None:
            return answer
        return Answer(answer.status, headers.kept_of_static(answer.headers), answer.body)


class MixedContent:
    """Says once for each origin that its pages and the gateway differ in TLS."""

    def __init__(self) -> None:
        self._said: set[bytes] = set()

    def note(self, exchange: Exchange, host: bytes) -> None:
        """`host`: what the browser called the gateway."""
        origin = exchange.head.origins[0]
        secure = exchange.secure
        if origin.startswith(b"http://" if secure else b"https://") and origin not in self._said:
            self._say(origin, host, secure)

    def _say(self, origin: bytes, host: bytes, secure: bool) -> None:
        authority = origin.partition(b"://")[2]
        # The gateway's own name with the other scheme: something in front does the TLS, and says nothing of it.
        if split_host(authority)[0] == split_host(host)[0] or len(self._said) >= _REMEMBERED:
            return
        self._said.add(origin)
        shown = ascii(origin[:200].decode("latin-1"))
        if secure:
            log.warning(
                "mixed content: an http page of %s embeds this https gateway; whoever can change that page has the "
                "session, and cookies of the gateway are not sent from it: serve the page by https",
                shown,
            )
        else:
            log.warning(
                "mixed content: an https page of %s embeds this gateway by http, which browsers block but for "
                "localhost: set [tls], or [gateway] trusted_proxies where a proxy in front does the TLS",
                shown,
            )
