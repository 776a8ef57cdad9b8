"""A gateway with a handler at /crash that fails where the request tells it to.

Run: python crashing_gateway.py gw.toml; stops at SIGTERM like the command.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import uvloop
from tornado.httputil import HTTPMessageDelegate, HTTPServerConnectionDelegate

from bokeh_gateway.app import GatewayApp
from bokeh_gateway.config.load import load
from bokeh_gateway.observe.logging_setup import configure


class Crashing(HTTPServerConnectionDelegate):
    def start_request(self, server_conn: object, request_conn: Any) -> HTTPMessageDelegate:
        target = request_conn.head.target.decode()
        if "at=start" in target:
            raise ValueError(f"cannot start {target}")
        return Handler(request_conn, target)


class Handler(HTTPMessageDelegate):
    def __init__(self, exchange: Any, target: str) -> None:
        self.exchange = exchange
        self.target = target

    def crash(self, where: str) -> None:
        if f"at={where}" in self.target:
            raise RuntimeError(f"cannot do {where} of {self.target}")

    def headers_received(self, start_line: Any, headers: Any) -> Any:
        self.crash("head")
        return self.later() if "at=later" in self.target else None

    async def later(self) -> None:
        await asyncio.sleep(0)
        self.crash("later")

    def data_received(self, chunk: bytes) -> None:
        self.crash("body")

    def finish(self) -> None:
        self.crash("finish")
        self.exchange.respond(200, b"", b"fine")


async def main(path: Path) -> int:
    configure("info")
    app = GatewayApp(load(path, os.environ), asyncio.get_running_loop(), applications={"/crash": Crashing()})
    return await app.run()


if __name__ == "__main__":
    sys.exit(uvloop.run(main(Path(sys.argv[-1]))))
