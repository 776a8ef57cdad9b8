"""A target that was asked for before is answered by a shorter way, and by the same rules."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.frames import handshake
from tests.support.gateway import GatewayProcess
from tests.support.raw import Answer, RawClient
from tests.support.recording import Recorded, RecordingWorker, Script, Side, answer, either

CONFIG = """
[gateway]
listen = ["127.0.0.1:0"]

[pool.apps]
servers = ["{worker}"]
strip_cookies = ["_ga*"]

[pool.site]
kind = "http"
servers = ["{worker}"]

[[route]]
path = "/apps"
pool = "apps"

[[route]]
path = "/mount"
pool = "site"
strip_prefix = true
"""


@pytest.fixture(scope="module")
def recording() -> Iterator[RecordingWorker]:
    with RecordingWorker(either) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(recording: RecordingWorker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    text = CONFIG.format(worker=recording.address)
    with GatewayProcess(text, tmp_path_factory.mktemp("asked-before")) as running:
        yield running


def ask(client: RawClient, path: str, *lines: str, method: str = "GET") -> Answer:
    head = "".join(f"{line}\r\n" for line in (f"{method} {path} HTTP/1.1", "Host: localhost", *lines))
    return client.send(head.encode() + b"\r\n").answer(method=method)


def test_a_page_goes_on_without_unwanted_cookies_each_time(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    """`strip_cookies`, on one connection and on another."""
    cookies = "Cookie: _ga_1=junk; sid=own"
    with RawClient(gateway.port) as first, RawClient(gateway.port) as second:
        for client in (first, first, second):
            assert ask(client, "/apps/page", cookies).status == 200
    assert [request.all("cookie") for request in worker.to("/apps/page")] == [["sid=own"]] * 3


async def spaced(request: Recorded, side: Side) -> None:
    await side.body(request)
    await side.send(answer(b"ok", "200 OK", "X-Back: a b \t ", f"Location: {request.target} \t"))


async def spaced_by_chunks(request: Recorded, side: Side) -> None:
    await side.body(request)
    await side.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked \r\nX-Back: a b \t \r\n\r\n2\r\nok\r\n0\r\n\r\n")


@pytest.mark.parametrize("script", [spaced, spaced_by_chunks])
def test_white_space_around_a_value_is_no_part_of_it(
    gateway: GatewayProcess, worker: RecordingWorker, script: Script
) -> None:
    """RFC 9112 section 5.1; both ways, the first time and later."""
    worker.scripts["/apps/spaced"] = script
    with RawClient(gateway.port) as client:
        for _ in range(3):
            found = ask(client, "/apps/spaced", "X-There: \t c d \t ", "Origin: http://localhost \t")
            assert b"\r\nX-Back: a b\r\n" in found.head
    assert worker.received().count(b"\r\nX-There: c d\r\n") == 3


def test_nobody_changes_what_others_get_at_the_mount_point(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    """An upgrade that is not spoken is no reason to ask the worker, this time or later."""
    with RawClient(gateway.port) as stranger, RawClient(gateway.port) as client:
        assert ask(stranger, "/mount", "Connection: upgrade", "Upgrade: h2c").status == 308
        found = ask(client, "/mount")
    assert (found.status, found.header("Location")) == (308, "/mount/")
    assert not worker.requests


def test_what_is_no_page_comes_to_the_root_of_a_stripped_mount(
    gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    """A form or a WebSocket cannot be redirected to the slash."""
    with RawClient(gateway.port) as client, RawClient(gateway.port) as socket:
        assert ask(client, "/mount", "Content-Length: 0", method="POST").status == 200
        assert ask(client, "/mount?a=1", "Content-Length: 0", method="POST").status == 200
        assert socket.send(handshake("/mount")).answer().status == 101
    assert worker.targets == ["/", "/?a=1", "/"]
    assert not worker.errors


def test_a_queue_that_a_reload_brings_is_for_pages_on_connections_from_before(tmp_path: Path) -> None:
    """`max_sessions` is the pool's, whichever configuration a connection began with."""

    async def never(request: Recorded, side: Side) -> None:
        await side.wait_end()

    with RecordingWorker(scripts={"/slow": never}) as worker:
        text = f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nservers = ["{worker.address}"]\n'
        with GatewayProcess(text, tmp_path) as gateway, RawClient(gateway.port) as old, RawClient(gateway.port) as slow:
            for _ in range(2):
                assert ask(old, "/page", "Accept: text/html").status == 200
            gateway.config_path.write_text(gateway.text.replace("[timeouts]", "max_sessions = 1\n[timeouts]"))
            gateway.signal(signal.SIGHUP)
            gateway.wait_for_output("reload: in force")
            slow.send(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
            worker.wait_for("/slow")
            found = ask(old, "/page", "Accept: text/html")
            assert found.status == 503
            assert b"place in the queue: 1" in found.body


def test_a_404_that_breaks_off_is_not_mixed_with_the_next_workers_answer(tmp_path: Path) -> None:
    """An extension's file that the first worker has not, and dies while it says so."""
    turns = itertools.count()

    async def script(request: Recorded, side: Side) -> None:
        await side.body(request)
        if next(turns):
            await side.send(answer(b"window.oddity = 1"))
        else:
            await side.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\nNot")
            side.close()

    with RecordingWorker(script) as one, RecordingWorker(script) as other:
        text = f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nservers = ["{one.address}", "{other.address}"]\n'
        with GatewayProcess(text, tmp_path) as gateway, RawClient(gateway.port) as client:
            for _ in range(2):
                found = ask(client, "/static/extensions/oddity/oddity.js")
                assert (found.status, found.complete, found.body) == (200, True, b"window.oddity = 1")
