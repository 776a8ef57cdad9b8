"""Bokeh's assets at any /static/: found, versioned, compressed; everything else is left to the workers."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import html
import os
import re
import subprocess
import sys
from pathlib import Path

import brotli
import pytest

from bokeh_gateway.bokeh.assets import Assets, Extension, find_assets
from bokeh_gateway.endpoint.representation import Answer, Get
from bokeh_gateway.endpoint.static_files import StaticFiles

BUNDLE = b"/* bokeh */ function plot() {}\n" * 100
PANEL = b"/* panel */ function panel() {}\n" * 100
RIGHT = b"v=" + hashlib.sha512(BUNDLE).hexdigest().encode()
WRONG = b"v=" + hashlib.sha512(b"another").hexdigest().encode()
SHA256 = b"v=" + hashlib.sha256(b"1.9.4").hexdigest().encode()
BR = "gzip, deflate, br, zstd"


def get(accept_encoding: str = "", **headers: str) -> Get:
    if accept_encoding:
        headers["accept_encoding"] = accept_encoding
    return {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}.get


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def environment(root: Path, bundle: bytes = BUNDLE, steady: bool = True) -> Assets:
    write(root / "bokeh" / "js" / "bokeh.min.js", bundle)
    write(root / "bokeh" / "js" / "bokeh-gl.min.js", b"gl")
    write(root / "bokeh" / "js" / "lib" / "index.d.ts", b"declare")
    write(root / "bokeh" / ".hidden.js", b"hidden")
    write(root / "panel" / "panel.min.js", PANEL)
    write(root / "panel" / "css" / "loading.css", b"a {}")
    write(root / "panel" / "bundled" / "react@17" / "static" / "logo 1.png", b"png")
    write(root / "panel" / "secret.py", b"import os")
    return Assets(root / "bokeh", (Extension("panel", root / "panel", "panel.min.js", "1.9.4", steady),))


@pytest.fixture
def files(tmp_path: Path) -> StaticFiles:
    return StaticFiles(environment(tmp_path), cache_dir=tmp_path / "cache")


def found(answer: Answer | None) -> Answer:
    assert answer is not None
    return answer


def header(answer: Answer | None, name: str) -> str | None:
    value = re.search(rf"^{name}: (.*)\r$", found(answer).headers.decode(), re.MULTILINE)
    return value and value[1]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param(b"/static/js/bokeh.min.js", BUNDLE, id="at-the-top"),
        pytest.param(b"/x/y/static/js/bokeh.min.js", BUNDLE, id="below-an-app"),
        pytest.param(b"/static/static/js/bokeh.min.js", BUNDLE, id="prefix-named-static"),
        pytest.param(b"/static/extensions/panel/panel.min.js", PANEL, id="SP-01-top"),
        pytest.param(b"/my-apps/static/extensions/panel/panel.min.js", PANEL, id="SP-01-prefix"),
        pytest.param(b"/static/extensions/panel/bundled/react@17/static/logo%201.png", b"png", id="static-inside"),
        pytest.param(b"/static/extensions/panel/bundled/react%4017/static/logo%201.png", b"png", id="escaped"),
    ],
)
def test_asset_is_served_at_any_prefix(files: StaticFiles, path: bytes, body: bytes) -> None:
    answer = found(files.lookup(b"GET", path, b"", get()))
    assert (answer.status, answer.body) == (200, body)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(b"/", id="page"),
        pytest.param(b"/static/", id="folder"),
        pytest.param(b"/static", id="bare"),
        pytest.param(b"/app/static/js/app.js", id="an-apps-own-static-folder"),
        pytest.param(b"/static/extensions/ipywidgets_bokeh/ipywidgets_bokeh.js", id="unknown-extension"),
        pytest.param(b"/static/js/lib/index.d.ts", id="type-declarations"),
        pytest.param(b"/static/.hidden.js", id="dotfile"),
        pytest.param(b"/static/extensions/panel/secret.py", id="python-file"),
        pytest.param(b"/xstatic/js/bokeh.min.js", id="half-a-segment"),
        pytest.param(b"/static/" + b"a" * 5000, id="SF08-long"),
        pytest.param(b"/static/%2e%2e/%2e%2e/etc/passwd", id="PT02"),
        pytest.param(b"/static/..%2f..%2fetc/passwd", id="PT03"),
        pytest.param(b"/static/%252e%252e%252fetc/passwd", id="PT04"),
        pytest.param(b"/static/..%5c..%5cetc/passwd", id="PT05"),
        pytest.param(b"/static/..\\..\\etc\\passwd", id="PT06"),
        pytest.param(b"/static/%00/etc/passwd", id="PT07"),
        pytest.param(b"/static../etc/passwd", id="PT08"),
        pytest.param(b"/static/.%2e/.%2e/etc/passwd", id="PT10"),
        pytest.param(b"/static/%c0%ae%c0%ae/etc/passwd", id="PT11"),
        pytest.param(b"/static/extensions/panel/../../bokeh/js/bokeh.min.js", id="dots-inside"),
    ],
)
def test_anything_else_is_left_to_the_workers(files: StaticFiles, path: bytes) -> None:
    assert files.lookup(b"GET", path, b"", get()) is None


@pytest.mark.parametrize("method", [b"POST", b"OPTIONS", b"PUT", b"get"])
def test_other_methods_are_left_to_the_workers(files: StaticFiles, method: bytes) -> None:
    assert files.lookup(method, b"/static/js/bokeh.min.js", RIGHT, get()) is None


def test_head_has_the_headers_of_get(files: StaticFiles) -> None:
    assert files.lookup(b"HEAD", b"/static/js/bokeh.min.js", RIGHT, get(range="bytes=0-0")) == files.lookup(
        b"GET", b"/static/js/bokeh.min.js", RIGHT, get()
    )


@pytest.mark.parametrize(
    ("path", "query", "caching"),
    [
        pytest.param(b"/static/js/bokeh.min.js", RIGHT, "immutable", id="bokeh-right"),
        pytest.param(b"/static/js/bokeh.min.js", b"_=17&" + RIGHT, "immutable", id="bokeh-right-and-another"),
        pytest.param(b"/static/js/bokeh.min.js", b"", "must-revalidate", id="bokeh-none"),
        pytest.param(b"/static/js/bokeh.min.js", b"_=17", "must-revalidate", id="only-another"),
        pytest.param(b"/static/js/bokeh.min.js", WRONG, None, id="SF09-wrong"),
        pytest.param(b"/static/js/bokeh.min.js", RIGHT + b"&" + WRONG, None, id="SF09-both"),
        pytest.param(b"/static/js/bokeh.min.js", b"v=", None, id="empty"),
        pytest.param(b"/static/js/bokeh.min.js", b"v=1.9.4", None, id="panels-version-for-bokeh"),
        pytest.param(b"/static/extensions/panel/panel.min.js", SHA256, "immutable", id="panel-bundle"),
        pytest.param(b"/static/extensions/panel/css/loading.css", b"v=1.9.4", "immutable", id="panel-css"),
        pytest.param(b"/static/extensions/panel/css/loading.css", b"v=1.9.3", None, id="SF09-panel-wrong"),
    ],
)
def test_strong_caching_only_for_the_version_that_is_served(
    files: StaticFiles, path: bytes, query: bytes, caching: str | None
) -> None:
    for _ in range(2):  # read from disk, then from memory
        answer = files.lookup(b"GET", path, query, get())
        if caching is None:
            assert answer is None
        else:
            assert (header(answer, "Cache-Control") or "").endswith(caching)


def test_sf09_two_environments_are_told_apart_by_version(tmp_path: Path) -> None:
    """Without a version only the page's own worker knows which is meant."""
    other = b"/* newer */" * 100
    files = StaticFiles(environment(tmp_path / "a"), environment(tmp_path / "b", other))
    newer = b"v=" + hashlib.sha512(other).hexdigest().encode()
    assert found(files.lookup(b"GET", b"/static/js/bokeh.min.js", RIGHT, get())).body == BUNDLE
    assert found(files.lookup(b"GET", b"/static/js/bokeh.min.js", newer, get())).body == other
    assert files.lookup(b"GET", b"/static/js/bokeh.min.js", WRONG, get()) is None
    assert files.lookup(b"GET", b"/static/js/bokeh.min.js", b"", get()) is None


