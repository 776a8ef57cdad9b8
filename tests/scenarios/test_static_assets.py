"""Static assets: no `location /static` and no alias, and no worker is asked."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urljoin

import pytest
import requests

from tests.support.bokeh_client import get
from tests.support.gateway import GatewayProcess
from tests.support.workers import BokehWorker, bokeh_workers, servers


def test_bokehjs_is_served_compressed_and_cacheable_with_no_worker_up(tmp_path: Path) -> None:
    """The pool's only worker does not exist, so whatever is answered the gateway answered."""
    text = '[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nservers = ["127.0.0.1:1"]\n'
    with GatewayProcess(text, tmp_path) as gateway:
        asked = {"Accept-Encoding": "br"}
        with requests.Session() as client:
            client.trust_env = False
            first = client.get(gateway.url("/static/js/bokeh.min.js"), headers=asked, timeout=40)
            assert first.status_code == 200
            again = client.get(
                gateway.url("/static/js/bokeh.min.js"), headers=asked | {"If-None-Match": first.headers["ETag"]}
            )
            assert again.status_code == 304
        assert get(gateway.url("/anything/static/js/bokeh.min.js")).content == first.content
        assert first.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("mount", ["", "/my-apps"])
def test_extension_assets_at_either_place(tmp_path: Path, mount: str) -> None:
    text = (
        '[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nservers = ["127.0.0.1:1"]\n'
        '[[route]]\npath = "/my-apps/"\npool = "apps"\nstrip_prefix = true\n'
    )
    with GatewayProcess(text, tmp_path) as gateway:
        assert get(gateway.url(f"{mount}/static/extensions/panel/panel.min.js")).status_code == 200


def test_the_assets_that_a_page_names(three_workers: list[BokehWorker], tmp_path: Path) -> None:
    """Every script of a page under a stripped prefix is 200, by the page's own spelling."""
    text = (
        f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nservers = {servers(three_workers)}\n'
        '[[route]]\npath = "/user/d/dash/"\npool = "apps"\nstrip_prefix = true\n'
    )
    with GatewayProcess(text, tmp_path) as gateway:
        page = get(gateway.url("/user/d/dash/recorder"))
        found = _scripts(page.text)
        assert any("bokeh.min.js" in script for script in found)
        for script in found:
            assert get(urljoin(page.url, script)).status_code == 200, script


def test_a_file_that_only_one_worker_has_is_found(tmp_path: Path) -> None:
    """SP-06: an extension registered by an import in one worker: its 404 elsewhere is not the last word."""
    dist = tmp_path / "oddity" / "dist"
    dist.mkdir(parents=True)
    (dist / "oddity.js").write_text("window.oddity = 1")
    plain = tmp_path / "app.py"
    plain.write_text("from bokeh.plotting import curdoc\ncurdoc().title = 'plain'\n")
    odd = tmp_path / "odd" / "app.py"
    odd.parent.mkdir()
    odd.write_text(
        "from bokeh.embed.bundle import extension_dirs\nfrom pathlib import Path\n"
        f"extension_dirs['oddity'] = Path({str(dist)!r})\n"
        "from bokeh.plotting import curdoc\ncurdoc().title = 'odd'\n"
    )
    with (
        bokeh_workers(2, tmp_path / "plain", plain) as plains,
        bokeh_workers(1, tmp_path / "odd", odd) as odds,
    ):
        text = f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nservers = {servers([*plains, *odds])}\n'
        get(odds[0].url)
        with GatewayProcess(text, tmp_path) as gateway:
            for _ in range(12):
                found = get(gateway.url("/static/extensions/oddity/oddity.js"))
                assert (found.status_code, found.text) == (200, "window.oddity = 1")
            assert get(gateway.url("/static/extensions/oddity/missing.js")).status_code == 404


def _scripts(page: str) -> list[str]:
    return re.findall(r'<script[^>]* src="([^"]+)"', page)
