"""What somebody gets who is not signed in: a page is led to the login, all else is told 401.  Pure.

A script, an image or a WebSocket that is redirected to a login page only breaks in a way that nobody understands.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Protocol

from bokeh_gateway.bokeh.paths import is_autoload

_FRAMES: Final = frozenset({b"iframe", b"frame", b"embed", b"object"})


class Head(Protocol):
    """What is needed of `http.head.RequestHead`."""

    @property
    def method(self) -> bytes: ...
    @property
    def path(self) -> bytes: ...
    @property
    def upgrade(self) -> bytes: ...
    def get(self, name: bytes) -> bytes | None: ...


def may_redirect(head: Head) -> bool:
    """Whether the answer is shown as a page, so that a login can stand in its place."""
    if head.method not in (b"GET", b"HEAD") or head.upgrade or is_autoload(head.path):
        return False
    mode = head.get(b"sec-fetch-mode")
    if mode is not None:
        return mode == b"navigate"
    if head.get(b"x-requested-with") is not None or head.get(b"bokeh-session-id") is not None:
        return False
    accept = head.get(b"accept")
    return accept is None or b"text/html" in accept or b"*/*" in accept


def is_foreign_frame(head: Head) -> bool:
    """Whether a page of another site shows the answer in a frame: cookies set there are not kept, or not sent."""
    return head.get(b"sec-fetch-site") == b"cross-site" and head.get(b"sec-fetch-dest") in _FRAMES


def is_cross_site(origins: tuple[bytes, ...], fetch_site: bytes | None, hosts: Collection[bytes]) -> bool:
    """Whether another site made the browser send a form: a login that the user did not begin (login CSRF).

    `origins`: the values of Origin; browsers send it with every POST.  A client that sends neither is no browser.
    `hosts`: what the gateway is called.  `fetch_site` decides where it is: no page can make a browser say another one,
    and a proxy in front may have sent another Host.
    """
    if fetch_site is not None:
        return fetch_site not in (b"same-origin", b"none")
    own = {_bare(host) for host in hosts}
    for origin in origins:
        _, separator, authority = origin.lower().partition(b"://")
        if not separator or _bare(authority) not in own:
            return True
    return False


def _bare(authority: bytes) -> bytes:
    return authority.removesuffix(b":443").removesuffix(b":80")
