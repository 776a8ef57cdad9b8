"""Pipelines of good and hostile messages between a raw client, the gateway and a worker; h11 reads at the far ends.

The worker sees exactly the requests that were answered, in order and whole; a client gets exactly the answer to its
own request, or a refusal, or a cut that it can see.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fuzzing import ONCE, keep_on
from tests.support.gateway import GatewayProcess
from tests.support.h11_reading import h11_reads, h11_reads_answer
from tests.support.raw import Answer, RawClient
from tests.support.recording import Recorded, RecordingWorker, Side, answer

CONFIG = """
[gateway]
listen = ["127.0.0.1:0"]

[pool.site]
kind = "http"
servers = ["{worker}"]

[pool.site.health]
failures = 1000000

[limits]
body_size = "1 MiB"

[timeouts]
header = "2 s"
body = "2 s"
response = "10 s"
drain = "1 s"
"""

SMUGGLED = b"GET /SMUG HTTP/1.1\r\nHost: localhost\r\n\r\n"


def digest(body: bytes) -> str:
    return hashlib.sha1(body).hexdigest()


class Tells:
    """Which request it is the answer to, and what was in it; keeps what it told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    async def __call__(self, request: Recorded, side: Side) -> None:
        text = f"{request.method} {request.target} {digest(await side.body(request))}"
        self.told.append((request.method, text))
        whole = answer(text.encode())
        await side.send(whole if request.method != "HEAD" else whole[: -len(text)])


tells = Tells()


class Says:
    """The next bytes of the worker, as they are."""

    data = b""
    close = False

    async def __call__(self, request: Recorded, side: Side) -> None:
        await side.body(request)
        if "clean" in request.target:
            await side.send(answer(request.target.encode()))
            return
        await side.send(self.data)
        if self.close:
            side.close()


@pytest.fixture(scope="module")
def worker() -> Iterator[RecordingWorker]:
    with RecordingWorker(tells) as recording:
        yield recording


