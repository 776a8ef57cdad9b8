"""Apache as Bokeh's guide configures it: event MPM, two balancers by `bybusyness`, WebSockets by `mod_proxy_wstunnel`.

The `RewriteRule`s and `Proxy` blocks are the guide's, for `/app`.  A WebSocket holds a thread, so their number is
bounded by the threads: 64 in each of 16 processes here, of which Apache starts as many as it needs.
"""

from __future__ import annotations

from pathlib import Path

from bench.peers.peer import Command, Peer, Site, as_root, output

_MODULES = Path("/usr/lib/apache2/modules")
_NEEDED = (
    *("mpm_event", "authz_core", "authz_host", "alias", "mime", "rewrite", "socache_shmcb", "ssl"),
    *("proxy", "proxy_http", "proxy_wstunnel", "proxy_balancer", "slotmem_shm", "lbmethod_bybusyness"),
)
_CONFIG = """
ServerRoot {folder}
DefaultRuntimeDir {folder}
PidFile {folder}/apache.pid
ServerName localhost
{modules}
{user}
StartServers 1
ServerLimit 16
ThreadLimit 64
ThreadsPerChild 64
MaxRequestWorkers 1024
KeepAlive On
ListenBacklog 4096
Listen 127.0.0.1:{port}
{listen_tls}
ErrorLog {folder}/error.log
LogFormat "%h %l %u %t \\"%r\\" %>s %O \\"%{{Referer}}i\\" \\"%{{User-Agent}}i\\"" combined
CustomLog {folder}/access.log combined
TypesConfig /etc/mime.types
<Directory />
    Require all granted
    Options -Indexes
</Directory>
<Proxy "balancer://myapp_http">
    {http_members}
    ProxySet lbmethod=bybusyness
</Proxy>
<Proxy "balancer://myapp_ws">
    {ws_members}
    ProxySet lbmethod=bybusyness
</Proxy>
<VirtualHost 127.0.0.1:{port}>
    {site}
</VirtualHost>
{tls_host}
"""
_SITE = """ProxyPreserveHost On
    ProxyTimeout 3600
    RewriteEngine On
    RewriteCond %{HTTP:Upgrade} =websocket [NC]
    RewriteRule /app(.*) balancer://myapp_ws$1 [P,L]
    RewriteCond %{HTTP:Upgrade} !=websocket [NC]
    RewriteRule /app(.*) balancer://myapp_http$1 [P,L]
    """
_TLS_HOST = """<VirtualHost 127.0.0.1:{port}>
    SSLEngine on
    SSLCertificateFile {certfile}
    SSLCertificateKeyFile {keyfile}
    {site}
</VirtualHost>
"""


def _prepare(site: Site) -> list[Command]:
    rules = _SITE + "\n    ".join(f"Alias {path} {site.static}" for path in ("/static", "/files") if site.static)
    tls_host = _TLS_HOST.format(port=site.tls_port, certfile=site.certfile, keyfile=site.keyfile, site=rules)
    config = site.folder / "apache.conf"
    config.write_text(
        _CONFIG.format(
            folder=site.folder,
            modules="\n".join(f"LoadModule {name}_module {_MODULES}/mod_{name}.so" for name in _NEEDED),
            user="User www-data\nGroup www-data" if as_root() else "",
            port=site.port,
            listen_tls=f"Listen 127.0.0.1:{site.tls_port}" if site.tls else "",
            http_members="\n    ".join(f'BalancerMember "http://127.0.0.1:{port}/app"' for port in site.workers),
            ws_members="\n    ".join(f'BalancerMember "ws://127.0.0.1:{port}/app"' for port in site.workers),
            site=rules,
            tls_host=tls_host if site.tls else "",
        )
    )
    ports = [site.port, site.tls_port] if site.tls else [site.port]
    return [Command(argv=["apache2", "-DFOREGROUND", "-f", str(config)], ports=ports)]


def _version() -> str | None:
    if not _MODULES.is_dir():
        return None
    text = output("apache2", "-v")
    return text.split("/", 1)[1].split()[0] if text else None


APACHE = Peer(
    name="apache",
    title="Apache",
    version=_version,
    prepare=_prepare,
    note="a thread for every WebSocket",
    max_tunnels=900,
)
