"""nginx with a `server` block of the test's, all its files in the test's folder."""

from __future__ import annotations

from pathlib import Path

from tests.support.ports import free_port
from tests.support.processes import Process, wait_port
from tests.support.programs import requires_program

_AROUND = """
daemon off; pid {folder}/nginx.pid; error_log stderr; worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    {http}
}}
"""


class Nginx(Process):
    """`http` is what stands in the http block; `PORT` in it is the port that it listens on."""

    def __init__(self, folder: Path, http: str) -> None:
        program = requires_program("nginx")
        self.port = free_port()
        config = folder / "nginx.conf"
        config.write_text(_AROUND.format(folder=folder, http=http.replace("PORT", str(self.port))))
        super().__init__("nginx", [program, "-c", str(config), "-p", str(folder)], folder)

    def wait_ready(self) -> None:
        wait_port(self.port, self)
