"""Static files at the exchange: what is found is answered here, the rest is said to be the workers'."""

from __future__ import annotations

from typing import Protocol

from bokeh_gateway.endpoint.file_slice import FileSlice
from bokeh_gateway.endpoint.representation import Answer, Get
from bokeh_gateway.endpoint.static_files import StaticFiles
from bokeh_gateway.endpoint.static_folder import StaticFolder

__all__ = ["Answer", "FileSlice", "StaticFiles", "StaticFolder", "serve_assets", "serve_folder"]


class Head(Protocol):
    """What is read of a request."""

    @property
    def method(self) -> bytes: ...
    @property
    def path(self) -> bytes: ...
    @property
    def query(self) -> bytes: ...
    @property
    def get(self) -> Get: ...


class Exchange(Protocol):
    """One request and its answer."""

    @property
    def head(self) -> Head: ...
    def respond(self, status: int, headers: bytes, body: bytes | FileSlice, /) -> object: ...


def serve_assets(exchange: Exchange, files: StaticFiles) -> bool:
    """Answer with a Bokeh asset; False: nothing was sent, ask the workers."""
    head = exchange.head
    answer = files.lookup(head.method, head.path, head.query, head.get)
    if answer is None:
        return False
    exchange.respond(answer.status, answer.headers, answer.body)
    return True


def serve_folder(exchange: Exchange, folder: StaticFolder, route_path: bytes) -> None:
    """Answer from a folder.  `route_path` ends in a slash, and the request's path begins with it."""
    head = exchange.head
    answer = folder.lookup(head.method, head.path[len(route_path) :], head.query, head.get)
    exchange.respond(answer.status, answer.headers, answer.body)
