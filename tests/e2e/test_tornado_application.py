"""A `tornado.web.Application` mounted in the gateway: what Tornado's own server gives it, the gateway gives it too."""

from __future__ import annotations

import re
import select
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.bokeh_client import http_session
from tests.support.gateway import MIB, GatewayProcess
from tests.support.raw import RawClient
from tests.support.recording import RecordingWorker
from tests.support.waiting import GENEROUS
from tests.support.workers import APPS, servers

PROGRAM = APPS / "tornado_gateway.py"


class Embedded(GatewayProcess):
    """The program, in place of the command."""

    mistakes = 0
    """Tracebacks that the application's own mistakes leave in the log."""

    def assert_no_traceback(self) -> None:
        assert len(re.findall(r"^Traceback ", self.stderr, re.MULTILINE)) == self.mistakes, self.report(200)

    def __init__(self, text: str, folder: Path) -> None:
        super().__init__(text, folder)
        self.command = [sys.executable, str(PROGRAM), str(self.config_path)]


@pytest.fixture(scope="module")
def worker() -> Iterator[RecordingWorker]:
    with RecordingWorker() as worker:
        yield worker


@pytest.fixture(scope="module")
def gateway(worker: RecordingWorker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("embedded")
    (folder / "note.txt").write_text("a file\n" * 5000)
    text = (
        f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nkind = "http"\nservers = {servers([worker])}\n'
        '[[route]]\npath = "/"\npool = "apps"\n'
    )
    with Embedded(text, folder) as gateway:
        yield gateway
        gateway.mistakes = gateway.stderr.count("ValueError: a mistake in the application")


@pytest.fixture
def client() -> Iterator[requests.Session]:
    with http_session() as session:
        yield session


def test_get_and_head(gateway: GatewayProcess, client: requests.Session, worker: RecordingWorker) -> None:
    worker.forget()
    got = client.get(gateway.url("/own/hello?name=you"))
    assert (got.status_code, got.text) == (200, "hello you")
    assert got.cookies["seen"] == "yes"
    assert got.headers["X-Seen-From"] == "127.0.0.1 http"
    head = client.head(gateway.url("/own/hello?name=you"))
    assert (head.status_code, head.headers["Content-Length"], head.content) == (200, "9", b"")
    etag = client.get(gateway.url("/own/hello?name=you"), headers={"If-None-Match": got.headers["Etag"]})
    assert (etag.status_code, etag.content) == (304, b"")
    assert not worker.requests


def test_what_is_not_below_the_mount_goes_to_the_pool(
    gateway: GatewayProcess, client: requests.Session, worker: RecordingWorker
) -> None:
    assert client.get(gateway.url("/other")).text == "ok\n"
    assert client.get(gateway.url("/ownership")).text == "ok\n"


def test_post_of_a_form_and_of_a_file(gateway: GatewayProcess, client: requests.Session) -> None:
    form = client.post(gateway.url("/own/hello"), data={"name": "Ada"})
    assert form.json() == {"name": "Ada", "files": []}
    upload = client.post(gateway.url("/own/hello"), data={"name": "Ada"}, files={"portrait": b"\0" * 100_000})
    assert upload.json() == {"name": "Ada", "files": ["portrait"]}


def test_an_answer_of_unknown_length_is_streamed(gateway: GatewayProcess, client: requests.Session) -> None:
    got = client.get(gateway.url("/own/pieces"))
    assert got.headers["Transfer-Encoding"] == "chunked"
    assert got.text == "".join(f"piece {n}\n" * 1000 for n in range(5)) + "end\n"


def test_an_old_client_gets_it_until_the_connection_ends(gateway: GatewayProcess) -> None:
    with RawClient(gateway.port) as old:
        old.send(b"GET /own/pieces HTTP/1.0\r\nHost: localhost\r\n\r\n")
        answer = old.answer()
        assert answer.status == 200
        assert not answer.headers("transfer-encoding")
        assert answer.body.endswith(b"end\n")


def test_pipelined_requests_are_answered_in_order(gateway: GatewayProcess) -> None:
    with RawClient(gateway.port) as both:
        names = [b"a", b"b", b"c"]
        both.send(b"".join(b"GET /own/hello?name=%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % name for name in names))
        assert [both.answer().body for _ in names] == [b"hello " + name for name in names]


def test_after_its_stop_nothing_of_the_application_is_left(worker: RecordingWorker, tmp_path: Path) -> None:
    """A handler that still waits for its body learns that the client is cut off."""
    text = f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nkind = "http"\nservers = {servers([worker])}\n'
    with Embedded(text, tmp_path) as gateway, RawClient(gateway.port) as client:
        client.send(b"POST /own/stuck HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhello")
        gateway.wait_for_output("stuck: has a piece")
        gateway.stop()
        assert "stuck: on_connection_close" in gateway.stderr
        gateway.start()


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        pytest.param("/own/broken", 500, "Internal Server Error", id="exception"),
        pytest.param("/own/forbidden", 403, "Not you", id="http-error"),
        pytest.param("/own/nothing", 404, "Not Found", id="no-handler"),
    ],
)
def test_error_pages_are_the_applications_and_the_connection_lives(
    path: str, status: int, said: str, gateway: GatewayProcess
) -> None:
    with RawClient(gateway.port) as client:
        client.send(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode())
        answer = client.answer()
        assert answer.status == status
        assert said.encode() in answer.body
        assert b"Traceback" not in answer.body
        client.send(b"GET /own/hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.answer().body == b"hello nobody"


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_large_body_is_taken_piece_by_piece(framing: str, gateway: GatewayProcess, client: requests.Session) -> None:
    """Far more than the gateway would hold."""
    piece, count = b"y" * 65536, 320
    gateway.forget_peak_memory()
    before = gateway.memory()
    if framing == "chunked":
        got = client.put(gateway.url("/own/upload"), data=(piece for _ in range(count)), timeout=GENEROUS)
    else:
        got = client.put(gateway.url("/own/upload"), data=_Repeated(piece, count), timeout=GENEROUS)
    assert got.text == str(len(piece) * count)
    assert gateway.peak_memory() - before < 8 * MIB


class _Repeated:
    """A file-like body of known length that is never whole in memory."""

    def __init__(self, piece: bytes, count: int) -> None:
        self.piece, self.left = piece, count

    def __len__(self) -> int:
        return len(self.piece) * self.left

    def read(self, _size: int = -1) -> bytes:
        if not self.left:
            return b""
        self.left -= 1
        return self.piece


def test_an_application_that_takes_no_more_stops_the_client(gateway: GatewayProcess) -> None:
    gateway.forget_peak_memory()
    before = gateway.memory()
    sent = 0
    with RawClient(gateway.port) as client:
        client.send(b"POST /own/stuck HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n")
        while select.select([], [client.socket], [], 2.0)[1] and sent < 100_000_000:
            sent += client.socket.send(b"z" * 65536)
        gateway.wait_for_output("stuck: has a piece")
    assert sent < 30 * MIB, "kernel buffers and no more"
    assert gateway.peak_memory() - before < 8 * MIB


def test_a_slow_reader_stops_the_application_and_its_going_is_told(gateway: GatewayProcess) -> None:
    gateway.forget_peak_memory()
    before = gateway.memory()
    with RawClient(gateway.port, receive_buffer=65536) as client:
        client.send(b"GET /own/endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for _ in range(50):
            client.read_exactly(20_000)
        assert gateway.peak_memory() - before < 10 * MIB
    gateway.wait_for_output("endless: on_connection_close")
    gateway.wait_for_output("endless: StreamClosedError")


def test_files_of_the_application(gateway: GatewayProcess, client: requests.Session) -> None:
    whole = client.get(gateway.url("/own/files/note.txt"))
    assert whole.text == "a file\n" * 5000
    part = client.get(gateway.url("/own/files/note.txt"), headers={"Range": "bytes=7-13"})
    assert (part.status_code, part.text) == (206, "a file\n")


def test_the_access_log_has_its_requests(gateway: GatewayProcess, client: requests.Session) -> None:
    client.get(gateway.url("/own/hello?name=logged"))
    gateway.wait_for_output('"GET /own/hello?name=logged HTTP/1.1" 200 12')
