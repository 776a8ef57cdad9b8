"""Workers that answer wrongly, late, too much or not at all.  Each case has a worker and a pool of its own."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.frames import TEXT, frame, handshake, read_frame
from tests.support.gateway import MIB, GatewayProcess
from tests.support.ports import free_port
from tests.support.raw import Answer, RawClient, raw_exchange
from tests.support.recording import Recorded, RecordingWorker, Script, Side, answer, ok, switching
from tests.support.waiting import wait_until

RESPONSE_DEADLINE = 2.0


def says(data: bytes, *, close: bool = False) -> Script:
    """Reads the request and writes exactly these bytes."""

    async def script(request: Recorded, side: Side) -> None:
        await side.body(request)
        await side.send(data)
        if close:
            side.close()

    return script


async def closes_before_answering(request: Recorded, side: Side) -> None:
    await side.body(request)
    side.close()


async def resets_before_answering(request: Recorded, side: Side) -> None:
    await side.body(request)
    side.abort()


async def never_answers(request: Recorded, side: Side) -> None:
    if request.is_upgrade:
        await side.send(switching(request))
        side.reuse = False
        while data := await side.receive():
            await side.send(frame(TEXT, b"alive", masked=False) if data else b"")
    elif request.target.endswith("/fast"):
        await ok(request, side)
    else:
        await side.wait_end()


async def drips_for_ever(request: Recorded, side: Side) -> None:
    """A head, then single bytes until the gateway ends the connection."""
    await side.body(request)
    await side.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    ended = asyncio.ensure_future(side.wait_end())
    while not ended.done():
        with contextlib.suppress(ConnectionError):
            await side.send(b"x")
        await asyncio.sleep(0.05)
    side.close()


class ClosesReused:
    """Answers the first request of a connection and closes, unanswered, on the second."""

    async def __call__(self, request: Recorded, side: Side) -> None:
        await side.body(request)
        if len(side.record.requests) > 1:
            side.close()
        else:
            await side.send(answer())


async def announces_a_body_it_must_not_have(request: Recorded, side: Side) -> None:
    """HEAD, 204 and 304 followed by bytes that a client would take for the next answer."""
    await side.body(request)
    path = request.target.rsplit("/", 1)[-1]
    poison = answer(b"POISON", "200 OK")
    if path == "head" and request.method == "HEAD":
        await side.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(poison) + poison)
    elif path == "204":
        await side.send(b"HTTP/1.1 204 No Content\r\n\r\n" + poison)
    elif path == "304":
        await side.send(b"HTTP/1.1 304 Not Modified\r\nContent-Length: %d\r\n\r\n" % len(poison) + poison)
    else:
        await side.send(answer(b"clean"))


async def redirects_to_itself(request: Recorded, side: Side) -> None:
    await side.body(request)
    port = side.writer.get_extra_info("sockname")[1]
    await side.send(
        answer(
            b"",
            "302 Found",
            f"Location: http://127.0.0.1:{port}/up22/x?y=1",
            "Set-Cookie: a=b; Path=/; HttpOnly; SameSite=Lax",
            "Set-Cookie: c=d; Secure",
        )
    )


BOMB = zlib.compress(b"\0" * 50 * MIB, wbits=31)

SCRIPTS: dict[str, Script] = {
    "up01": says(b"NOT HTTP AT ALL\r\n\r\n", close=True),
    "up02": says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc", close=True),
    "up03": says(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", close=True),
    "up04-length": says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123", close=True),
    "up04-chunked": says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n", close=True),
    "up05": ClosesReused(),
    "up06-long": says(b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 600_000 + b"\r\nContent-Length: 0\r\n\r\n", close=True),
    "up06-many": says(b"HTTP/1.1 200 OK\r\n" + b"X-A: a\r\n" * 5_000 + b"Content-Length: 0\r\n\r\n", close=True),
    "up07": says(b"HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 0\r\n\r\n", close=True),
    "up08": says(b"HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n", close=True),
    "up09": says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nraw bytes"),
    "up10": announces_a_body_it_must_not_have,
    "up11": says(answer(b"first") + answer(b"POISON")),
    "up12": says(answer(b"first")),
    "up14-letters": says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\nzz\r\n"),
    "up14-minus": says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n-1\r\n"),
    "up14-overflow": says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\nFFFFFFFFFFFFFFFFF\r\n"),
    "up15": never_answers,
    "up16": drips_for_ever,
    "up17": ok,
    "up18": ok,
    "up19": resets_before_answering,
    "up22": redirects_to_itself,
    "up23": says(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB,
    ),
    "up24": says(b"HTTP/1.0 200 OK\r\n\r\nuntil the end", close=True),
    "up08-three-digits": says(b"HTTP/1.1 099 Low\r\nContent-Length: 5\r\n\r\nabcde", close=True),
    "up08-zero": says(b"HTTP/1.1 000 Low\r\nContent-Length: 5\r\n\r\nabcde", close=True),
    "up30-http-2": says(b"HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nabcde", close=True),
    "up30-http-09": says(b"HTTP/0.9 200 OK\r\nContent-Length: 5\r\n\r\nabcde", close=True),
    "up30-rtsp": says(b"RTSP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nabcde", close=True),
    "up30-ice": says(b"ICE/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde", close=True),
    "up31-nul": says(b"HTTP/1.1 299 a\x00bc\r\nContent-Length: 5\r\n\r\nabcde", close=True),
    "up31-escape": says(b"HTTP/1.1 200 \x1b[31mabc\r\nContent-Length: 5\r\n\r\nabcde", close=True),
    "up31-long": says(b"HTTP/1.1 299 " + b"a" * 70_000 + b"\r\nContent-Length: 5\r\n\r\nabcde", close=True),
    "up32-100": says(b"HTTP/1.1 100 Continue\r\nContent-Length: 3\r\n\r\nabc" + answer(b"de")),
    "up32-150": says(b"HTTP/1.1 150 Odd\r\nContent-Length: 3\r\n\r\nabc" + answer(b"de")),
    "up32-199": says(b"HTTP/1.1 199 Odd\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + answer(b"de")),
    "up33": says(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: X-Hop\r\nX-Hop: 1\r\n"
        b"Keep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n" + answer(b"final")
    ),
    "up34": says(answer(b"ok", "200 OK", "Connection: X-Hop, Content-Length, keep-alive", "X-Hop: 1", "X-End: 2")),
    "up25": says(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" + answer(b"final")),
}


@pytest.fixture(scope="module")
def workers() -> Iterator[dict[str, RecordingWorker]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(RecordingWorker(script)) for name, script in SCRIPTS.items()}


@pytest.fixture(scope="module")
def black_hole() -> Iterator[int]:
    """A port whose backlog is full: a SYN to it is never answered."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def gateway(
    workers: dict[str, RecordingWorker], black_hole: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    parts = ['[gateway]\nlisten = ["127.0.0.1:0"]']
    before = {"up17": f'"127.0.0.1:{free_port()}", ', "up18": f'"127.0.0.1:{black_hole}", '}
    for name, worker in workers.items():
        servers = before.get(name, "") + f'"{worker.address}"'
        parts.append(f'[pool.{name}]\nkind = "http"\nservers = [{servers}]')
        parts.append(f'[[route]]\npath = "/{name}"\npool = "{name}"')
    dead = ", ".join(f'"127.0.0.1:{free_port()}"' for _ in range(2))
    parts.append(f'[pool.dead]\nkind = "http"\nservers = [{dead}]\n[[route]]\npath = "/dead"\npool = "dead"')
    parts.append(f'[timeouts]\nresponse = "{RESPONSE_DEADLINE:.0f} s"\nconnect = "1 s"\ndrain = "1 s"')
    with GatewayProcess("\n\n".join(parts) + "\n", tmp_path_factory.mktemp("workers")) as running:
        yield running


