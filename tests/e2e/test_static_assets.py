"""BokehJS and the extensions' assets come from the gateway: small, cached by browsers, and no worker is asked.

The figure is printed: `python -m pytest tests/e2e/test_static_assets.py -s`.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import bokeh
import pytest

from tests.support.bokeh_client import get, http_session
from tests.support.gateway import GatewayProcess
from tests.support.programs import requires_program
from tests.support.recording import RecordingWorker
from tests.support.waiting import wait_until
from tests.support.workers import APPS, BokehWorker, servers

MINIFIED = Path(bokeh.__file__).parent / "server" / "static" / "js" / "bokeh.min.js"
ON_THE_WIRE = 290_000


@pytest.fixture(scope="module")
def worker() -> Iterator[RecordingWorker]:
    with RecordingWorker() as worker:
        yield worker


@pytest.fixture(scope="module")
def gateway(worker: RecordingWorker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    text = f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nservers = {servers([worker])}\n'
    with GatewayProcess(text, tmp_path_factory.mktemp("static")) as gateway:
        yield gateway


def curl(*arguments: str) -> str:
    done = subprocess.run(
        [requires_program("curl"), "--silent", "--show-error", "--noproxy", "*", *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def test_bokeh_min_js_by_curl(gateway: GatewayProcess, worker: RecordingWorker, tmp_path: Path) -> None:
    url = gateway.url("/app/static/js/bokeh.min.js")
    body, etag = tmp_path / "bokeh.min.js", tmp_path / "etag"

    def load(*arguments: str) -> tuple[int, int]:
        said = curl(
            "--compressed", *arguments, "-o", str(body), "-w", "%{http_code} %{size_download}", url
        )  # --compressed: size_download is of what was on the wire
        status, size = said.split()
        return int(status), int(size)

    # Brotli's best form takes some seconds once; until it is there gzip is sent.
    wait_until(lambda: load()[1] <= ON_THE_WIRE, "brotli's form of bokeh.min.js")
    status, size = load("--etag-save", str(etag))
    assert hashlib.sha256(body.read_bytes()).digest() == hashlib.sha256(MINIFIED.read_bytes()).digest()
    again, _ = load("--etag-compare", str(etag))
    print(f"\ncurl --compressed of bokeh.min.js: {status}, {size} bytes on the wire; second time {again}")
    assert (status, again) == (200, 304)
    assert size <= ON_THE_WIRE
    assert not worker.requests


def test_sf09_a_wrong_version_is_never_cached_as_the_right_one(
    gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    worker.forget()
    right = hashlib.sha512(MINIFIED.read_bytes()).hexdigest()
    good = get(gateway.url(f"/static/js/bokeh.min.js?v={right}"))
    assert good.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert not worker.requests
    bad = get(gateway.url(f"/static/js/bokeh.min.js?v={right[::-1]}"))
    assert bad.text == "ok\n", "the worker answers for another version"
    assert "immutable" not in bad.headers.get("Cache-Control", "")
    plain = get(gateway.url("/static/js/bokeh.min.js"))
    assert "immutable" not in plain.headers["Cache-Control"]


def test_sf08_names_that_no_file_system_takes(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    worker.forget()
    for path in ("/static/" + "a" * 300 + ".js", "/static/" + "a/" * 2500 + "x.js"):
        assert get(gateway.url(path)).status_code in {200, 404, 414}  # 200: the worker's, which takes any name here


def test_tk12_pages_are_not_stored(three_workers: list[BokehWorker], tmp_path: Path) -> None:
    """A restored tab fetches a fresh page, with a token that has not expired."""
    text = f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nservers = {servers(three_workers)}\n'
    with GatewayProcess(text, tmp_path) as gateway:
        assert get(gateway.url("/recorder")).headers["Cache-Control"] == "no-store"
        assert "no-store" not in get(gateway.url("/static/js/bokeh.min.js")).headers["Cache-Control"]


def test_every_asset_of_a_panel_template_page_without_a_worker(tmp_path: Path) -> None:
    """SP-07: a worker of `panel serve` makes the page; each of its scripts and styles is the gateway's."""
    template = APPS / "template.py"
    arguments = ["--log-level", "debug"]
    with BokehWorker(tmp_path, template, command=("panel", "serve"), arguments=arguments) as worker:
        text = f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nservers = {servers([worker])}\n'
        with GatewayProcess(text, tmp_path) as gateway, http_session() as browser:
            url = gateway.url("/template")
            page = browser.get(url)
            assert page.status_code == 200
            links = re.findall(r"""(?:src|href)=["']([^"']+)["']""", page.text)
            links += re.findall(r"""["']([^"'\s]*static/[^"'\s]+\.(?:js|css|mjs)(?:\?v=\w+)?)["']""", page.text)
            assets = {urljoin(url, link) for link in links if "static/" in link}
            statuses = {asset: browser.get(asset).status_code for asset in assets}
            print(f"\nPanel template page: {len(assets)} assets, all 200; asked of a worker: 0")
            assert len(assets) > 10
            assert set(statuses.values()) == {200}, statuses
            asked = [line for line in worker.requests() if "static/" in line]
            asked += [line for line in gateway.access_log() if "static/" in line and '" 200 ' not in line]
            assert not asked
