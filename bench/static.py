"""What BokehJS costs to send.  Run: python -m bench.static   (4 minutes; --short: 40 s; two cores)

`first_view`: bytes and time of the scripts of a first page view, asked as a browser does (br and gzip accepted, `?v=`
as in Bokeh's pages); `again` is the second visit: nothing where the answer said so, else the question whether it
changed.  `small_file` (5 KB, from a folder of one's own) and `script` (194 KB) are the CPU of one file.  nginx, Apache
and Caddy serve Bokeh's folder from disk as the guide says; who serves no files is left out.  What came is compared with
the file once.
Claims: a small file at most 1.0 of nginx, a first view at most 0.25 of nginx's bytes.
Kept record: bench/results/static.json
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.client
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import bokeh.server
import brotli

from bench.harness import report, workload
from bench.harness.http_load import clients
from bench.harness.load import Load
from bench.harness.meter import Meter
from bench.harness.options import parse
from bench.harness.proxy import Proxy
from bench.harness.rounds import Case, interleave
from bench.harness.stand import Stand

FOLDER = Path(bokeh.server.__file__).parent / "static"
SCRIPTS = tuple(f"js/bokeh{part}.min.js" for part in ("", "-gl", "-widgets", "-tables", "-mathjax"))
SMALL_FILE, SCRIPT = "js/lib/models/plots/plot.d.ts", "js/bokeh-gl.min.js"
SERVE_FILES = ("gateway", "nginx_guide", "nginx_tuned", "apache", "caddy")
CONNECTIONS = 16


class Answer(NamedTuple):
    """One file as it came."""

    body: bytes
    size: int
    """Bytes of head and body."""
    headers: Mapping[str, str]


@functools.cache
def url(file: str) -> str:
    """As it stands in a page: the version is Tornado's hash of the contents."""
    return f"/static/{file}?v={hashlib.sha512((FOLDER / file).read_bytes()).hexdigest()}"


def fetch(connection: http.client.HTTPConnection, path: str, **headers: str) -> Answer:
    """One GET.

    Raises:
        RuntimeError: neither 200 nor 304.
    """
    sent = {
        "Accept-Encoding": "gzip, deflate, br",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    connection.request("GET", path, headers=sent)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status not in (200, 304):
        raise RuntimeError(f"{path}: {answer.status}")
    got = {name.lower(): value for name, value in answer.getheaders()}
    head = 17 + sum(len(name) + len(value) + 4 for name, value in got.items())
    return Answer(body, head + len(body), got)


def verified(file: str, answer: Answer) -> Answer:
    """The same answer.

    Raises:
        RuntimeError: it is not the file on disk, once decoded.
    """
    coding = answer.headers.get("content-encoding", "")
    plain = {"gzip": gzip.decompress, "br": brotli.decompress}.get(coding, bytes)(answer.body)
    if plain != (FOLDER / file).read_bytes():
        raise RuntimeError(f"{file}: {len(plain)} bytes that are not the file")
    return answer


def visit(port: int, kept: dict[str, Answer]) -> tuple[int, int]:
    """(bytes, files asked for) of one page view; `kept` is the browser's cache and gets what came."""
    size = asked = 0
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for script in SCRIPTS:
        path, conditions = url(script), {}
        if path in kept:
            before = kept[path].headers
            if "max-age=" in before.get("cache-control", "") and "max-age=0" not in before["cache-control"]:
                continue
            pairs = (("If_None_Match", "etag"), ("If_Modified_Since", "last-modified"))
            conditions = {name: before[header] for name, header in pairs if header in before}
        answer = fetch(connection, path, **conditions)
        size, asked = size + answer.size, asked + 1
        kept.setdefault(path, answer)
    connection.close()
    return size, asked


def _view(name: str, *, again: bool) -> Case:
    async def run(proxy: Proxy, meter: Meter) -> Load:
        kept: dict[str, Answer] = {}
        visit(proxy.port, kept)
        for script in SCRIPTS:
            verified(script, kept[url(script)])
        load, size, asked = Load(), 0, 0
        with meter:
            budget, started = meter.budget(), time.perf_counter()
            while budget.take():
                began = time.perf_counter_ns()
                size, asked = visit(proxy.port, dict(kept) if again else {})
                load.units += 1
                load.latencies_ns.append(time.perf_counter_ns() - began)
        load.seconds = time.perf_counter() - started
        load.extra |= {"bytes": size, "files": asked}
        return load

    return Case(name=name, unit="page view", run=run, skips=_no_files, calls=False)


def _file(name: str, file: str, path: str) -> Case:
    async def run(proxy: Proxy, meter: Meter) -> Load:
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
        expected = len(verified(file, fetch(connection, path)).body)
        connection.close()
        text = workload.get(path, f"127.0.0.1:{proxy.port}")
        async with clients(proxy.port, text, expected, meter.at_once or CONNECTIONS) as group:
            with meter:
                load = await group.run(meter.budget())
        load.extra["bytes"] = expected
        return load

    return Case(name=name, unit="file", run=run, skips=_no_files)


def _no_files(proxy: Proxy) -> str | None:
    return None if proxy.name in SERVE_FILES else "serves no files"


CASES = (
    _file("small_file", SMALL_FILE, f"/files/{SMALL_FILE}"),
    _file("script", SCRIPT, url(SCRIPT)),
    _view("first_view", again=False),
    _view("again", again=True),
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run as told by the command line."""
    options = parse(__doc__ or "", argv)
    with Stand(options.peers, static=FOLDER) as stand:
        made = report.rows(CASES, interleave(CASES, stand.proxies, options))
        report.finish("static", __doc__ or "", options, stand, made)


if __name__ == "__main__":
    main(sys.argv[1:])
