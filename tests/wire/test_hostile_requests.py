"""Raw requests that no honest client sends.  Sources: RFC 9110, RFC 9112, RFC 6455 and the advisories named by id.

Every row: bytes in, the statuses that are right, and what may reach the worker.  Always: an answer of 4xx or 5xx to
a malformed message closes the connection, and no bytes of one request are ever read as another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.support.frames import handshake
from tests.support.gateway import GatewayProcess
from tests.support.raw import Answer, RawClient, raw_exchange
from tests.support.recording import Recorded, RecordingWorker

NOT_REACHED, ONCE, REACHED = "not reached", "framed once", "reached"
CLOSED = 0
"""In a set of statuses: the connection may also be closed without an answer."""

HOST = b"Host: localhost\r\n"


@dataclass(frozen=True)
class Case:
    """One row; `check` looks closer at an answered exchange."""

    id: str
    data: bytes
    statuses: frozenset[int]
    worker: str
    check: Callable[[Answer, Recorded], bool] | None = None
    cut_off: bool = False
    """The fault comes after more bytes than one read takes, so an incomplete request may stand at the worker."""


def case(
    name: str,
    data: bytes,
    statuses: str,
    worker: str,
    check: Callable[[Answer, Recorded], bool] | None = None,
    *,
    cut_off: bool = False,
) -> object:
    row = Case(name, data, frozenset(map(int, statuses.split("/"))), worker, check, cut_off)
    return pytest.param(row, id=name)


def get(name: str, headers: bytes = HOST, *, version: bytes = b"HTTP/1.1") -> bytes:
    return b"GET /c/%s %s\r\n%s\r\n" % (name.encode(), version, headers)


def post(name: str, headers: bytes, body: bytes) -> bytes:
    return b"POST /c/%s HTTP/1.1\r\n%s%s\r\n%s" % (name.encode(), HOST, headers, body)


def chunked(name: str, body: bytes) -> bytes:
    return post(name, b"Transfer-Encoding: chunked\r\n", body)


def coded(name: str, coding: bytes, body: bytes = b"0\r\n\r\n") -> bytes:
    return post(name, b"Transfer-Encoding: %s\r\n" % coding, body)


def sized(name: str, length: bytes, body: bytes) -> bytes:
    return post(name, b"Content-Length:%s\r\n" % length, body)


def marked(name: str, request_line: bytes) -> bytes:
    """For targets that cannot carry the mark themselves."""
    return b"%s\r\n%sX-M: /c/%s\r\n\r\n" % (request_line, HOST, name.encode())


SMUGGLED = b"GET /c/SMUG HTTP/1.1\r\nHost: localhost\r\n\r\n"

REQUEST_LINES = [
    case("RL01", b"GET /c/RL01\r\n\r\n", "400/505/0", NOT_REACHED),
    case("RL06", get("RL06", version=b"HTTP/2.0"), "400/505", NOT_REACHED),
    case("RL06-http-1.2", get("RL06", version=b"HTTP/1.2"), "200/400/505", ONCE),
    case("RL06-http-11", get("RL06", version=b"HTTP/11"), "400/505", NOT_REACHED),
    case("RL06-lower-case", get("RL06", version=b"http/1.1"), "400/505", NOT_REACHED),
    case("RL07", b"get /c/RL07 HTTP/1.1\r\n" + HOST + b"\r\n", "400/405/501", NOT_REACHED),
    case("RL08", b"G(T /c/RL08 HTTP/1.1\r\n" + HOST + b"\r\n", "400/501", NOT_REACHED),
    case("RL09", b"GET c/RL09 HTTP/1.1\r\n" + HOST + b"\r\n", "400", NOT_REACHED),
    case("RL10", get("RL10#frag"), "200/400", ONCE, lambda _, request: "#" not in request.target),
    case("RL12", b"GET /c/RL12\xff HTTP/1.1\r\n" + HOST + b"\r\n", "200/400", ONCE),
    case("RL12-nul", b"GET /c/RL12\x00 HTTP/1.1\r\n" + HOST + b"\r\n", "400", NOT_REACHED),
    case("RL12-space", b"GET /c/RL12 b HTTP/1.1\r\n" + HOST + b"\r\n", "400/505", NOT_REACHED),
    case("RL14", b"GET /c/RL14\rHTTP/1.1\r\n" + HOST + b"\r\n", "400", NOT_REACHED),
    case(
        "RL15",
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\nX-M: /c/RL15\r\n\r\n",
        "400/405/501",
        NOT_REACHED,
    ),
    case("RL16", b"TRACE /c/RL16 HTTP/1.1\r\n" + HOST + b"\r\n", "405/501", NOT_REACHED),
    case("RL17", marked("RL17", b"OPTIONS * HTTP/1.1"), "200/204/400/404/405", ONCE),
    case("RL18", marked("RL18", b"GET * HTTP/1.1"), "400", NOT_REACHED),
    case(
        "RL19",
        marked("RL19", b"GET http://evil.test/c/RL19 HTTP/1.1"),
        "200/400/421",
        ONCE,
        lambda _, request: request.all("host") == ["evil.test"] and request.target == "/c/RL19",
    ),
    case("RL20", marked("RL20", b"GET http://u:p@localhost/c/RL20 HTTP/1.1"), "400", NOT_REACHED),
    case("RL21", get("RL21?" + "a" * 70_000), "400/414/431", NOT_REACHED),
    case("RL30-rtsp-1.1", get("RL30", version=b"RTSP/1.1"), "400/505", NOT_REACHED),
    case("RL30-rtsp-1.0", get("RL30", version=b"RTSP/1.0"), "400/505", NOT_REACHED),
    case("RL30-rtsp-method", b"DESCRIBE /c/RL30 RTSP/1.0\r\n" + HOST + b"\r\n", "400/501/505", NOT_REACHED),
    case("RL30-rtsp-options", b"OPTIONS /c/RL30 RTSP/1.1\r\n" + HOST + b"\r\n", "400/501/505", NOT_REACHED),
    case("RL30-ice", b"SOURCE /c/RL30 ICE/1.1\r\n" + HOST + b"\r\n", "400/501/505", NOT_REACHED),
    case("RL31-two-spaces", b"GET  /c/RL31 HTTP/1.1\r\n" + HOST + b"\r\n", "400", NOT_REACHED),
    case("RL31-two-spaces-behind", b"GET /c/RL31  HTTP/1.1\r\n" + HOST + b"\r\n", "400", NOT_REACHED),
    case("RL31-blank-line-before", b"\r\n" + get("RL31"), "200", REACHED),
]

HEADERS = [
    case("HD01", get("HD01", b""), "400", NOT_REACHED),
    case("HD02", get("HD02", HOST + b"Host: evil\r\n"), "400", NOT_REACHED),
    case("HD02-same-twice", get("HD02", HOST + HOST), "400", NOT_REACHED),
    case("HD05", get("HD05", b"Host: localhost/../x\r\n"), "400", NOT_REACHED),
    case("HD05-list", get("HD05", b"Host: localhost, evil\r\n"), "400", NOT_REACHED),
    case("HD05-space", get("HD05", b"Host: local host\r\n"), "400", NOT_REACHED),
    case("HD05-port", get("HD05", b"Host: localhost:80x\r\n"), "400", NOT_REACHED),
    case("HD05-dots", get("HD05", b"Host: ..\r\n"), "400", NOT_REACHED),
    case("HD05-empty-label", get("HD05", b"Host: a..b\r\n"), "400", NOT_REACHED),
    case("HD05-empty-first-label", get("HD05", b"Host: .localhost\r\n"), "400", NOT_REACHED),
    case("HD06", get("HD06", b"Host: u@localhost\r\n"), "400", NOT_REACHED),
    case("HD07", get("HD07", b"Host : localhost\r\n"), "400", NOT_REACHED),
    case("HD09", get("HD09", HOST + b"X-A: 1\r\n folded\r\n"), "400", NOT_REACHED),
    case("HD10", get("HD10", b" " + HOST), "400", NOT_REACHED),
    case("HD11", get("HD11", HOST + b"X-A: a\x00b\r\n"), "400", NOT_REACHED),
    case("HD12", get("HD12", HOST + b"X-A: a\rb\r\n"), "400", NOT_REACHED),
    case("HD13", get("HD13", HOST + b"X-A: a\nX-B: b\r\n"), "400", NOT_REACHED),
    case("HD15", get("HD15", HOST + b"X[]: t\r\n"), "400", NOT_REACHED),
    case("HD16", get("HD16", HOST + b": t\r\n"), "400", NOT_REACHED),
    case("HD17", get("HD17", HOST + b"NoColon\r\n"), "400", NOT_REACHED),
    case("HD18", get("HD18", HOST + b"X\x85: t\r\n"), "400", NOT_REACHED),
    case("HD20", get("HD20", HOST + b"X-A: " + b"a" * 70_000 + b"\r\n"), "400/431", NOT_REACHED),
    case("HD20-many", get("HD20", HOST + b"X-A: a\r\n" * 5_000), "400/431", NOT_REACHED),
    case("HD20-name", get("HD20", HOST + b"X" * 70_000 + b": a\r\n"), "400/431", NOT_REACHED),
    case("HD20-endless", b"GET /c/HD20 HTTP/1.1\r\nX-A: " + b"a" * 400_000, "400/431", NOT_REACHED),
    case("HD23", get("HD23", b"Host:\tlocalhost\r\nempty:\r\n"), "200", REACHED),
    case("HD24", get("HD24", b"", version=b"HTTP/1.0"), "200/400", ONCE),
]

SMUGGLING = [
    case(
        "SM01",
        post("SM01", b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\nG"),
        "400",
        NOT_REACHED,
    ),
    case("SM02", post("SM02", b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", b"5c\r\n"), "400", NOT_REACHED),
    case("SM03", post("SM03", b"Content-Length: 0\r\nContent-Length: 44\r\n", SMUGGLED), "400", NOT_REACHED),
    case("SM05", sized("SM05", b" 5, 5", b"hello"), "200/400", ONCE),
    case("SM07", sized("SM07", b" 1_0", b"0123456789"), "400", NOT_REACHED),
    case("SM07-plus", sized("SM07", b" +5", b"hello"), "400", NOT_REACHED),
    case("SM08", sized("SM08", b" -1", b""), "400", NOT_REACHED),
    case("SM09", sized("SM09", b" 0x5", b"hello"), "400", NOT_REACHED),
    case("SM10", sized("SM10", b" ", SMUGGLED), "400", NOT_REACHED),
    case("SM11-overflow", sized("SM11", b" 18446744073709551621", b"hello"), "400/413", NOT_REACHED),
    case("SM12", sized("SM12", b" 5 \x0b", b"hello"), "400", NOT_REACHED),
    case(
        "SM13",
        post("SM13", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"1\r\nZ\r\n0\r\n\r\n"),
        "400",
        NOT_REACHED,
    ),
    case("SM14", coded("SM14", b",chunked"), "400/501", NOT_REACHED),
    case("SM15", coded("SM15", b"xchunked"), "400/501", NOT_REACHED),
    case("SM15-tab", coded("SM15", b"\x0bchunked"), "400/501", NOT_REACHED),
    case("SM15-quoted", coded("SM15", b'"chunked"'), "400/501", NOT_REACHED),
    case("SM15-empty", coded("SM15", b""), "400/501", NOT_REACHED),
    case("SM15-parameter", coded("SM15", b"chunked;a=b"), "400/501", NOT_REACHED),
    case("SM16", coded("SM16", b"chunked, identity"), "400/501", NOT_REACHED),
    case("SM17-chunked-on-1.0", coded("SM17", b"chunked").replace(b"HTTP/1.1", b"HTTP/1.0"), "400/501", NOT_REACHED),
    case("SM19", coded("SM19", b"gzip, chunked"), "400/501", NOT_REACHED),
]

CHUNKS = [
    case("CH03", chunked("CH03", b"0_5\r\nhello\r\n0\r\n\r\n"), "400", NOT_REACHED),
    case("CH03-hex-prefix", chunked("CH03", b"0x5\r\nhello\r\n0\r\n\r\n"), "400", NOT_REACHED),
    case("CH03-sign", chunked("CH03", b"+5\r\nhello\r\n0\r\n\r\n"), "400", NOT_REACHED),
    case("CH03-empty-size", chunked("CH03", b"\r\nhello\r\n0\r\n\r\n"), "400", NOT_REACHED),
    case("CH04", chunked("CH04", b"5\nhello\r\n0\r\n\r\n"), "400", NOT_REACHED),
    case("CH05", chunked("CH05", b"5\r\nhelloXX0\r\n\r\n"), "400", NOT_REACHED),
    case("CH06", chunked("CH06", b"5;a\nb\r\nhello\r\n0\r\n\r\n"), "400", NOT_REACHED),
    case("CH07", chunked("CH07", b"5\r\r;AB\r\nhello\r\n0\r\n\r\n"), "400", NOT_REACHED),
    case(
        "CH09",
        chunked("CH09", b"5;" + b"a" * 100_000 + b"\r\nhello\r\n0\r\n\r\n"),
        "400/413/431",
        NOT_REACHED,
        cut_off=True,
    ),
    case("CH10", chunked("CH10", b"FFFFFFFFFFFFFFFFF\r\n"), "400/413", NOT_REACHED),
    case("CH10-16-digits", chunked("CH10", b"FFFFFFFFFFFFFFFF\r\nx"), "400/413", NOT_REACHED),
    case("CH10-2^63", chunked("CH10", b"8000000000000000\r\nx"), "400/413", NOT_REACHED),
    case("CH10-1-TiB-16", chunked("CH10", b"10000000000;a=b\r\n"), "400/413", NOT_REACHED),
    case("CH10-the-second", chunked("CH10", b"2\r\nab\r\nFFFFFFFFFFFFFFFF\r\n"), "400/413", NOT_REACHED),
    case("CH10-zeros-in-front", chunked("CH10", b"00000000000000000005\r\nhello\r\n0\r\n\r\n"), "200/400", ONCE),
    case(
        "CH11-digits-for-data",
        chunked("CH11", b"14\r\nFFFFFFFFFFFFFFFFFF\r\n\r\n0\r\n\r\n"),
        "200",
        ONCE,
        lambda _, request: request.body == b"FFFFFFFFFFFFFFFFFF\r\n",
    ),
    case("CH12", chunked("CH12", b"5\r\nhello\r\n0\r\nX: y\r\n\r\n"), "200/400", ONCE),
    case("CH13", chunked("CH13", b"5\r\nhello\r\n0\r\nX:" + SMUGGLED.replace(HOST, b"")), "200/400", ONCE),
    case(
        "CH14",
        chunked("CH14", b"5\r\nhello\r\n0\r\n" + b"T: x\r\n" * 20_000 + b"\r\n"),
        "400/413/431",
        NOT_REACHED,
        cut_off=True,
    ),
    case(
        "CH15",
        chunked("CH15", b"1\r\na\r\n" * 20_000 + b"0\r\n\r\n"),
        "200/413",
        ONCE,
        lambda _, request: request.body == b"a" * 20_000,
    ),
]

BODIES = [
    case("BD01", sized("BD01", b" 1099511627776", b"x"), "400/413", NOT_REACHED),
    case("BD03", post("BD03", b"Expect: 200-ok\r\nContent-Length: 5\r\n", b"hello"), "200/417", ONCE),
    case(
        "BD04",
        b"GET /c/BD04 HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s" % (HOST, len(SMUGGLED), SMUGGLED),
        "200/400/413",
        ONCE,
    ),
]

PIPELINES = [
    case("PL02", get("PL02", HOST + b"Connection: close\r\n") + SMUGGLED, "200", REACHED),
    case("PL03", get("PL03") + b"BAD\r\n\r\n", "200", REACHED),
]


def forwarded_for_is_ours(_: Answer, request: Recorded) -> bool:
    return request.all("x-forwarded-for") == ["127.0.0.1"]


HOP_BY_HOP = [
    case(
        "HH01",
        get("HH01", HOST + b"Connection: close, X-Forwarded-For\r\nX-Forwarded-For: 1.2.3.4\r\n"),
        "200/400",
        ONCE,
        forwarded_for_is_ours,
    ),
    case(
        "HH02",
        get("HH02", HOST + b"Connection: Host\r\n"),
        "200/400",
        ONCE,
        lambda _, request: request.all("host") == ["localhost"],
    ),
    case(
        "HH03",
        get(
            "HH03",
            HOST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
            b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        ),
        "200/400",
        ONCE,
        lambda _, request: not request.is_upgrade and request.get("http2-settings") is None,
    ),
    case(
        "HH04-all-of-them",
        get(
            "HH04",
            HOST + b"Connection: X-Secret, keep-alive\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\n"
            b"Proxy-Connection: close\r\nTE: trailers\r\nTrailer: X\r\nProxy-Authorization: Basic eDp5\r\n",
        ),
        "200/400",
        ONCE,
        lambda _, request: (
            not {"x-secret", "keep-alive", "proxy-connection", "te", "proxy-authorization"}.intersection(
                name for name, _ in request.headers
            )
        ),
    ),
]

TRAVERSAL = [
    case(name, marked(name, b"GET %s HTTP/1.1" % target), "400/403/404", NOT_REACHED)
    for name, target in {
        "PT01": b"/static/../../etc/passwd",
        "PT02": b"/static/%2e%2e/%2e%2e/etc/passwd",
        "PT03": b"/static/..%2f..%2fetc/passwd",
        "PT04": b"/static/%252e%252e%252fetc/passwd",
        "PT05": b"/static/..%5c..%5cetc/passwd",
        "PT06": rb"/static/..\..\etc\passwd",
        "PT07": b"/static/%00/etc/passwd",
        "PT08": b"/static../etc/passwd",
        "PT09": b"/static//etc/passwd",
        "PT10": b"/static/.%2e/.%2e/etc/passwd",
        "PT11": b"/static/%c0%ae%c0%ae/etc/passwd",
        "PT12": b"/static/./.././secret.txt",
        "PT13": rb"/static\..\secret.txt",
        "PT14": rb"/c\..\PT14",
    }.items()
]


def upgrade(name: str, *headers: str, version: str = "13", method: str = "GET") -> bytes:
    return handshake(f"/ws/c/{name}", *headers, version=version, method=method)


UPGRADES = [
    case("WS01", upgrade("WS01", version="777"), "400/426", ONCE),
    case("WS03", upgrade("WS03", method="POST"), "400/405", ONCE),
    case(
        "WS04",
        upgrade("WS04").replace(b"HTTP/1.1", b"HTTP/1.0"),
        "200/400/426",
        ONCE,
        lambda _, request: not request.is_upgrade,
    ),
    case("WS05", upgrade("WS05", "Content-Length: 5") + b"hello", "400", ONCE),
    case("WS06-chunked", upgrade("WS06", "Transfer-Encoding: chunked") + b"0\r\n\r\n", "400", ONCE),
    case(
        "WS07-no-key",
        b"\r\n".join(line for line in upgrade("WS07").split(b"\r\n") if b"-Key" not in line),
        "200/400/426",
        ONCE,
        lambda _, request: not request.is_upgrade,
    ),
    case(
        "WS08-two-keys",
        upgrade("WS08", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
        "400",
        ONCE,
    ),
]

ALL = [
    *REQUEST_LINES,
    *HEADERS,
    *SMUGGLING,
    *CHUNKS,
    *BODIES,
    *PIPELINES,
    *HOP_BY_HOP,
    *TRAVERSAL,
    *UPGRADES,
]

CONFIG = """
[gateway]
listen = ["127.0.0.1:0"]