def test_one_environment_named_twice_is_one(tmp_path: Path) -> None:
    assets = environment(tmp_path)
    assert StaticFiles(assets, assets).lookup(b"GET", b"/static/js/bokeh.min.js", b"", get()) is not None


def test_sf09_upgrade_under_a_running_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bokeh_gateway.endpoint.static_files.CHECK", 0.0)
    files = StaticFiles(environment(tmp_path))
    css = b"/static/extensions/panel/css/loading.css"
    assert found(files.lookup(b"GET", b"/static/js/bokeh.min.js", RIGHT, get())).body == BUNDLE
    write(tmp_path / "panel" / "css" / "loading.css", b"a { b: newer }")
    write(tmp_path / "bokeh" / "js" / "bokeh.min.js", b"newer bokeh")
    # Not read before the upgrade: the version known is no longer that of the file.
    assert files.lookup(b"GET", css, b"v=1.9.4", get()) is None
    assert found(files.lookup(b"GET", css, b"", get())).body == b"a { b: newer }"
    # In memory: right still, since the address names the content.
    assert found(files.lookup(b"GET", b"/static/js/bokeh.min.js", RIGHT, get())).body == BUNDLE
    assert found(files.lookup(b"GET", b"/static/js/bokeh.min.js", b"", get())).body == b"newer bokeh"
    assert files.lookup(b"GET", b"/static/js/bokeh.min.js", RIGHT, get()) is None
    (tmp_path / "bokeh" / "js" / "bokeh.min.js").unlink()
    assert files.lookup(b"GET", b"/static/js/bokeh.min.js", b"", get()) is None