@pytest.fixture(scope="module")
def gateway(worker: RecordingWorker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(CONFIG.format(worker=worker.address), tmp_path_factory.mktemp("smuggling")) as running:
        yield running


# Requests.

BODIES = st.sampled_from(
    [b"", b"hello", SMUGGLED, b"0\r\n\r\n", b"0\r\n\r\n" + SMUGGLED, b"\r\n\r\n", b"x" * 5000, b"\0\xff"]
)
FRAMINGS = st.sampled_from(
    [
        b"Content-Length: %(size)d\r\n",
        b"Content-Length: %(size)d\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"content-length:%(size)d \r\n",
        b"Transfer-Encoding: Chunked\r\n",
        b"Content-Length: %(size)d\r\nContent-Length: %(size)d\r\n",
        b"Content-Length: %(size)d\r\nContent-Length: 0\r\n",
        b"Content-Length: %(size)d, %(size)d\r\n",
        b"Content-Length: +%(size)d\r\n",
        b"Content-Length: 0%(size)d\r\n",
        b"Content-Length: 0x%(size)x\r\n",
        b"Content-Length: \r\n",
        b"Content-Length : %(size)d\r\n",
        b"Content-Length: %(size)d\x0b\r\n",
        b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: %(size)d\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: identity, chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Transfer-Encoding: chunked\n",
        b"Transfer-Encoding\t: chunked\r\n",
        b"X: y\r\n Transfer-Encoding: chunked\r\n",
        b"Transfer_Encoding: chunked\r\n",
        b"X: y\rTransfer-Encoding: chunked\r\n",
        b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n",
        b"Connection: Content-Length\r\nContent-Length: %(size)d\r\n",
        b"Expect: 100-continue\r\nContent-Length: %(size)d\r\n",
        b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: %(size)d\r\n",
        b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
        b"",
    ]
)
CHUNKS = st.sampled_from(
    [b"%x\r\n", b"%x\r\n", b"%x\r\n", b"%X;a=b\r\n", b"0%x\r\n", b"%x \r\n", b"%x\n", b"%x;\n\r\n", b"0x%x\r\n"]
)
ENDS = st.sampled_from(
    [b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"0\r\nContent-Length: 5\r\n\r\n", b"00\r\n\r\n", b"0\n\n", b""]
)
LINES = st.sampled_from(
    [b"%s %s HTTP/1.1\r\n"] * 8
    + [
        b"%s %s HTTP/1.0\r\n",
        b"%s %s HTTP/1.1\n",
        b"%s %s\r\n",
    ]
)
METHODS = st.sampled_from([b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"get"])

numbers = itertools.count()


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A request, its target left open, and the method."""
    method, body, framing = draw(METHODS), draw(BODIES), draw(FRAMINGS)
    head = draw(LINES) % (method, b"%(target)s") + b"Host: localhost\r\n"
    head += framing.replace(b"%(size)d", b"%d" % len(body)).replace(b"%(size)x", b"%x" % len(body)) + b"\r\n"
    if b"hunked" in framing:
        half = len(body) // 2
        parts = [part for part in (body[:half], body[half:]) if part]
        sent = b"".join(draw(CHUNKS) % len(part) + part + b"\r\n" for part in parts) + draw(ENDS)
    else:
        sent = body if b"ontent-" in framing else b""
    return head + sent, method


CUTS = st.lists(st.integers(0, 1 << 14), max_size=3)


def talk(port: int, data: bytes, cuts: list[int], methods: list[bytes]) -> list[Answer]:
    """The answers until the gateway closes."""
    marks = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    found: list[Answer] = []
    with RawClient(port) as client:
        for begin, end in itertools.pairwise(marks):
            client.send(data[begin:end])
        with suppress(AssertionError):
            found.extend(client.answer(method=(*methods[n : n + 1], b"GET")[0].decode()) for n in itertools.count())
        assert client.ends(20), (data, found)
    return found


def test_the_worker_sees_exactly_the_requests_that_were_answered(
    gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    worker.script = tells

    @ONCE
    @given(st.lists(requests(), min_size=1, max_size=4), CUTS)
    def pipeline(made: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
        worker.forget()
        tells.told.clear()
        mark = b"/%d" % next(numbers)
        data = b"".join(text.replace(b"%(target)s", b"%b/%d" % (mark, n)) for n, (text, _) in enumerate(made))
        data += b"GET %b/last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % mark
        answers = talk(gateway.port, data, cuts, [*(method for _, method in made), b"GET"])
        assert all(got.complete for got in answers), data
        told = [got for got in answers if got.status == 200]
        read = [f"{method.decode()} {target.decode()} {digest(body)}" for method, target, body in h11_reads(data)]
        seen = [text for _, text in tells.told]
        assert seen == [text for text in read if text in seen], data
        assert not worker.errors, (data, worker.errors)
        assert len(tells.told) == len(told), (data, answers, worker.targets)
        for (method, text), got in zip(tells.told, told, strict=True):
            assert method == "HEAD" or got.body.decode() == text, data
        assert 400 not in [got.status for got in answers[:-1]], (data, answers)

    keep_on(pipeline)
    assert "Traceback" not in gateway.stderr


# Answers.

STATUS = st.sampled_from(
    [b"HTTP/1.1 200 OK\r\n"] * 6
    + [
        b"HTTP/1.0 200 OK\r\n",
        b"HTTP/1.1 404 \r\n",
        b"HTTP/1.1 204 No Content\r\n",
        b"HTTP/1.1 304 Not Modified\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
        b"HTTP/1.1 99 Low\r\n",
        b"HTTP/2.0 200 OK\r\n",
        b"HTTP/1.1 200 OK\n",
        b"200 OK\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n",
    ]
)
BEHIND = st.sampled_from([b"", b"", b"", b"", b"x", b"\r\n", answer(b"POISON"), b"0\r\n\r\n" + answer(b"POISON")])

ODD_LINES = st.sampled_from(
    [b"X: a\0b\r\n", b"X : y\r\n", b": y\r\n", b"X\r\n", b" X: y\r\n", b"X: a\rb\r\n", b"Connection: close\r\n"]
)


@st.composite
def answers_of_a_worker(draw: st.DrawFn) -> tuple[bytes, bool]:
    """Bytes, and whether the connection closes after them."""
    body = draw(st.sampled_from([b"", b"hello", answer(b"POISON"), b"x" * 70000, b"0\r\n\r\n"]))
    framing = draw(FRAMINGS)
    head = draw(STATUS) + framing.replace(b"%(size)d", b"%d" % len(body)).replace(b"%(size)x", b"%x" % len(body))
    if draw(st.integers(0, 9)) == 0:
        head += draw(
            st.sampled_from(
                [b"X: a\0b\r\n", b"X : y\r\n", b": y\r\n", b"X\r\n", b" X: y\r\n", b"Connection: close\r\n"]
            )
        )
    if b"hunked" in framing:
        half = len(body) // 2
        parts = [part for part in (body[:half], body[half:]) if part]
        sent = b"".join(draw(CHUNKS) % len(part) + part + b"\r\n" for part in parts) + draw(ENDS)
    else:
        sent = body
    return head + b"\r\n" + sent + draw(BEHIND), draw(st.booleans())


def test_a_client_gets_the_workers_answer_as_h11_reads_it_or_none(
    gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    says = Says()
    worker.script = says

    @ONCE
    @given(answers_of_a_worker())
    def relay(made: tuple[bytes, bool]) -> None:
        worker.forget()
        says.data, says.close = made[0], True
        mark = next(numbers)
        with RawClient(gateway.port) as client:
            client.send(b"GET /answer/%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % mark)
            got = None
            with suppress(AssertionError):
                got = client.answer()
            if got is not None and got.complete and got.status < 500:
                assert (got.status, got.body) == h11_reads_answer(made[0], closed=True), made
            if not client.closed:
                client.send(b"GET /clean/%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % mark)
                with suppress(AssertionError):
                    after = client.answer()
                    assert after.body == b"/clean/%d" % mark, (made, after)
        with RawClient(gateway.port) as client:
            client.send(b"GET /clean/again/%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % mark)
            assert client.answer().body == b"/clean/again/%d" % mark, made

    keep_on(relay)
    assert "Traceback" not in gateway.stderr