[pool.site]
kind = "http"
servers = ["{worker}"]

[[route]]
path = "/c"
pool = "site"

[[route]]
path = "/ws"
pool = "site"

[[route]]
path = "/static"
static = "{files}"

[limits]
body_size = "16 MiB"
"""


@pytest.fixture(scope="module")
def worker() -> Iterator[RecordingWorker]:
    with RecordingWorker() as recording:
        yield recording


@pytest.fixture(scope="module")
def gateway(worker: RecordingWorker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("hostile")
    files = folder / "files"
    files.mkdir()
    (files / "allowed.txt").write_text("allowed")
    (folder / "secret.txt").write_text("root:x:0:0")
    with GatewayProcess(CONFIG.format(worker=worker.address, files=files), folder) as running:
        yield running


@pytest.mark.parametrize("hostile", ALL)
def test_hostile_request(hostile: Case, gateway: GatewayProcess, worker: RecordingWorker) -> None:
    worker.forget()
    exchange = raw_exchange(gateway.port, hostile.data)
    status = exchange.status or CLOSED
    assert status in hostile.statuses, exchange
    assert_refused_once_and_closed(hostile, exchange.answers, exchange.closed)
    assert_worker_saw(hostile, status, worker)
    if hostile.check and status == 200:
        assert hostile.check(exchange.answers[0], worker.requests[0]), worker.requests[0]
    assert_serves(gateway)


def assert_refused_once_and_closed(hostile: Case, answers: list[Answer], closed: bool) -> None:
    """After a refusal nothing more is answered; only after well-formed HTTP may the connection be kept."""
    bodies = b"".join(answer.body for answer in answers)
    assert b"root:" not in bodies
    assert b"Traceback" not in bodies
    refused = [answer for answer in answers if answer.status >= 400]
    assert len(refused) <= 1, answers
    if refused:
        assert answers[-1] is refused[0], answers
        assert refused[0].body, "a refusal says what to do"
        well_formed = hostile.id[:2] in {"PT", "WS"} or refused[0].status in {404, 405, 417, 426}
        if not well_formed:
            assert closed, "the connection stays open after a malformed message"
            assert (refused[0].header("connection") or "").lower() == "close"


def assert_worker_saw(hostile: Case, status: int, worker: RecordingWorker) -> None:
    assert not [request for request in worker.requests if "SMUG" in request.target], worker.targets
    assert not worker.errors, worker.errors
    if hostile.worker == REACHED:
        assert len(worker.requests) == 1, worker.targets
    elif hostile.worker == NOT_REACHED and hostile.cut_off:
        assert not [request for request in worker.requests if request.complete], worker.targets
    elif hostile.worker == NOT_REACHED:
        assert worker.received() == b""
    else:
        assert len(worker.requests) == (1 if status == 200 else 0) or hostile.id in {"RL17", "BD03"}, worker.targets


def assert_serves(gateway: GatewayProcess) -> None:
    """The next client is served as if nothing had been."""
    assert raw_exchange(
        gateway.port, b"GET /static/allowed.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    ).status


def test_after_a_valid_request_a_malformed_one_is_answered_400_and_closed(gateway: GatewayProcess) -> None:
    """PL03, both halves: what was right is answered, what was not ends the connection."""
    exchange = raw_exchange(gateway.port, get("PL03") + b"BAD\r\n\r\n")
    assert [answer.status for answer in exchange.answers] == [200, 400]
    assert exchange.closed


def test_nothing_is_served_after_connection_close(gateway: GatewayProcess) -> None:
    """PL02: one answer, and the end of the connection (RFC 9112 section 9.6)."""
    exchange = raw_exchange(gateway.port, get("PL02", HOST + b"Connection: close\r\n") + SMUGGLED)
    assert [answer.status for answer in exchange.answers] == [200]
    assert exchange.closed


def test_pipelined_requests_are_answered_in_order(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    worker.forget()
    exchange = raw_exchange(gateway.port, b"".join(get(f"PL01-{n}") for n in range(5)))
    assert [answer.status for answer in exchange.answers] == [200] * 5
    assert worker.targets == [f"/c/PL01-{n}" for n in range(5)]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("apart", [False, True], ids=["in-one-write", "end-apart"])
def test_a_chunked_body_without_a_chunk_is_one(
    method: str, apart: bool, gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    """As `curl -T` sends an empty file: the worker is told that it has ended, and answers."""
    worker.forget()
    head = b"%s /c/CH20 HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n" % (method.encode(), HOST)
    with RawClient(gateway.port) as client:
        for part in (head, b"0\r\n\r\n") if apart else (head + b"0\r\n\r\n",):
            client.send(part)
        assert client.answer(method=method).status == 200
        client.send(get("after"))
        assert client.answer().status == 200
    assert sorted((request.target, request.body, request.complete) for request in worker.requests) == [
        ("/c/CH20", b"", True),
        ("/c/after", b"", True),
    ]


def test_an_absurd_chunk_is_seen_however_it_comes(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    data = chunked("CH10", b"2\r\nab\r\n8000000000000000;x\r\n")
    start = data.find(b"ab") + 2
    for place in range(start, len(data)):
        worker.forget()
        with RawClient(gateway.port) as client:
            client.send(data[:place])
            client.receive(within=0.01)
            client.send(data[place:])
            assert client.answer().status == 413, place
            client.read_to_end()
        assert worker.received() == b""


@pytest.mark.parametrize("first", [b"RTSP/1.1", b"HTTP/1.1"])
def test_a_line_without_a_version_is_no_request_whatever_came_before(
    first: bytes, gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    """Header lines that are remembered for the next request begin with the version of this one."""
    worker.forget()
    with RawClient(gateway.port) as client:
        client.send(get("first", version=first))
        if client.answer().status == 200:
            client.send(b"GET /c/no-version\n")
            assert not client.receive(within=0.2)
    assert "/c/no-version" not in worker.targets


def test_static_route_serves_what_it_should(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    """The traversal rows prove something only where the folder is served at all."""
    worker.forget()
    exchange = raw_exchange(gateway.port, b"GET /static/allowed.txt HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert exchange.status == 200
    assert exchange.answers[0].body == b"allowed"
    assert worker.received() == b""


def test_hostile_bytes_split_at_every_place_give_the_same_answer(gateway: GatewayProcess) -> None:
    """Smuggling that needs a parser to lose its place between two reads."""
    data = post("SM20", b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\nG")
    for place in range(10, len(data), 9):
        with RawClient(gateway.port) as client:
            client.send(data[:place])
            client.receive(within=0.01)
            client.send(data[place:])
            assert client.answer().status == 400, data[:place]
            assert client.ends(10), data[:place]
