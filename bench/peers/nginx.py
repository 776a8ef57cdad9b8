"""nginx twice: as Bokeh's deployment guide configures it, and tuned by hand.

The guide's `upstream` and `location` are taken word for word (load balancing with `least_conn`, `Connection "upgrade"`,
`proxy_buffering off`, Host with the port, static files by `alias` where a bench has them).  One thing is left out: its
`error_log ... debug`, which costs nginx a log of every step; nginx's own default level is used.  Both get TLS 1.3,
which nginx 1.22 leaves off by default, so that all proxies are compared with one cipher.
"""

from __future__ import annotations

from bench.harness import cores
from bench.peers.peer import Command, Peer, Site, as_root, output

_MAIN = """
daemon off;
worker_processes 1;
worker_rlimit_nofile {descriptors};
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{user}
events {{ worker_connections {descriptors}; }}
http {{
    include /etc/nginx/mime.types;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    ssl_protocols TLSv1.2 TLSv1.3;
    client_max_body_size 0;
    {http}
    upstream myapp {{
        least_conn;
        {servers}
        {upstream}
    }}
    server {{
        listen 127.0.0.1:{port} default_server backlog=4096;
        {tls}
        server_name _;
        access_log {folder}/access.log;
        location / {{
            proxy_pass http://myapp;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection {connection};
            proxy_http_version 1.1;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header Host $host:$server_port;
            proxy_buffering off;
            proxy_read_timeout 3600s;
            {location}
        }}
        {static}
    }}
}}
"""
_MAP = "map $http_upgrade $connection_upgrade { default upgrade; '' ''; }"


def _prepare(site: Site, *, tuned: bool) -> list[Command]:
    config = site.folder / "nginx.conf"
    tls = f"listen 127.0.0.1:{site.tls_port} ssl backlog=4096; ssl_certificate {site.certfile};"
    config.write_text(
        _MAIN.format(
            folder=site.folder,
            user="user root;" if as_root() else "",
            port=site.port,
            descriptors=cores.DESCRIPTORS,
            servers="\n        ".join(f"server 127.0.0.1:{port};" for port in site.workers),
            tls=f"{tls} ssl_certificate_key {site.keyfile};" if site.tls else "",
            static="".join(
                f"location {path} {{ alias {site.static}; }}" for path in ("/static", "/files") if site.static
            ),
            http=f"{_MAP} keepalive_requests 1000000; sendfile on; tcp_nopush on;" if tuned else "",
            upstream="keepalive 256; keepalive_requests 1000000;" if tuned else "",
            connection="$connection_upgrade" if tuned else '"upgrade"',
            location="proxy_request_buffering off; proxy_buffer_size 32k; proxy_buffers 8 32k;" if tuned else "",
        )
    )
    ports = [site.port, site.tls_port] if site.tls else [site.port]
    return [Command(argv=["nginx", "-p", str(site.folder), "-c", str(config)], ports=ports)]


def _version() -> str | None:
    text = output("nginx", "-v")
    return text.rpartition("/")[2] if text else None


GUIDE = Peer(
    name="nginx_guide",
    title="nginx, as Bokeh's guide",
    version=_version,
    prepare=lambda site: _prepare(site, tuned=False),
    note="a new upstream connection for every request",
)
TUNED = Peer(
    name="nginx_tuned",
    title="nginx, tuned",
    version=_version,
    prepare=lambda site: _prepare(site, tuned=True),
    note="upstream keep-alive, unbuffered uploads, larger buffers, no limit of requests a connection",
)
