"""A program that embeds the gateway and mounts its own Tornado application at /own beside a pool.

Run: python tornado_gateway.py gw.toml; stops at SIGTERM like the command.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import uvloop
from tornado.iostream import StreamClosedError
from tornado.web import Application, HTTPError, RequestHandler, StaticFileHandler, stream_request_body

from bokeh_gateway.app import GatewayApp
from bokeh_gateway.config.load import load

PIECES = 5


class Hello(RequestHandler):
    def get(self) -> None:
        self.set_cookie("seen", "yes")
        self.set_header("X-Seen-From", f"{self.request.remote_ip} {self.request.protocol}")
        self.write(f"hello {self.get_argument('name', 'nobody')}")

    def head(self) -> None:
        self.get()

    def post(self) -> None:
        self.write({"name": self.get_body_argument("name"), "files": sorted(self.request.files)})


class Pieces(RequestHandler):
    """A body of unknown length, flushed piece by piece."""

    async def get(self) -> None:
        for number in range(PIECES):
            self.write(f"piece {number}\n" * 1000)
            await self.flush()
        self.finish("end\n")


class Endless(RequestHandler):
    """Writes until the client goes; then says how it learned of it."""

    async def get(self) -> None:
        try:
            while True:
                self.write(b"x" * 65536)
                await self.flush()
        except StreamClosedError:
            print("endless: StreamClosedError", file=sys.stderr, flush=True)

    def on_connection_close(self) -> None:
        print("endless: on_connection_close", file=sys.stderr, flush=True)


@stream_request_body
class Upload(RequestHandler):
    """Takes a body piece by piece, no faster than it wants to, and knows how much is waiting."""

    def prepare(self) -> None:
        self.size = 0

    async def data_received(self, chunk: bytes) -> None:
        self.size += len(chunk)
        await asyncio.sleep(0)

    def put(self) -> None:
        self.write(str(self.size))

    post = put


@stream_request_body
class Stuck(RequestHandler):
    """Takes the first piece of a body and never comes back for the next."""

    async def data_received(self, chunk: bytes) -> None:
        print("stuck: has a piece", file=sys.stderr, flush=True)
        await asyncio.Event().wait()

    def on_connection_close(self) -> None:
        print("stuck: on_connection_close", file=sys.stderr, flush=True)


class Broken(RequestHandler):
    def get(self) -> None:
        raise ValueError("a mistake in the application")


class Forbidden(RequestHandler):
    def get(self) -> None:
        raise HTTPError(403, reason="Not you")


def application(folder: str) -> Application:
    return Application(
        [
            ("/own/hello", Hello),
            ("/own/pieces", Pieces),
            ("/own/endless", Endless),
            ("/own/upload", Upload),
            ("/own/stuck", Stuck),
            ("/own/broken", Broken),
            ("/own/forbidden", Forbidden),
            ("/own/files/(.*)", StaticFileHandler, {"path": folder}),
        ]
    )


async def main(path: Path) -> int:
    app = GatewayApp(
        load(path, os.environ), asyncio.get_running_loop(), applications={"/own": application(str(path.parent))}
    )
    return await app.run()


if __name__ == "__main__":
    sys.exit(uvloop.run(main(Path(sys.argv[-1]))))
