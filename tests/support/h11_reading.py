"""What h11, an independent parser, takes bytes for."""

from __future__ import annotations

import h11

Read = list[tuple[bytes, bytes, bytes]]
"""Method, target and body of each request."""


def h11_reads(data: bytes) -> Read:
    """What h11 takes the same bytes for, up to its first complaint."""
    return [(request.method, request.target, body) for request, body in h11_requests(data)]


def h11_requests(data: bytes) -> list[tuple[h11.Request, bytes]]:
    """The same, each with its header lines."""
    found: list[tuple[h11.Request, bytes]] = []
    while data:
        server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        server.receive_data(data)
        request, body = None, b""
        while True:
            try:
                event = server.next_event()
            except h11.RemoteProtocolError:
                return found
            if isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert request is not None
                found.append((request, body))
                break
            else:
                return found
        data = server.trailing_data[0]
    return found


def h11_reads_answer(data: bytes, closed: bool) -> tuple[int, bytes] | None:
    """Status and body of the first final answer in `data`, as h11 reads it; None where it is none or is not whole."""
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    client.send(h11.EndOfMessage())
    status, body = 0, b""
    try:
        client.receive_data(data.removeprefix(b"\r\n"))  # llhttp allows blank lines before a status line
        if closed:
            client.receive_data(b"")
        while True:
            event = client.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return status, body
            elif event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return None
    except h11.RemoteProtocolError:
        return None