def get(path: str, method: str = "GET", *headers: str) -> bytes:
    lines = [f"{method} /{path} HTTP/1.1", "Host: localhost", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def post(path: str, body: bytes = b"hello") -> bytes:
    return get(path, "POST", f"Content-Length: {len(body)}") + body


def ask(gateway: GatewayProcess, request: bytes) -> Answer:
    exchange = raw_exchange(gateway.port, request, quiet=0)
    assert exchange.answers, "the connection was closed without an answer"
    return exchange.answers[0]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("up01", id="UP01-no-http"),
        pytest.param("up02", id="UP02-two-lengths"),
        pytest.param("up03", id="UP03-length-and-chunked"),
        pytest.param("up06-long", id="UP06-long-header"),
        pytest.param("up06-many", id="UP06-many-headers"),
        pytest.param("up07", id="UP07-nul-in-header"),
        pytest.param("up08", id="UP08-status-99"),
        pytest.param("up08-three-digits", id="UP08-status-099"),
        pytest.param("up08-zero", id="UP08-status-000"),
        pytest.param("up09", id="UP09-101-nobody-asked-for"),
        pytest.param("up30-http-2", id="UP30-version-2.0"),
        pytest.param("up30-http-09", id="UP30-version-0.9"),
        pytest.param("up30-rtsp", id="UP30-rtsp"),
        pytest.param("up30-ice", id="UP30-ice"),
        pytest.param("up31-nul", id="UP31-nul-in-reason"),
        pytest.param("up31-escape", id="UP31-escape-in-reason"),
        pytest.param("up31-long", id="UP31-long-reason"),
        pytest.param("up32-100", id="UP32-100-with-a-body"),
        pytest.param("up32-150", id="UP32-150-with-a-body"),
        pytest.param("up32-199", id="UP32-199-with-chunks"),
    ],
)
def test_what_is_no_answer_is_a_502_and_no_byte_of_it_is_relayed(
    name: str, gateway: GatewayProcess, workers: dict[str, RecordingWorker]
) -> None:
    got = ask(gateway, get(name))
    assert got.status == 502
    assert got.body
    for relayed in (b"NOT HTTP", b"abc", b"aaaa", b"raw bytes", b"127.0.0.1"):
        assert relayed not in got.head + got.body
    assert workers[name].requests


