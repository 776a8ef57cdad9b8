"""Caddy's `reverse_proxy` with `least_conn`.  It writes no access log by default, and none here."""

from __future__ import annotations

from bench.peers.peer import Command, Peer, Site, output

_CONFIG = """
{{
    admin off
    auto_https off
    skip_install_trust
    default_sni localhost
    storage file_system {folder}/storage
}}
http://:{port} {{
    bind 127.0.0.1
    {site}
}}
{tls}
"""
_SITE = """reverse_proxy {workers} {{
        lb_policy least_conn
    }}"""
_TLS = """https://:{port} {{
    bind 127.0.0.1
    tls {certfile} {keyfile}
    {site}
}}
"""


def _prepare(site: Site) -> list[Command]:
    rules = _SITE.format(workers=" ".join(f"127.0.0.1:{port}" for port in site.workers))
    if site.static:
        for path in ("/static", "/files"):
            rules = f"handle_path {path}/* {{\n        root * {site.static}\n        file_server\n    }}\n    {rules}"
    tls = _TLS.format(port=site.tls_port, certfile=site.certfile, keyfile=site.keyfile, site=rules)
    config = site.folder / "Caddyfile"
    config.write_text(_CONFIG.format(folder=site.folder, port=site.port, site=rules, tls=tls if site.tls else ""))
    private = {name: str(site.folder) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")}
    ports = [site.port, site.tls_port] if site.tls else [site.port]
    return [Command(argv=["caddy", "run", "--config", str(config), "--adapter", "caddyfile"], ports=ports, env=private)]


def _version() -> str | None:
    text = output("caddy", "version")
    return text.split()[0].lstrip("v") if text else None


CADDY = Peer(name="caddy", title="Caddy", version=_version, prepare=_prepare)
