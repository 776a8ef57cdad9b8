"""What to ask a worker, from its pool's settings.  Pure.

A probe must make no session: `<app>/metadata` makes none, and neither does the HEAD of a static file, which every
Bokeh worker has at a place that is known without knowing its apps.
"""

from __future__ import annotations

from bokeh_gateway.balance.health import HealthSettings
from bokeh_gateway.config.address import Address
from bokeh_gateway.config.schema import Pool
from bokeh_gateway.control.health_watch import Target


def probe_target(worker: str, address: Address, pool: Pool, metadata: tuple[str, ...] = ()) -> Target:
    """`metadata`: the paths known of a worker that the gateway runs."""
    path, method = pool.health.path, "GET"
    if path is not None:
        path = pool.prefix + path
    elif metadata:
        path = metadata[0]
    elif pool.kind == "bokeh":
        path, method = f"{pool.prefix}/static/js/bokeh.min.js", "HEAD"
    return Target(
        worker=worker,
        address=address,
        path=path,
        method=method,
        interval=pool.health.interval,
        timeout=pool.health.timeout,
    )


def health_settings(pool: Pool) -> HealthSettings:
    """[pool.<name>.health] as decisions use it."""
    health = pool.health
    return HealthSettings(rise=health.rise, fall=health.fall, max_lag=health.max_lag)
