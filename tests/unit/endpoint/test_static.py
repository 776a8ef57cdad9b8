"""What is looked up is answered at the exchange."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bokeh_gateway.bokeh.assets import Assets
from bokeh_gateway.endpoint.representation import Get
from bokeh_gateway.endpoint.static import FileSlice, StaticFiles, StaticFolder, serve_assets, serve_folder


@dataclass
class Head:
    path: bytes
    method: bytes = b"GET"
    query: bytes = b""
    get: Get = field(default=lambda name: None)


@dataclass
class Exchange:
    head: Head
    sent: list[tuple[int, bytes | FileSlice]] = field(default_factory=list)

    def respond(self, status: int, headers: bytes, body: bytes | FileSlice = b"", /) -> None:
        self.sent.append((status, body))


@pytest.mark.parametrize(
    ("path", "answered", "sent"),
    [
        pytest.param(b"/app/static/js/bokeh.min.js", True, [(200, b"bokeh")], id="ours"),
        pytest.param(b"/app/static/style.css", False, [], id="the-workers"),
    ],
)
def test_assets(tmp_path: Path, path: bytes, answered: bool, sent: list[tuple[int, bytes]]) -> None:
    (tmp_path / "js").mkdir()
    (tmp_path / "js" / "bokeh.min.js").write_text("bokeh")
    exchange = Exchange(Head(path))
    assert serve_assets(exchange, StaticFiles(Assets(tmp_path))) == answered
    assert exchange.sent == sent


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        pytest.param(b"/files/a.txt", 200, b"a", id="file"),
        pytest.param(b"/files/nope", 404, b"Not found: there is no such file here.\n", id="missing"),
    ],
)
def test_folder(tmp_path: Path, path: bytes, status: int, body: bytes) -> None:
    (tmp_path / "a.txt").write_text("a")
    exchange = Exchange(Head(path))
    serve_folder(exchange, StaticFolder(tmp_path), b"/files/")
    assert exchange.sent == [(status, body)]
