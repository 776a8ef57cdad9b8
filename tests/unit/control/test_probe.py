"""Whether a worker answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from bokeh_gateway.config.address import Address
from bokeh_gateway.control.probe import ProbeResult, judge, metadata

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.mark.parametrize(
    ("line", "ok", "answered", "error"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n", True, True, "", id="there"),
        pytest.param(b"HTTP/1.0 200\r\n", True, True, "", id="no-reason"),
        pytest.param(b"HTTP/1.1 302 Found\r\n", True, True, "", id="login-first"),
        pytest.param(b"HTTP/1.1 403 Forbidden\r\n", True, True, "", id="refused-but-there"),
        pytest.param(b"HTTP/1.1 404 Not Found\r\n", False, True, "it answered 404", id="up-without-the-app"),
        pytest.param(b"HTTP/1.1 500 Oops\r\n", False, False, "it answered 500", id="broken"),
        pytest.param(b"SSH-2.0-x\r\n", False, False, "the answer was not HTTP", id="not-http"),
        pytest.param(b"", False, False, "it closed without an answer", id="closed"),
    ],
)
def test_judge(line, ok, answered, error):
    result = judge(line, 0.0)
    assert (result.ok, result.answered, result.error) == (ok, answered, error)


def probe(answer: Answer, timeout: float = 5.0) -> tuple[ProbeResult, bytes]:
    """The result of probing a server on a real port that does `answer`, and the head that it got."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            await answer(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        served.set()

    async def main() -> ProbeResult:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            result = await metadata(Address("127.0.0.1", port), "/app/metadata", timeout)
            await served.wait()
            return result

    served = asyncio.Event()
    return asyncio.run(main()), heads[0]


def test_a_worker_that_answers():
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    result, head = probe(answer)
    assert result.ok
    assert head.startswith(b"GET /app/metadata HTTP/1.1\r\nHost: 127.0.0.1\r\n")


def test_a_worker_that_says_nothing():
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    result, _ = probe(answer, timeout=0.05)
    assert (result.ok, result.error) == (False, "no answer within 0.05 s")


def test_a_first_line_without_end_is_not_read_on():
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 100_000)

    result, _ = probe(answer)
    assert not result.answered


def test_nobody_listens(tmp_path):
    result = asyncio.run(metadata(Address(unix=str(tmp_path / "none.sock")), "/", 1.0))
    assert (result.ok, result.status) == (False, None)
    assert result.error