def test_editable_extension_is_never_immutable(tmp_path: Path) -> None:
    files = StaticFiles(environment(tmp_path, steady=False))
    answer = files.lookup(b"GET", b"/static/extensions/panel/panel.min.js", SHA256, get())
    assert header(answer, "Cache-Control") == "public, max-age=0, must-revalidate"


def test_headers_let_other_sites_embed(files: StaticFiles) -> None:
    answer = files.lookup(b"GET", b"/static/js/bokeh.min.js", RIGHT, get())
    assert header(answer, "Access-Control-Allow-Origin") == "*"
    assert header(answer, "Cross-Origin-Resource-Policy") == "cross-origin"
    assert header(answer, "X-Content-Type-Options") == "nosniff"
    assert header(answer, "Content-Type") == "text/javascript; charset=utf-8"
    assert header(answer, "Vary") == "Accept-Encoding"
    assert not re.search(rb"(?im)^(content-length|connection|date|server):", found(answer).headers)


def test_codings_after_warming(files: StaticFiles) -> None:
    path = b"/static/js/bokeh.min.js"
    assert header(files.lookup(b"GET", path, RIGHT, get(BR)), "Content-Encoding") is None
    asyncio.run(files.warm())
    answers = {coding: found(files.lookup(b"GET", path, RIGHT, get(coding))) for coding in ("br", "gzip", "identity")}
    assert brotli.decompress(answers["br"].body) == BUNDLE
    assert gzip.decompress(bytes(answers["gzip"].body)) == BUNDLE  # type: ignore[arg-type]
    assert answers["identity"].body == BUNDLE
    assert len({header(answer, "ETag") for answer in answers.values()}) == 3
    assert header(files.lookup(b"GET", path, RIGHT, get(BR)), "Content-Encoding") == "br"
    assert header(files.lookup(b"GET", path, RIGHT, get("br;q=0, gzip")), "Content-Encoding") == "gzip"
    tag = header(answers["br"], "ETag") or ""
    assert found(files.lookup(b"GET", path, RIGHT, get(BR, if_none_match=tag))).status == 304
    assert found(files.lookup(b"GET", path, RIGHT, get("gzip", if_none_match=tag))).status == 200


