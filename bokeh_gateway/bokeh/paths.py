"""What a path on a Bokeh server stands for.  Pure; paths are raw bytes, as workers match them: never percent-decoded.

Source: `bokeh.server.urls`.  An app at `/app` has `/app`, `/app/`, `/app/ws`, `/app/autoload.js` and `/app/metadata`;
the server has `/static/` below its prefix.  Only the ends are looked at, for a worker's prefix can be anything.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

_STATIC: Final = b"/static/"
_WEBSOCKET: Final = b"/ws"
_AUTOLOAD: Final = b"/autoload.js"
_METADATA: Final = b"/metadata"


class Kind(Enum):
    """What answers at the path."""

    PAGE = "page"
    WEBSOCKET = "websocket"
    AUTOLOAD = "autoload"
    METADATA = "metadata"
    STATIC = "static"


class AppPath(NamedTuple):
    """A path taken apart."""

    app: bytes
    """Path of the app, no slash at the end but for the root; of a static file, what precedes `/static/`."""
    kind: Kind


def is_static(path: bytes) -> bool:
    """A file of BokehJS, of an extension, or of an app's own static folder: there is a `/static/` in it."""
    return _STATIC in path


def is_autoload(path: bytes) -> bool:
    """The script that embeds an app in a foreign page: creates a session, as a page does."""
    return path.endswith(_AUTOLOAD)


def static_tail(path: bytes) -> bytes | None:
    """What follows the first `/static/`, such as `js/bokeh.min.js`; None where there is no such segment."""
    _, found, tail = path.partition(_STATIC)
    return tail if found else None


def split(path: bytes) -> AppPath:
    """The app and what is asked of it; whatever has no special end is a page."""
    if _STATIC in path:
        return AppPath(path.partition(_STATIC)[0] or b"/", Kind.STATIC)
    for end, kind in _ENDS:
        if path.endswith(end):
            return AppPath(path[: -len(end)] or b"/", kind)
    return AppPath(path.rstrip(b"/") or b"/", Kind.PAGE)


def app_path(path: bytes) -> bytes:
    """The app's path, whichever of its paths this is: what its figures are counted under."""
    return split(path).app


_ENDS: Final = ((_WEBSOCKET, Kind.WEBSOCKET), (_AUTOLOAD, Kind.AUTOLOAD), (_METADATA, Kind.METADATA))
