"""What went wrong in deployments of Bokeh behind other proxies: tokens, sizes, pages that nobody connects to."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from time import time

import pytest

from bokeh_gateway.bokeh import token as tokens
from tests.support.frames import handshake
from tests.support.gateway import KIB, GatewayProcess
from tests.support.ports import free_port
from tests.support.raw import Answer, RawClient
from tests.support.recording import Recorded, RecordingWorker, Side, answer, switching
from tests.support.scrape import figures, total
from tests.support.waiting import wait_until

CONFIG = """
[gateway]
listen = ["127.0.0.1:0"]
[pool.apps]
servers = ["{worker}"]
[limits]
sessions_per_client_per_minute = 100
[metrics]
listen = ["127.0.0.1:{metrics}"]
"""
numbers = count()


async def serves(request: Recorded, side: Side) -> None:
    """A page with the token of the session that the gateway named; a WebSocket for whoever asks."""
    if request.is_upgrade and "refused" in request.target:
        await side.send(answer(b"not here", "403 Forbidden"))
    elif request.is_upgrade:
        await side.send(switching(request))
        side.reuse = False
        await side.wait_end()
        side.close()
    else:
        await side.body(request)
        session_id = request.get("bokeh-session-id") or f"own{next(numbers)}"
        page = f'<script>{{"token": "{tokens.encode(session_id, int(time()) + 300, None)}"}}</script>'
        await side.send(answer(page.encode()).replace(b"text/plain", b"text/html"))


@pytest.fixture(scope="module")
def recording() -> Iterator[RecordingWorker]:
    with RecordingWorker(serves) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(recording: RecordingWorker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    text = CONFIG.format(worker=recording.address, metrics=free_port())
    with GatewayProcess(text, tmp_path_factory.mktemp("field")) as running:
        yield running


def metrics_port(gateway: GatewayProcess) -> int:
    return int(gateway.config["metrics"]["listen"][0].rpartition(":")[2])


def token(size: int = 0, lifetime: int = 300) -> str:
    """Of at least `size` characters, as many cookies make them."""
    text = tokens.encode("s" * 44, int(time()) + lifetime, None)
    if len(text) >= size:
        return text
    payload = {"session_id": "s" * 44, "session_expiry": int(time()) + lifetime, "__bk__zlib_": "x" * (size * 3 // 4)}
    return urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("=")


def opening(gateway: GatewayProcess, offered: str, path: str = "/app/ws") -> Answer:
    with RawClient(gateway.port) as client:
        client.send(handshake(path, f"Sec-WebSocket-Protocol: bokeh, {offered}"))
        return client.answer()


def test_tk_01_a_token_of_60_kb_passes_and_one_of_300_kb_is_told_why_not(
    gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    """holoviz/panel#8634: 400 by the proxy, nothing anywhere about it."""
    offered = token(60_000)
    assert opening(gateway, offered).status == 101
    assert worker.to("/app/ws")[0].get("sec-websocket-protocol") == f"bokeh, {offered}"
    said = len(gateway.stderr)
    refused = opening(gateway, token(300_000))
    assert refused.status == 431
    assert b"sec-websocket-protocol" in refused.body.lower()
    assert b"[limits] header_size = 65536" in refused.body
    wait_until(lambda: "header_size" in gateway.stderr[said:], "size and limit in the log")
    wait_until(
        lambda: " 431 " in gateway.stdout and "reason=header-too-large" in gateway.stdout, "its kind in the line"
    )


def test_tk_04_a_long_token_is_said_once_for_an_app_and_counted(gateway: GatewayProcess) -> None:
    """holoviz/panel#8638: 9 KB pass here, and proxies in front may refuse them."""
    said, counted = len(gateway.stderr), total(metrics_port(gateway), "token_bytes_count")
    offered = token(9000)
    for _ in range(2):
        assert opening(gateway, offered, "/long/ws").status == 101
    wait_until(lambda: total(metrics_port(gateway), "token_bytes_count") == counted + 2, "both are in the histogram")
    wait_until(lambda: "session tokens of" in gateway.stderr[said:], "the log says so")
    lines = [line for line in gateway.stderr[said:].splitlines() if "session tokens of" in line]
    assert len(lines) == 1
    assert f"/long: session tokens of {len(offered)} bytes" in lines[0]
    assert "[pool.apps] strip_cookies" in lines[0]


