"""Where browsers find the apps, for the lines before the ready line.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from bokeh_gateway.config.schema import Config, Route
from bokeh_gateway.endpoint.router import Mount, Router


def app_urls(config: Config, bases: Sequence[str], apps: Mapping[str, Sequence[str]]) -> list[str]:
    """The address of each app of the Bokeh pools; of a pool whose apps are not known, where they begin.

    `bases` are what addresses begin with, such as "https://dash.example.com:8443".  `apps` are paths at the workers, by
    pool.  Left out is what a longer route takes, what has a wildcard for a host, and the root, which says nothing new.
    """
    routes = config.route or tuple(Route(pool=name) for name in config.pool if len(config.pool) == 1)
    mounts = [
        Mount(route.host or "", route.path.rstrip("/").encode(), strip=route.strip_prefix, label=route.path)
        for route in routes
    ]
    router = Router(mounts)
    found: dict[str, None] = {}
    for base in bases:
        for route, mount in zip(routes, mounts, strict=True):
            if route.pool is None or config.pool[route.pool].kind != "bokeh" or mount.host.startswith("*"):
                continue
            start = _at(base, mount.host)
            host = urlsplit(start).netloc.encode()
            for path in _paths(route, apps.get(route.pool), config.pool[route.pool].prefix):
                if router.match(host, path.encode()) is mount and start + path != f"{base}/":
                    found[start + path] = None
    return list(found)


def with_name(url: str, names: Sequence[str]) -> str:
    """A TLS listener's `url`, by the first whole name of its certificates where its own host is not among them."""
    parts = urlsplit(url)
    if not names or (parts.hostname or "") in names:
        return url
    return _at(url, next((name for name in names if not name.startswith("*")), ""))


def _at(base: str, host: str) -> str:
    """`base` with another host; "": its own."""
    if not host:
        return base
    parts = urlsplit(base)
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{'' if parts.port is None else f':{parts.port}'}"


def _paths(route: Route, apps: Sequence[str] | None, prefix: str) -> Iterator[str]:
    """What a browser asks for, for each app that is below the route."""
    start = route.path.rstrip("/")
    if route.strip_prefix:
        yield from [f"{start}/"] if apps is None else [start + app for app in apps]
    elif apps is None:
        yield f"{prefix if prefix.startswith(f'{start}/') else start}/"
    else:
        yield from (app for app in apps if f"{app}/".startswith(f"{start}/"))
