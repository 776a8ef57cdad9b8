"""What log and client are told of a request that was refused before its head was whole, or could not be understood."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.gateway import GatewayProcess
from tests.support.raw import raw_exchange
from tests.support.recording import RecordingWorker
from tests.support.waiting import wait_until

CONFIG = """
[gateway]
listen = ["127.0.0.1:0"]

[pool.site]
kind = "http"
servers = ["{worker}"]

[limits]
request_line = "1 KiB"
header_size = "2 KiB"
body_size = "1 KiB"

[log]
format = "json"
"""
HOST = b"Host: localhost\r\n"
SECRET = "s3cr3t-never-logged"


@pytest.fixture(scope="module")
def gateway(recording: RecordingWorker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(CONFIG.format(worker=recording.address), tmp_path_factory.mktemp("refused")) as running:
        yield running


def line_of(gateway: GatewayProcess, before: int) -> dict[str, object]:
    wait_until(lambda: len(gateway.access_log()) > before, "the access log's line")
    found = json.loads(gateway.access_log()[before])
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("data", "status", "method", "target"),
    [
        pytest.param(b"GET /long/" + b"a" * 1500, 414, "GET", "/long/aaaa", id="414-line-without-end"),
        pytest.param(
            b"GET /long/%b HTTP/1.1\r\n%b\r\n" % (b"a" * 1050, HOST), 414, "GET", "/long/aaaa", id="414-whole"
        ),
        pytest.param(b"PUT /h HTTP/1.1\r\n%bX: %b\r\n\r\n" % (HOST, b"a" * 3000), 431, "PUT", "/h", id="431-whole"),
        pytest.param(b"GET /h2 HTTP/1.1\r\n%bX: %b" % (HOST, b"a" * 9000), 431, "GET", "/h2", id="431-without-end"),
        pytest.param(
            b"POST /big?x=1 HTTP/1.1\r\n%bContent-Length: 2000\r\n\r\n" % HOST, 413, "POST", "/big?x=1", id="413-length"
        ),
        pytest.param(b"GET /bad HTTP/1.1\r\n\r\n", 400, "GET", "/bad", id="400-no-host"),
        pytest.param(b"GET /bad HTTP/1.1\r\nX : y\r\n\r\n", 400, "GET", "/bad", id="400-header-line"),
        pytest.param(b"GET /old HTTP/2.0\r\n%b\r\n" % HOST, 505, "GET", "/old", id="505"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01", 400, "", "", id="400-no-line-at-all"),
    ],
)
def test_the_log_names_the_request_that_was_refused(
    data: bytes, status: int, method: str, target: str, gateway: GatewayProcess
) -> None:
    before, said = len(gateway.access_log()), len(gateway.stderr)
    assert raw_exchange(gateway.port, data).status == status
    line = line_of(gateway, before)
    assert (line["status"], line["method"]) == (status, method)
    assert str(line["target"]).startswith(target)
    assert bool(line["target"]) == bool(target)
    asked = f" {method} {target.partition('?')[0]}" if method else ""
    wait_until(lambda: f"refused 127.0.0.1{asked}" in gateway.stderr[said:], "the own log's line")
    assert f": {status}: " in gateway.stderr[said:]


@pytest.mark.parametrize(
    "target",
    [
        f"/app?bokeh-token={SECRET}&x=" + "a" * 1500,
        "/app?x=" + "a" * 900 + f"&bokeh-session-id={SECRET}" + "a" * 400,
        f"http://user:{SECRET}@localhost/",
        f"/app#access_token={SECRET}",
        f"/app?token={SECRET} HTTP/1.1\r\nX : y",
    ],
)
def test_no_secret_of_a_refused_request_is_logged(target: str, gateway: GatewayProcess) -> None:
    before = len(gateway.access_log())
    data = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nCookie: {SECRET}\r\n\r\n".encode()
    assert raw_exchange(gateway.port, data).status in (400, 414)
    assert line_of(gateway, before)["method"] == "GET"
    assert SECRET not in gateway.stdout + gateway.stderr


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST /big HTTP/1.1\r\n%bAccept: text/html,*/*\r\nContent-Length: 2000\r\n\r\n", 413),
        (b"GET /bad HTTP/1.1\r\n%bAccept: text/html\r\nContent-Length: x\r\n\r\n", 400),
    ],
)
def test_a_browser_that_is_refused_gets_a_page(data: bytes, status: int, gateway: GatewayProcess) -> None:
    """As far as its Accept was read before what was wrong; anybody else gets plain text."""
    for accept, kind in ((b"text/html", "text/html"), (b"text/x", "text/plain")):
        got = raw_exchange(gateway.port, (data % HOST).replace(b"text/html", accept)).answers[0]
        assert got.status == status
        assert (got.header("content-type") or "").startswith(kind)