def test_tk_05_the_worker_sees_both_subprotocols_and_the_client_its_choice(
    gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    """jupyter-server-proxy#179."""
    offered = token()
    got = opening(gateway, offered)
    assert (got.status, got.headers("sec-websocket-protocol")) == (101, ["bokeh"])
    assert worker.to("/app/ws")[0].all("sec-websocket-protocol") == [f"bokeh, {offered}"]


def test_tk_07_the_worker_is_asked_before_the_client_is_answered(gateway: GatewayProcess) -> None:
    """jupyter-server-proxy#459: its refusal is the client's, and no 101 comes before it."""
    got = opening(gateway, token(), "/refused/ws")
    assert (got.status, got.body) == (403, b"not here")


def test_tk_09_an_expired_token_is_a_401_with_its_reason_and_a_metric(
    gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    """A laptop that slept for four hours: the page is told to reload, and the worker has no traceback of it."""
    said = len(gateway.stderr)
    refused = opening(gateway, token(lifetime=-14400))
    assert refused.status == 401
    assert b"reload the page" in refused.body
    assert worker.received() == b""
    wait_until(lambda: "401 session-gone" in gateway.stderr[said:], "the reason in the log")
    counted = {labels: value for (name, labels), value in figures(metrics_port(gateway)).items() if "refus" in name}
    assert [value for labels, value in counted.items() if "session-gone" in labels] == [1]


def test_ob_04_all_series_are_there_after_one_page_view(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    """What a monitor of sessions per worker wants to plot needs no second event to exist."""
    with RawClient(gateway.port) as client:
        client.send(b"GET /app HTTP/1.1\r\nHost: localhost\r\n\r\n")
        page = client.answer().body.decode()
        offered = page.partition('"token": "')[2].partition('"')[0]
        client.send(handshake("/app/ws", f"Sec-WebSocket-Protocol: bokeh, {offered}"))
        assert client.answer().status == 101
        seen = figures(metrics_port(gateway))
        names = {name for name, _ in seen}
        wanted = {"pages_total", "pages_waiting", "tunnels_open", "tunnels_total", "worker_up", "requests_total"}
        assert wanted | {"bytes_total", "token_bytes_count", "token_bytes_sum", "worker_lag_seconds"} <= names
        assert total(metrics_port(gateway), "tunnels_open") == 1
    wait_until(lambda: total(metrics_port(gateway), "tunnels_open") == 0, "the gauge falls")


def test_wl_04_pages_that_nobody_connects_to_are_counted_and_limited(
    gateway: GatewayProcess, worker: RecordingWorker
) -> None:
    """bokeh-demos#22: a parent pulls sessions and leaves them.  The gauge has them until they are given up (WS-07)."""
    statuses = []
    with RawClient(gateway.port) as client:
        for n in range(130):
            client.send(b"GET /app?%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % n)
            got = client.answer()
            statuses.append(got.status)
    assert statuses.count(200) > 90
    assert (got.status, got.header("retry-after")) == (429, "60")
    assert total(metrics_port(gateway), "pages_waiting") > 90
    wait_until(lambda: total(metrics_port(gateway), "pages_waiting") == 0, "they are given up", every=0.5)
    assert total(metrics_port(gateway), "pages_without_websocket_total") > 90


def test_sz_01_no_smaller_limit_than_the_worker_has(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    """holoviz/panel#6923: 19 MiB pass with the defaults of both."""
    with RawClient(gateway.port) as client:
        client.send(handshake("/app/ws", f"Sec-WebSocket-Protocol: bokeh, {token()}"))
        assert client.answer().status == 101
        size = 19 * 1024 * KIB
        client.send(b"\x82\xff" + size.to_bytes(8, "big") + b"abcd" + bytes(size))
        connection = worker.connection_of(worker.to("/app/ws")[-1])
        wait_until(lambda: len(connection.data) > size, "the message is at the worker")
        client.send(b"\x82\xff" + (25 * 1024 * KIB).to_bytes(8, "big") + b"abcd")
        assert client.read_exactly(4)[2:] == (1009).to_bytes(2, "big")
    wait_until(lambda: "[limits] max_message" in gateway.stdout + gateway.stderr, "whose limit it was")


def test_sz_02_a_larger_limit_is_set_in_one_place(worker: RecordingWorker, tmp_path: Path) -> None:
    """holoviz/panel#1559: more than Bokeh's 20 MiB; workers that the gateway runs are told of it."""
    text = CONFIG.format(worker=worker.address, metrics=free_port())
    text = text.replace("[limits]", '[limits]\nmax_message = "200 MB"')
    with GatewayProcess(text, tmp_path) as gateway, RawClient(gateway.port) as client:
        client.send(handshake("/app/ws", f"Sec-WebSocket-Protocol: bokeh, {token()}"))
        assert client.answer().status == 101
        size = 24 * 1024 * KIB
        client.send(b"\x82\xff" + size.to_bytes(8, "big") + b"abcd" + bytes(size))
        connection = worker.connection_of(worker.to("/app/ws")[-1])
        wait_until(lambda: len(connection.data) > size, "the message is at the worker")
        client.send(b"\x82\xff" + (210_000_000).to_bytes(8, "big") + b"abcd")
        assert client.read_exactly(4)[2:] == (1009).to_bytes(2, "big")
        gateway.wait_for_output("[limits] max_message = 200000000")
