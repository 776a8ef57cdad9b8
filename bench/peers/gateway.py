"""bokeh-gateway with everything on: signed sessions, origins, limits, health checks, access log to a file."""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib import metadata
from pathlib import Path

from bench.harness import workload
from bench.peers.peer import Command, Peer, Site

_REPOSITORY = Path(__file__).parents[2]
_CONFIG = """
[gateway]
listen = ["127.0.0.1:{port}"]
processes = 1
runtime_dir = "{folder}/run"

{tls}
[pool.apps]
servers = [{servers}]

[origins]
allow = ["dash.example.com"]

[sessions]
mode = "signed"
secret_key = "{secret}"

[limits]
body_size = "none"

{routes}
[log]
access = "{folder}/access.log"
format = "combined"
"""
_TLS = """[tls]
listen = ["127.0.0.1:{port}"]
certfile = "{certfile}"
keyfile = "{keyfile}"
redirect_http = false
"""


_ROUTES = """[[route]]
path = "/"
pool = "apps"
[[route]]
path = "/files"
static = "{static}"
"""


def _prepare(site: Site) -> list[Command]:
    config = site.folder / "gw.toml"
    config.write_text(
        _CONFIG.format(
            port=site.port,
            folder=site.folder,
            servers=", ".join(f'"127.0.0.1:{port}"' for port in site.workers),
            secret=workload.SECRET,
            routes=_ROUTES.format(static=site.static) if site.static else "",
            tls=_TLS.format(port=site.tls_port, certfile=site.certfile, keyfile=site.keyfile) if site.tls else "",
        )
    )
    ports = [site.port, site.tls_port] if site.tls else [site.port]
    env = {"PYTHONPATH": os.pathsep.join([str(_REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])}
    argv = [sys.executable, "-m", "bokeh_gateway.cli", "--config", str(config)]
    return [Command(argv=argv, ports=ports, env=env, cwd=site.folder)]


def _version() -> str | None:
    try:
        if importlib.util.find_spec("bokeh_gateway.cli") is None:
            return None
    except ModuleNotFoundError:
        return None
    try:
        return metadata.version("bokeh-gateway")
    except metadata.PackageNotFoundError:
        return "working tree"


GATEWAY = Peer(
    name="gateway", title="bokeh-gateway", version=_version, prepare=_prepare, note="all policies and the access log on"
)