def read_to_the_end(client: socket.socket) -> None:
    while client.recv(65536):
        pass


def test_up04_a_cut_answer_to_http_1_0_ends_with_a_reset(gateway: GatewayProcess) -> None:
    """Its client takes the end of the connection for the end of the body: only a reset tells it otherwise."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as client:
        client.sendall(b"GET /up04-chunked HTTP/1.0\r\nHost: localhost\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            read_to_the_end(client)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("up04-length", id="UP04-length"),
        pytest.param("up04-chunked", id="UP04-chunked"),
        pytest.param("up14-letters", id="UP14-zz"),
        pytest.param("up14-minus", id="UP14-minus"),
        pytest.param("up14-overflow", id="UP14-overflow"),
    ],
)
def test_a_cut_or_broken_body_is_visible_to_the_client(
    name: str, gateway: GatewayProcess, workers: dict[str, RecordingWorker]
) -> None:
    """Never re-framed as complete: the connection ends before the framing does."""
    exchange = raw_exchange(gateway.port, get(name))
    assert len(exchange.answers) <= 1
    told = bool(exchange.answers) and exchange.answers[0].status == 502
    assert told or (exchange.closed and not any(got.complete for got in exchange.answers))
    worker = workers[name]
    if name.startswith("up14"):
        wait_until(lambda: worker.connections[-1].ended, "the gateway ends the worker's connection")


def test_up05_a_stale_pooled_connection_is_retried_once_for_get(
    gateway: GatewayProcess, workers: dict[str, RecordingWorker]
) -> None:
    worker = workers["up05"]
    statuses = [ask(gateway, get(f"up05?{n}")).status for n in range(4)]
    assert statuses == [200] * 4
    assert [len(worker.to(f"/up05?{n}")) for n in range(4)] <= [2] * 4


def test_up05_a_post_is_not_sent_twice(gateway: GatewayProcess, workers: dict[str, RecordingWorker]) -> None:
    worker = workers["up05"]
    for n in range(4):
        status = ask(gateway, post(f"up05?post{n}")).status
        assert status in {200, 502}
        assert len(worker.to(f"/up05?post{n}")) == 1


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("up10/head", "HEAD", 200), ("up10/204", "GET", 204), ("up10/304", "GET", 304)],
    ids=["UP10-HEAD", "UP10-204", "UP10-304"],
)
def test_bytes_after_an_answer_without_body_poison_nobody(
    path: str, method: str, status: int, gateway: GatewayProcess
) -> None:
    with RawClient(gateway.port) as client:
        client.send(get(path, method))
        assert client.answer(method=method).status == status
        client.send(get("up10/clean"))
        assert client.answer().body == b"clean"
    for _ in range(3):
        assert ask(gateway, get("up10/clean")).body == b"clean"


def test_up11_extra_bytes_after_the_body_end_the_worker_connection(
    gateway: GatewayProcess, workers: dict[str, RecordingWorker]
) -> None:
    for _ in range(3):
        assert ask(gateway, get("up11")).body == b"first"
    assert len({request.connection for request in workers["up11"].requests}) == 3


def test_up12_unsolicited_bytes_on_an_idle_connection_end_it(
    gateway: GatewayProcess, workers: dict[str, RecordingWorker]
) -> None:
    worker = workers["up12"]
    assert ask(gateway, get("up12")).body == b"first"
    worker.push(answer(b"POISON", "408 Request Timeout"))
    wait_until(lambda: worker.connections[-1].ended, "the poisoned connection is dropped")
    assert ask(gateway, get("up12")).body == b"first"


def test_up15_a_worker_that_never_answers_is_a_504_and_its_websockets_live_on(
    gateway: GatewayProcess, workers: dict[str, RecordingWorker]
) -> None:
    with RawClient(gateway.port) as tunnel:
        tunnel.send(handshake("/up15/ws"))
        assert tunnel.answer().status == 101
        began = time.monotonic()
        assert ask(gateway, get("up15")).status == 504
        assert RESPONSE_DEADLINE * 0.9 < time.monotonic() - began < RESPONSE_DEADLINE + 8
        tunnel.send(frame(TEXT, b"still there?"))
        assert read_frame(tunnel.read_exactly) == (TEXT, b"alive")
    assert ask(gateway, get("up15/fast")).status == 200
    silent = next(request for request in workers["up15"].requests if request.target == "/up15")
    wait_until(lambda: workers["up15"].connection_of(silent).ended, "the silent worker's connection is ended")


def test_up16_a_dripping_worker_is_left_when_the_client_goes(
    gateway: GatewayProcess, workers: dict[str, RecordingWorker]
) -> None:
    worker = workers["up16"]
    with RawClient(gateway.port) as client:
        client.send(get("up16"))
        client.read_until(rb"\r\n\r\nx")
    wait_until(lambda: worker.connections[-1].ended, "the worker's connection ends after the client's", within=10)


def test_up17_refused_is_tried_on_the_next_worker_for_any_method(gateway: GatewayProcess) -> None:
    assert [ask(gateway, get("up17")).status for _ in range(4)] == [200] * 4
    assert [ask(gateway, post("up17")).status for _ in range(4)] == [200] * 4


def test_up17_all_refused_is_told_at_once(gateway: GatewayProcess) -> None:
    began = time.monotonic()
    got = ask(gateway, get("dead"))
    assert got.status in {502, 503}
    assert got.header("retry-after")
    assert time.monotonic() - began < 2


def test_up18_a_black_hole_costs_one_connect_deadline(gateway: GatewayProcess) -> None:
    began = time.monotonic()
    assert [ask(gateway, get("up18")).status for _ in range(3)] == [200] * 3
    assert time.monotonic() - began < 12


def test_up19_a_reset_after_the_request_is_retried_once_for_get_never_for_post(
    gateway: GatewayProcess, workers: dict[str, RecordingWorker]
) -> None:
    worker = workers["up19"]
    assert ask(gateway, get("up19?get")).status == 502
    assert len(worker.to("/up19?get")) <= 2
    assert ask(gateway, post("up19?post")).status == 502
    assert len(worker.to("/up19?post")) == 1


def test_up22_a_location_that_names_the_worker_names_the_gateway_instead(
    gateway: GatewayProcess, workers: dict[str, RecordingWorker]
) -> None:
    got = ask(gateway, get("up22", "GET").replace(b"localhost", b"localhost:%d" % gateway.port))
    assert got.status == 302
    location = got.header("location") or ""
    assert str(workers["up22"].port) not in location
    assert re.fullmatch(rf"(http://localhost:{gateway.port})?/up22/x\?y=1", location), location
    assert got.headers("set-cookie") == ["a=b; Path=/; HttpOnly; SameSite=Lax", "c=d; Secure"]


def test_up23_a_compression_bomb_passes_as_it_is(gateway: GatewayProcess) -> None:
    assert ask(gateway, get("up23")).body == BOMB


def test_up24_an_answer_that_ends_with_the_connection_arrives_whole(gateway: GatewayProcess) -> None:
    got = ask(gateway, get("up24"))
    assert (got.status, got.body, got.complete) == (200, b"until the end", True)


def test_up25_an_interim_answer_is_not_taken_for_the_final_one(gateway: GatewayProcess) -> None:
    assert ask(gateway, get("up25")).body == b"final"


def test_up33_an_interim_answer_loses_what_is_between_the_worker_and_the_gateway(gateway: GatewayProcess) -> None:
    """Framing and `Connection` of a 103 are the worker's connection's; its `Link` is the client's."""
    with RawClient(gateway.port) as client:
        client.send(get("up33"))
        hints = client.answer(interim=True)
        assert (hints.status, hints.headers("link")) == (103, ["</a.css>"])
        for name in ("connection", "x-hop", "keep-alive", "content-length"):
            assert not hints.headers(name), name
        assert client.answer().body == b"final"


def test_up34_lines_that_the_answers_connection_header_names_end_at_the_gateway(gateway: GatewayProcess) -> None:
    got = ask(gateway, get("up34"))
    assert (got.status, got.body, got.complete) == (200, b"ok", True)
    assert (got.headers("x-hop"), got.headers("x-end")) == ([], ["2"])


def test_the_log_names_the_worker_that_answered_wrongly(
    gateway: GatewayProcess, workers: dict[str, RecordingWorker]
) -> None:
    """For the operator: address and kind, said somewhere in the log of the gateway."""
    ask(gateway, get("up01"))
    gateway.wait_for_output(workers["up01"].address)
