"""configurable-http-proxy, JupyterHub's front: one default target, so no balancing; a second process for TLS.

Looked for on PATH and in ~/.cache/bokeh-gateway-bench, where
`npm install --prefix ~/.cache/bokeh-gateway-bench configurable-http-proxy` puts it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.peers.peer import Command, Peer, Site, output

_NAME = "configurable-http-proxy"
_FOLDER = Path.home() / ".cache/bokeh-gateway-bench/node_modules/.bin"


def _program() -> str | None:
    return shutil.which(_NAME) or shutil.which(_NAME, path=str(_FOLDER))


def _prepare(site: Site) -> list[Command]:
    def command(port: int, api: int, *more: str) -> Command:
        argv = [
            _program() or _NAME,
            "--ip",
            "127.0.0.1",
            "--port",
            str(port),
            "--api-ip",
            "127.0.0.1",
            "--api-port",
            str(api),
        ]
        argv += ["--default-target", f"http://127.0.0.1:{site.workers[0]}", *more]
        return Command(argv=argv, ports=[port], env={"CONFIGPROXY_AUTH_TOKEN": "bench"})

    plain = command(site.port, site.spare_port)
    if not site.tls:
        return [plain]
    tls = command(site.tls_port, site.spare_port + 1, "--ssl-key", str(site.keyfile), "--ssl-cert", str(site.certfile))
    return [plain, tls]


def _version() -> str | None:
    program = _program()
    return output(program, "--version") if program else None


CHP = Peer(name="chp", title=_NAME, version=_version, prepare=_prepare, note="one worker only", balances=False)