def test_range_is_of_the_plain_file_and_not_joined_to_another_coding(files: StaticFiles) -> None:
    path = b"/static/js/bokeh.min.js"
    asyncio.run(files.warm())
    part = found(files.lookup(b"GET", path, RIGHT, get(BR, range="bytes=3-7")))
    assert (part.status, part.body) == (206, BUNDLE[3:8])
    assert header(part, "Content-Encoding") is None
    tag = header(files.lookup(b"GET", path, RIGHT, get(BR)), "ETag") or ""
    whole = found(files.lookup(b"GET", path, RIGHT, get(BR, range="bytes=3-7", if_range=tag)))
    assert (whole.status, header(whole, "ETag")) == (200, tag)
    assert found(files.lookup(b"GET", path, RIGHT, get(range="bytes=99999-"))).status == 416


def test_memory_is_bounded_and_evicted_files_come_back(tmp_path: Path) -> None:
    assets = environment(tmp_path)
    for n in range(20):
        write(tmp_path / "panel" / f"{n}.png", os.urandom(1000))
    files = StaticFiles(assets, memory=5000)
    for _ in range(2):
        for n in range(20):
            path = f"/static/extensions/panel/{n}.png".encode()
            expected = (tmp_path / "panel" / f"{n}.png").read_bytes()
            assert found(files.lookup(b"GET", path, b"v=1.9.4", get())).body == expected
    assert files._held <= 5000
    assert len(files._loaded) == 5


def test_nothing_grows_with_strange_requests(files: StaticFiles) -> None:
    for n in range(2000):
        files.lookup(b"GET", f"/static/{n}".encode(), f"v={n}".encode(), get(f"br;x={n}"))
        files.lookup(b"GET", b"/static/js/bokeh.min.js", f"v={n}".encode(), get(f"br;q=0.{n}"))
        files.lookup(b"GET", b"/static/js/bokeh.min.js", RIGHT, get(f"br, x{n}"))
    assert len(files._loaded) == 1
    assert len(files._codings) <= 256


def test_symlink_out_of_the_folder_is_not_listed(tmp_path: Path) -> None:
    assets = environment(tmp_path)
    secret = write(tmp_path / "secret.js", b"secret")
    (tmp_path / "panel" / "link.js").symlink_to(secret)
    (tmp_path / "panel" / "alias.js").symlink_to(tmp_path / "panel" / "panel.min.js")
    files = StaticFiles(assets)
    assert files.lookup(b"GET", b"/static/extensions/panel/link.js", b"", get()) is None
    assert found(files.lookup(b"GET", b"/static/extensions/panel/alias.js", b"", get())).body == PANEL


PAGE = """
import pandas, panel
from tornado.httpclient import AsyncHTTPClient
panel.extension("tabulator", "plotly", "katex")
def app():
    main = [panel.widgets.IntSlider(), panel.widgets.Tabulator(pandas.DataFrame({"a": [1]}))]
    return panel.template.FastListTemplate(title="t", main=main, sidebar=[panel.indicators.LoadingSpinner()])
server = panel.serve(app, port=0, show=False, start=False)
server.start()
print(server.io_loop.run_sync(lambda: AsyncHTTPClient().fetch(f"http://localhost:{server.port}/")).body.decode())
"""


def test_sp07_every_asset_of_a_panel_page_is_found(tmp_path: Path) -> None:
    """No static request of a FastListTemplate page reaches a worker, and those with a version are immutable."""
    environ = {**os.environ, "BOKEH_ALLOW_WS_ORIGIN": "localhost"}
    page = subprocess.run([sys.executable, "-c", PAGE], capture_output=True, check=True, timeout=120, env=environ)
    text = html.unescape(page.stdout.decode())
    urls = set(re.findall(r"static/[\w@./-]+\.(?:js|mjs|css|ico|png)(?:\?v=[\w.]+)?", text))
    assert any("panel.min.js" in url for url in urls)
    assert any("fastlisttemplate" in url or "/fast" in url for url in urls)
    assert any("bokeh.min.js?v=" in url for url in urls)
    files = StaticFiles(find_assets(), cache_dir=tmp_path)
    for url in sorted(urls):
        path, _, query = url.partition("?")
        answer = files.lookup(b"GET", f"/{path}".encode(), query.encode(), get())
        assert answer is not None, url
        assert not query or (header(answer, "Cache-Control") or "").endswith("immutable"), url
