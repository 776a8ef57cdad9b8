"""HAProxy with `leastconn` and its usual `httplog`; one thread.  It logs to its output, which goes to a file."""

from __future__ import annotations

from bench.harness import cores
from bench.peers.peer import Command, Peer, Site, output

_CONFIG = """
global
    nbthread 1
    maxconn {maxconn}
    log stdout format raw local0 info
defaults
    mode http
    log global
    option httplog
    option dontlognull
    timeout connect 5s
    timeout client 50s
    timeout server 50s
    timeout tunnel 1h
frontend front
    bind 127.0.0.1:{port} backlog 4096
    {tls}
    default_backend workers
backend workers
    balance leastconn
    option forwardfor
    http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
    {servers}
"""


def _prepare(site: Site) -> list[Command]:
    pem = site.folder / "both.pem"
    pem.write_text(site.certfile.read_text() + site.keyfile.read_text())
    config = site.folder / "haproxy.cfg"
    config.write_text(
        _CONFIG.format(
            port=site.port,
            maxconn=cores.MAX_TUNNELS,
            tls=f"bind 127.0.0.1:{site.tls_port} ssl crt {pem} alpn http/1.1" if site.tls else "",
            servers="\n    ".join(f"server w{i} 127.0.0.1:{port}" for i, port in enumerate(site.workers)),
        )
    )
    ports = [site.port, site.tls_port] if site.tls else [site.port]
    return [Command(argv=["haproxy", "-db", "-f", str(config)], ports=ports)]


def _version() -> str | None:
    text = output("haproxy", "-v")
    return text.split()[2].partition("-")[0] if text else None


HAPROXY = Peer(name="haproxy", title="HAProxy", version=_version, prepare=_prepare)
