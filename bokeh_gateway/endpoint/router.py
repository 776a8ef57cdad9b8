"""Which route answers for a host and a path: the longest path wins, then the more exact host.  Pure.

Paths are matched as nginx does, decoded and without doubled slashes, so that no spelling of a path escapes its route;
what goes on to a worker is what was received.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from bokeh_gateway.policy.identity import Requirement

if TYPE_CHECKING:
    from bokeh_gateway.policy.response_headers import ResponseHeaders

_CACHED: Final = 1024
_DOTS: Final = re.compile(rb"(?:^|/)\.\.?(?:/|$)")
_SLASHES: Final = re.compile(rb"//+")


@dataclass(frozen=True, slots=True, eq=False)
class Mount:
    """One [[route]], ready to be matched."""

    host: str
    """Lower case, `*.` allowed; "" for any."""
    path: bytes
    """Without a trailing slash; b"" for the root."""
    pool: str = ""
    folder: str = ""
    redirect: str = ""
    strip: bool = False
    headers: ResponseHeaders | None = None
    """What is changed in the headers of answers; None: nothing."""
    label: str = ""
    """For log and metrics."""
    unwanted_cookies: re.Pattern[bytes] | None = None
    """Names of cookies that page requests go on without."""
    auth: Requirement | None = None
    """Who may use it; None: everybody."""

    @property
    def inside(self) -> bytes:
        """What paths below this one begin with."""
        return self.path + b"/"


class Router:
    """All routes of a configuration."""

    def __init__(self, mounts: Sequence[Mount]) -> None:
        self._mounts = tuple(mounts)
        self._by_host: dict[bytes, tuple[Mount, ...]] = {}

    def match(self, host: bytes, path: bytes) -> Mount | None:
        """The route of `path` at `host` (a valid Host value, lower case); None where nothing is mounted."""
        mounts = self._by_host.get(host)
        if mounts is None:
            mounts = self._collect(host)
        if b"%" in path or b"//" in path:
            path = canonical(path)
        for mount in mounts:
            # The slash keeps /application from matching /app.
            if not mount.path or path.startswith(mount.inside) or path == mount.path:
                return mount
        return None

    def _collect(self, host: bytes) -> tuple[Mount, ...]:
        """The routes that may answer for a host, the one to be tried first in front."""
        name = _name(host)
        ranked = [(mount, rank) for mount in self._mounts if (rank := _rank(mount.host, name)) is not None]
        ranked.sort(key=lambda item: (len(item[0].path), item[1]), reverse=True)
        found = tuple(mount for mount, _ in ranked)
        if len(self._by_host) >= _CACHED:
            self._by_host.clear()
        self._by_host[host] = found
        return found


def has_dot_segments(path: bytes) -> bool:
    """Whether `.` or `..` stands as a segment, plain or encoded: browsers resolve these before they send."""
    if b"/." not in path and b"%" not in path and b"\\" not in path:
        return False
    return _DOTS.search(path) is not None or _DOTS.search(unquote_to_bytes(path).replace(b"\\", b"/")) is not None


def canonical(path: bytes) -> bytes:
    """`path` decoded once, with doubled slashes as one."""
    return _SLASHES.sub(b"/", unquote_to_bytes(path))


def _name(host: bytes) -> str:
    name = host.decode("latin-1")
    if not name.endswith("]"):
        head, colon, _ = name.rpartition(":")
        name = head if colon else name
    return name.removesuffix(".")


def _rank(pattern: str, name: str) -> int | None:
    """2: exact; 1: by wildcard; 0: any host; None: another host."""
    if not pattern:
        return 0
    if pattern == name:
        return 2
    if pattern.startswith("*.") and name.partition(".")[2] == pattern[2:]:
        return 1
    return None
