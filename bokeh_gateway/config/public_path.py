"""`public_url = "https://h/u"`: browsers find all of it below /u, so the workers that the gateway runs are told.  Pure.

They get it as their `--prefix` and make their URLs of it; a request comes with the whole path, as hubs send it on.  A
pool with a prefix of its own, or behind a route that strips one, is left as it was written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit


def with_public_path(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The file's `data` with the prefix of its supervised pools filled in; whatever is mistyped stays for others."""
    gateway, pools = data.get("gateway"), data.get("pool")
    url = gateway.get("public_url") if isinstance(gateway, dict) else None
    path = _path(url)
    if not path or not isinstance(pools, dict):
        return data
    stripped = _stripped(data.get("route"))
    filled = {
        name: {"prefix": path, **pool}
        for name, pool in pools.items()
        if isinstance(pool, dict) and pool.get("serve") and name not in stripped
    }
    return {**data, "pool": pools | filled} if filled else data


def _path(url: object) -> str:
    if not isinstance(url, str):
        return ""
    try:
        return urlsplit(url).path.rstrip("/")
    except ValueError:
        return ""


def _stripped(routes: object) -> set[object]:
    """Names of pools behind a route that strips its path."""
    if not isinstance(routes, list):
        return set()
    named = [route.get("pool") for route in routes if isinstance(route, dict) and route.get("strip_prefix")]
    return {name for name in named if isinstance(name, str)}
