"""A handler that fails in a way that nobody thought of: one request ends, and one log record says which."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest

from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port
from tests.support.raw import RawClient, raw_exchange
from tests.support.recording import RecordingWorker
from tests.support.scrape import total
from tests.support.waiting import wait_until
from tests.support.workers import APPS

SECRET = "s3cr3t-of-the-client"
TOKEN = "eyJzZXNzaW9uX2lkIjoiYWJjIn0.c2VjcmV0LXNpZ25hdHVyZQ"


@pytest.fixture(scope="module")
def metrics() -> int:
    return free_port()


@pytest.fixture(scope="module")
def gateway(metrics: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with RecordingWorker() as worker:
        text = (
            f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nkind = "http"\nservers = ["{worker.address}"]\n'
            f'[[route]]\npath = "/"\npool = "apps"\n[metrics]\nlisten = ["127.0.0.1:{metrics}"]\n'
        )
        process = GatewayProcess(text, tmp_path_factory.mktemp("crash"))
        process.command = [sys.executable, str(APPS / "crashing_gateway.py"), str(process.config_path)]
        with process as running:
            yield running


@pytest.mark.parametrize("where", ["start", "head", "later", "body", "finish"])
def test_gw12_one_request_fails_and_no_other(where: str, gateway: GatewayProcess, metrics: int) -> None:
    """500 with a number that the log has once, counted, without a secret; who is beside, or comes next, is served."""
    said, counted = len(gateway.stderr), total(metrics, "errors_total")
    with RawClient(gateway.port) as beside:
        beside.send(b"GET /beside HTTP/1.1\r\nHost: localhost\r\n")
        got = raw_exchange(
            gateway.port,
            f"POST /crash/it?at={where}&bokeh-token={TOKEN}&token={SECRET} HTTP/1.1\r\nHost: localhost\r\n"
            f"Cookie: session={SECRET}\r\nAuthorization: Bearer {SECRET}\r\nContent-Length: 4\r\n\r\nbody".encode(),
        )
        assert (got.status, got.closed) == (500, True)
        number = re.search(rb"error ([0-9a-f]{8})", got.answers[0].body)
        assert number
        assert b"cannot" not in got.answers[0].body
        beside.send(b"\r\n")
        assert beside.answer().status == 200
    assert raw_exchange(gateway.port, b"POST /crash/it HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx").status == 200
    log = gateway.stderr[said:]
    assert log.count(number[1].decode()) == 1
    assert len(log.splitlines()) == 1, "the traceback is part of the record"
    assert "/crash/it" in log
    assert "cannot" in log
    assert SECRET not in gateway.stderr + gateway.stdout
    assert "c2VjcmV0" not in gateway.stderr + gateway.stdout
    wait_until(lambda: total(metrics, "errors_total") == counted + 1, "it is counted")
    wait_until(lambda: f"request_id={number[1].decode()}" in gateway.stdout, "the access log has the number too")
