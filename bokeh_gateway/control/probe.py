"""Asks a worker whether it answers: one GET of an app's metadata, which creates no session (unlike the page itself).

Raw HTTP over an asyncio stream, with a bounded read: a client library would bring pools and retries.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import Final

from bokeh_gateway.config.address import Address

MAX_HEAD: Final = 8192
"""Bytes read for a status line; a worker's first line has some 20."""

_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: |\r|\n|$)")


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What came of one request."""

    ok: bool
    """The app is there: 2xx, or 3xx/401/403 from a worker that wants a login first."""
    status: int | None
    """None when there was no HTTP answer."""
    seconds: float
    error: str = ""
    """Why it is not ok, for a log line."""

    @property
    def answered(self) -> bool:
        """The worker is up, whatever it thinks of the path: Bokeh has mounted all its apps before it listens."""
        return self.status is not None and self.status < 500


def judge(line: bytes, seconds: float) -> ProbeResult:
    """The verdict on the first line of an answer."""
    match = _STATUS.match(line)
    if match is None:
        return ProbeResult(False, None, seconds, "the answer was not HTTP" if line else "it closed without an answer")
    status = int(match[1])
    ok = 200 <= status < 400 or status in {401, 403}
    return ProbeResult(ok, status, seconds, "" if ok else f"it answered {status}")


def request(path: str, host: str, method: str = "GET") -> bytes:
    """The bytes of one request after which the worker closes the connection."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {host or 'localhost'}\r\nUser-Agent: bokeh-gateway-probe\r\n"
    return (head + "Accept: application/json\r\nConnection: close\r\n\r\n").encode("ascii")


async def metadata(address: Address, path: str, timeout: float, method: str = "GET") -> ProbeResult:
    """GET `path` (percent-encoded, `/app/metadata`) within `timeout` seconds.  Never raises for a bad worker."""
    start = time.monotonic()
    try:
        async with asyncio.timeout(timeout):
            line = await _first_line(address, path, method)
    except TimeoutError:
        return ProbeResult(False, None, time.monotonic() - start, f"no answer within {timeout:g} s")
    except (OSError, ValueError, asyncio.IncompleteReadError) as exc:
        return ProbeResult(False, None, time.monotonic() - start, str(exc) or type(exc).__name__)
    return judge(line, time.monotonic() - start)


async def connection(address: Address, timeout: float) -> ProbeResult:
    """Only connects, within `timeout` seconds: for servers of which nothing else is known."""
    start = time.monotonic()
    try:
        async with asyncio.timeout(timeout):
            _, writer = await _open(address)
    except TimeoutError:
        return ProbeResult(False, None, time.monotonic() - start, f"no connection within {timeout:g} s")
    except OSError as exc:
        return ProbeResult(False, None, time.monotonic() - start, str(exc) or type(exc).__name__)
    writer.transport.abort()
    return ProbeResult(True, None, time.monotonic() - start)


async def _open(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.unix:
        return await asyncio.open_unix_connection(address.unix, limit=MAX_HEAD)
    return await asyncio.open_connection(address.host, address.port, limit=MAX_HEAD)


async def _first_line(address: Address, path: str, method: str) -> bytes:
    reader, writer = await _open(address)
    try:
        host = address.host if ":" not in address.host else f"[{address.host}]"
        writer.write(request(path, host, method))
        return await reader.readline()
    finally:
        writer.transport.abort()  # the status line was all that was wanted: no lingering for the rest
