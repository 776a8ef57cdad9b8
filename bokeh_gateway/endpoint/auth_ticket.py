"""A sign-in that an embedded app's WebSocket shows in its session token, as it has no other place for one.

`server_document` puts the parent's credential into the request for autoload.js, as an argument or a header.  The
WebSocket that follows carries neither, and the cookies of another site's page are not to be relied upon: browsers
withhold them.  But it carries the session token, in which a worker repeats the headers of the request that made the
session.  So the gateway adds one to that request: a ticket, sealed, that says who it was, for which app and how long.
Nothing is kept, so it opens in every gateway process with the same secret, and the worker never sees the credential.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bokeh_gateway.bokeh.paths import app_path
from bokeh_gateway.bokeh.request import session_refs
from bokeh_gateway.bokeh.token import page_header
from bokeh_gateway.policy.identity import Identity
from bokeh_gateway.policy.verdict import Deny

if TYPE_CHECKING:
    from bokeh_gateway.endpoint.auth_cookie import Seal
    from bokeh_gateway.http.head import RequestHead

HEADER: Final = "X-Gateway-Ticket"
LARGEST: Final = 4096
"""Bytes of a ticket: it stands in every token of the page, whose size is limited on its way."""


class Tickets:
    """Of one method of [auth].

    Args:
        leeway: seconds that a sign-in outlives its end.
    """

    def __init__(self, seal: Seal, method: str, leeway: float) -> None:
        self._seal = seal
        self._method = method
        self._leeway = leeway

    def line(self, identity: Identity, path: bytes) -> tuple[bytes, ...]:
        """The line for the request for `path`, as `name, b": ", value, b"\\r\\n"`; nothing where it is too big."""
        content = {
            "app": app_path(path).decode("latin-1"),
            "user": identity.user,
            "groups": sorted(identity.groups),
            "scopes": sorted(identity.scopes),
            "expires": identity.expires,
            "subject": identity.subject,
            "headers": identity.headers,
        }
        sealed = self._seal.close(content)
        return (HEADER.encode(), b": ", sealed, b"\r\n") if len(sealed) <= LARGEST else ()

    def read(self, head: RequestHead, now: float) -> Identity | Deny | None:
        """Who the page of this WebSocket was made for; None where its token has no ticket for this app."""
        token = session_refs(head).subprotocol
        sealed = page_header(token, HEADER) if token is not None else None
        content = self._seal.open(sealed.encode("ascii", "replace")) if sealed is not None else None
        if content is None or content["app"] != app_path(head.path).decode("latin-1"):
            return None
        if now >= content["expires"] + self._leeway:
            ago = now - content["expires"]
            return Deny(401, "token-expired", f"the sign-in that the page was embedded with ended {ago:.0f} s ago")
        return Identity(
            content["user"],
            self._method,
            frozenset(content["groups"]),
            frozenset(content["scopes"]),
            content["expires"],
            content["subject"],
            tuple((name, value) for name, value in content["headers"]),
        )
