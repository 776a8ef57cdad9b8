"""The sign-in stands before whatever is remembered of a target or a connection."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from bokeh_gateway.policy.password import scrypt_hash
from tests.support.gateway import GatewayProcess
from tests.support.raw import RawClient
from tests.support.recording import RecordingWorker

CONFIG = """
[gateway]
listen = ["127.0.0.1:0"]

[pool.site]
kind = "http"
servers = ["{worker}"]

[auth.basic]
users = {{ ada = "{ada}", bob = "{bob}" }}

[[route]]
path = "/"
pool = "site"

[[route]]
path = "/open"
pool = "site"
auth = "none"
"""


@pytest.fixture(scope="module")
def gateway(recording: RecordingWorker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    ada, bob = (scrypt_hash(name, b"0123456789abcdef", 4) for name in ("ada", "bob"))
    text = CONFIG.format(worker=recording.address, ada=ada, bob=bob)
    with GatewayProcess(text, tmp_path_factory.mktemp("gate")) as running:
        yield running


def line(name: str) -> bytes:
    return b"Authorization: Basic " + base64.b64encode(f"{name}:{name}".encode()) + b"\r\n"


def test_each_request_of_a_connection_is_looked_at_by_itself(
    gateway: GatewayProcess, recording: RecordingWorker
) -> None:
    """The same target and connection, other credentials: nobody inherits an answer, a name or an open door."""
    recording.forget()
    lie = b"X-Forwarded-User: root\r\n"
    steps = [
        (b"/page", line("ada"), 200),
        (b"/page", line("ada"), 200),
        (b"/page", b"", 401),
        (b"/page", line("bob"), 200),
        (b"/page", line("bob") + lie, 200),
        (b"/page", lie, 401),
        (b"/open", lie, 200),
        (b"/open", lie, 200),
        (b"/open", line("ada"), 200),
        (b"/page", line("eve"), 401),
        (b"/page", line("ada"), 200),
    ]
    with RawClient(gateway.port) as client:
        for target, lines, status in steps:
            client.send(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n" + lines + b"\r\n")
            assert client.answer().status == status
    seen = [(request.target, request.all("x-forwarded-user")) for request in recording.requests]
    nobody = [("/open", [])] * 3
    assert seen == [
        ("/page", ["ada"]),
        ("/page", ["ada"]),
        ("/page", ["bob"]),
        ("/page", ["bob"]),
        *nobody,
        ("/page", ["ada"]),
    ]
