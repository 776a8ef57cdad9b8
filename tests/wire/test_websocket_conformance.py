"""The Autobahn cases end through the gateway as they end at the server itself: a relay adds and hides nothing."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import kosoku
import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from tests.support.gateway import GatewayProcess

COMPRESSION = ["12.*", "13.*"]
"""Many and long: the frames of permessage-deflate are opaque to the gateway, which tests/wire/test_websocket_ends.py
has."""
ATTEMPTS = 3
"""Some cases are about time, and the machine may be busy."""


class Echo(WebSocketHandler):
    """What Bokeh's workers are made of."""

    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(message, binary=isinstance(message, bytes))

    def get_compression_options(self) -> dict[str, Any] | None:
        return {}


@pytest.fixture(scope="module")
def echo() -> Iterator[int]:
    """The port of a Tornado server that echoes."""
    loop = asyncio.new_event_loop()
    sockets = bind_sockets(0, "127.0.0.1")

    async def serve() -> HTTPServer:
        server = HTTPServer(Application([("/", Echo)], websocket_max_message_size=32 << 20))
        server.add_sockets(sockets)
        return server

    async def end(server: HTTPServer) -> None:
        server.stop()
        await server.close_all_connections()

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(serve(), loop).result()
    yield sockets[0].getsockname()[1]
    asyncio.run_coroutine_threadsafe(end(server), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def verdicts(port: int, cases: Sequence[str] | None = None) -> dict[str, tuple[str, str]]:
    """How each case behaved and how it closed."""

    async def run() -> Any:
        try:
            return await kosoku.run_fuzzingclient(
                f"ws://127.0.0.1:{port}", cases=cases, exclude_cases=COMPRESSION, concurrency=1 if cases else 4
            )
        except kosoku.FailureError as failed:
            return failed.results

    return {case.case_id: (case.behavior.value, case.behavior_close.value) for case in asyncio.run(run())}


def test_the_autobahn_cases_end_as_they_do_at_the_server(echo: int, tmp_path: Path) -> None:
    text = f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.site]\nkind = "http"\nservers = ["127.0.0.1:{echo}"]\n'
    direct = verdicts(echo)
    with GatewayProcess(text, tmp_path) as gateway:
        through = verdicts(gateway.port)
        for _ in range(ATTEMPTS):
            other = [case for case, verdict in direct.items() if through[case] != verdict]
            if not other:
                break
            direct |= verdicts(echo, other)
            through |= verdicts(gateway.port, other)
    for name, found in (("direct", direct), ("through the gateway", through)):
        print(f"{name}: {len(found)} cases", dict(Counter(map("/".join, found.values()))))
    assert len(direct) > 200
    assert sum(verdict[0] in ("OK", "NON-STRICT", "INFORMATIONAL") for verdict in direct.values()) > 200
    assert {case: (direct[case], verdict) for case, verdict in through.items() if verdict != direct[case]} == {}
