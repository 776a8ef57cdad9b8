"""A client that sends exactly the bytes it is given, and says exactly what came back."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.support.waiting import GENEROUS

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")


@dataclass
class Answer:
    """One HTTP answer as it stood on the wire, its body decoded from its framing."""

    status: int
    head: bytes
    body: bytes
    complete: bool
    """False: the connection ended before the framing said so."""

    def headers(self, name: str) -> list[str]:
        wanted = name.lower().encode()
        lines = (line.partition(b":") for line in self.head.split(b"\r\n")[1:])
        return [value.strip().decode("latin-1") for key, _, value in lines if key.strip().lower() == wanted]

    def header(self, name: str) -> str | None:
        return next(iter(self.headers(name)), None)


@dataclass
class RawClient:
    """A blocking socket with a deadline for all that is done with it."""

    port: int
    within: float = GENEROUS
    tls: ssl.SSLContext | None = None
    server_name: str = "localhost"
    receive_buffer: int | None = None
    """Bytes for SO_RCVBUF: a small one makes a slow reader."""
    received: bytearray = field(default_factory=bytearray)
    """Bytes read and not yet consumed by `answer`."""
    closed: bool = False
    """The peer ended the connection, by FIN or RST."""
    reset: bool = False

    def __post_init__(self) -> None:
        plain = socket.socket()
        if self.receive_buffer:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        plain.settimeout(self.within)
        plain.connect(("127.0.0.1", self.port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket: socket.socket = plain
        if self.tls:
            self.socket = self.tls.wrap_socket(plain, server_hostname=self.server_name)
        self.deadline = time.monotonic() + self.within

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> Self:
        """Sends all of it; a peer that closes meanwhile is only noted."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            self.reset = True
        return self

    def receive(self, limit: int = 65536, within: float | None = None) -> bytes:
        """The next bytes; b"" at the end of the connection or after `within` seconds (then `closed` tells which)."""
        left = self.deadline - time.monotonic() if within is None else within
        self.socket.settimeout(max(left, 0.001))
        try:
            data = self.socket.recv(limit)
        except TimeoutError:
            return b""
        except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
            self.closed = self.reset = True
            return b""
        self.closed = self.closed or not data
        self.received += data
        return data

    def read_to_end(self) -> bytes:
        """Everything until the peer closes; AssertionError when it does not within the deadline."""
        while not self.closed:
            if not self.receive() and not self.closed:
                raise AssertionError(f"still open after {self.within} s; got {bytes(self.received[:500])!r}")
        return bytes(self.received)

    def read_until(self, pattern: bytes) -> bytes:
        """All bytes up to the first match of the regular expression; it is taken off `received`."""
        while not (found := re.search(pattern, self.received)):
            if not self.receive():
                why = "closed" if self.closed else f"nothing more within {self.within} s"
                raise AssertionError(f"no {pattern!r} ({why}); got {bytes(self.received[:500])!r}")
        taken = bytes(self.received[: found.end()])
        del self.received[: found.end()]
        return taken

    def read_exactly(self, count: int) -> bytes:
        while len(self.received) < count:
            if not self.receive():
                raise AssertionError(f"{len(self.received)} of {count} bytes came; closed={self.closed}")
        taken = bytes(self.received[:count])
        del self.received[:count]
        return taken

    def answer(self, *, method: str = "GET", interim: bool = False) -> Answer:
        """The next answer; 1xx other than 101 are passed over unless `interim`."""
        while True:
            head = self.read_until(rb"\r\n\r\n")
            found = _STATUS.match(head)
            assert found, f"no HTTP answer: {head[:200]!r}"
            status = int(found[1])
            if 100 <= status < 200 and status != 101 and not interim:
                continue
            body, complete = self._body(status, head, method)
            return Answer(status, head, body, complete)

    def _body(self, status: int, head: bytes, method: str) -> tuple[bytes, bool]:
        headers = Answer(status, head, b"", True)
        if method == "HEAD" or status < 200 or status in {204, 304}:
            return b"", True
        if "chunked" in (headers.header("transfer-encoding") or "").lower():
            return self._chunks()
        length = headers.header("content-length")
        if length is not None:
            with contextlib.suppress(AssertionError):
                return self.read_exactly(int(length)), True
            cut = bytes(self.received)
            self.received.clear()
            return cut, False
        body = self.read_to_end()
        self.received.clear()
        return body, not self.reset

    def _chunks(self) -> tuple[bytes, bool]:
        body = b""
        with contextlib.suppress(AssertionError):
            while size := int(self.read_until(rb"\r\n").partition(b";")[0], 16):
                body += self.read_exactly(size)
                self.read_exactly(2)
            while self.read_until(rb"\r\n") != b"\r\n":
                pass
            return body, True
        return body, False

    def ends(self, within: float) -> bool:
        """Whether the peer ends the connection within so many seconds, whatever it sends before."""
        deadline = time.monotonic() + within
        while not self.closed and (left := deadline - time.monotonic()) > 0:
            self.receive(within=left)
        return self.closed


@dataclass
class Exchange:
    """What came back on one connection for the bytes that were sent."""

    answers: list[Answer]
    closed: bool
    rest: bytes

    @property
    def status(self) -> int | None:
        """Of the first answer; None for a connection closed without one."""
        return self.answers[0].status if self.answers else None


def raw_exchange(
    port: int, data: bytes, *, within: float = GENEROUS, quiet: float = 0.3, tls: ssl.SSLContext | None = None
) -> Exchange:
    """Sends `data`, reads answers until the peer closes, or until `quiet` seconds pass after a complete answer."""
    with RawClient(port, within, tls) as client:
        client.send(data)
        answers: list[Answer] = []
        while not client.closed:
            if not client.received and not client.receive(within=quiet if answers else None):
                break
            if b"\r\n\r\n" not in client.received and not _more(client):
                break
            method = data.split(b" ", 1)[0].decode("latin-1") if not answers else "GET"
            answers.append(client.answer(method=method))
        return Exchange(answers, client.closed or client.ends(0.01), bytes(client.received))


def _more(client: RawClient) -> bool:
    while b"\r\n\r\n" not in client.received:
        if not client.receive():
            return False
    return True
