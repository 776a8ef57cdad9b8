"""Origins of attackers at the WebSocket of a Bokeh pool, on the wire; the rules themselves are policy.origin's."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.frames import TEXT, frame, handshake
from tests.support.gateway import GatewayProcess
from tests.support.raw import Answer, RawClient
from tests.support.recording import RecordingWorker, either
from tests.support.waiting import wait_until

HOST = "dash.example.com"
CONFIG = """
[gateway]
listen = ["127.0.0.1:0"]
public_url = "http://{host}"
[pool.apps]
servers = ["{worker}"]
[origins]
allow = [{allow}]
"""
ALLOWED = ["app.example.com", "any.example.com:*", "tls.example.com:443", "*.wild.example", "[::1]:5006"]


@pytest.fixture(scope="module")
def worker() -> Iterator[RecordingWorker]:
    with RecordingWorker(either) as running:
        yield running


def config(worker: RecordingWorker, *allow: str) -> str:
    return CONFIG.format(host=HOST, worker=worker.address, allow=", ".join(f'"{one}"' for one in allow))


@pytest.fixture(scope="module")
def gateway(worker: RecordingWorker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(config(worker, *ALLOWED), tmp_path_factory.mktemp("origins")) as running:
        yield running


def opening(gateway: GatewayProcess, *origins: str, host: str = HOST) -> Answer:
    with RawClient(gateway.port) as client:
        client.send(handshake("/app/ws", *(f"Origin: {origin}" for origin in origins), host=host))
        return client.answer()


@pytest.mark.parametrize(
    "origin",
    [
        pytest.param(f"http://{HOST}", id="own"),
        pytest.param("https://app.example.com", id="OR05-default-port"),
        pytest.param("http://app.example.com:80", id="OR05-default-port-told"),
        pytest.param("https://any.example.com:8443", id="OR05-any-port"),
        pytest.param("https://tls.example.com", id="OR05-443"),
        pytest.param("http://[::1]:5006", id="OR07-literal"),
        pytest.param("https://a.wild.example", id="OR08-one-label"),
        pytest.param("HTTPS://APP.Example.COM", id="case"),
    ],
)
def test_origins_that_may_open(origin: str, gateway: GatewayProcess) -> None:
    assert opening(gateway, origin).status == 101


@pytest.mark.parametrize(
    "origins",
    [
        pytest.param(["https://app.example.com", "https://app.example.com"], id="OR02-twice"),
        pytest.param(["https://app.example.com", "https://evil.com"], id="OR02-two"),
        pytest.param(["https://app.example.com, https://evil.com"], id="OR02-list"),
        pytest.param(["https://app.example.com https://evil.com"], id="OR02-space"),
        pytest.param([""], id="OR02-empty"),
        pytest.param(["null"], id="OR03-null"),
        pytest.param(["https://app.example.com:8443"], id="OR05-other-port"),
        pytest.param(["https://tls.example.com:80"], id="OR05-not-443"),
        pytest.param(["http://tls.example.com"], id="OR05-http-is-80"),
        pytest.param(["https://app.example.com@evil.com"], id="OR06-userinfo"),
        pytest.param(["https://evil.com@app.example.com"], id="OR06-userinfo-of-evil"),
        pytest.param(["https://evil.com#app.example.com"], id="OR06-fragment"),
        pytest.param(["https://app.example.com#x"], id="OR06-fragment-behind"),
        pytest.param(["https://app.example.com.evil.com"], id="OR06-suffix"),
        pytest.param(["https://evil.com/app.example.com"], id="OR06-path"),
        pytest.param(["https://app.example.com/"], id="OR06-slash"),
        pytest.param(["https://app.example.com?x"], id="OR06-query"),
        pytest.param(["https://app.example.com%2eevil.com"], id="OR06-percent"),
        pytest.param(["https://app.example.com\\evil.com"], id="OR06-backslash"),
        pytest.param(["https://app.example.com."], id="OR06-trailing-dot"),
        pytest.param(["https://app.example\t.com"], id="OR06-tab"),
        pytest.param(["https://app.example .com"], id="OR06-space-within"),
        pytest.param(["https://\u0430pp.example.com".encode().decode("latin-1")], id="OR06-homograph"),
        pytest.param(["https://xn--pp-7ed.example.com"], id="OR06-punycode"),
        pytest.param(["app.example.com"], id="no-scheme"),
        pytest.param(["//app.example.com"], id="no-scheme-slashes"),
        pytest.param(["https://app.example.com:"], id="port-empty"),
        pytest.param(["https://app.example.com:x"], id="port-no-number"),
        pytest.param(["https://app.example.com:99999"], id="port-too-big"),
        pytest.param(["http://[::ffff:127.0.0.1]:80"], id="OR07-mapped"),
        pytest.param(["http://[::1]:5007"], id="OR07-other-port"),
        pytest.param(["http://[::1"], id="OR07-open"),
        pytest.param(["http://::1:5006"], id="OR07-bare"),
        pytest.param(["https://wild.example"], id="OR08-no-label"),
        pytest.param(["https://a.b.wild.example"], id="OR08-two-labels"),
        pytest.param(["https://evil-wild.example"], id="OR08-hyphen"),
        pytest.param(["https://.wild.example"], id="OR08-empty-label"),
        pytest.param(["x" * 5000], id="long"),
    ],
)
def test_origins_that_may_not(origins: list[str], gateway: GatewayProcess, worker: RecordingWorker) -> None:
    """403 before a worker is touched, whatever Host says; and the log names it without its odd characters."""
    worker.forget()
    assert opening(gateway, *origins).status == 403
    assert opening(gateway, *origins, host="evil.com").status == 403
    assert worker.received() == b""
    assert "\t" not in gateway.stderr
    assert "Traceback" not in gateway.stderr


@pytest.mark.parametrize("allow", ["*", "null"])
def test_or03_null_is_only_allowed_by_its_name(allow: str, worker: RecordingWorker, tmp_path: Path) -> None:
    """A sandboxed frame says `null`, and so does anybody's: "*" is every origin with a name."""
    with GatewayProcess(config(worker, allow), tmp_path) as gateway:
        assert opening(gateway, "null").status == (101 if allow == "null" else 403)
        assert opening(gateway, "null", "null").status == 403
        assert opening(gateway, "https://anything.example:1").status == (101 if allow == "*" else 403)


def test_or10_a_reload_changes_who_may_open_and_cuts_nobody(worker: RecordingWorker, tmp_path: Path) -> None:
    """New handshakes go by the new list; a WebSocket that is open stays, as a session would be lost by closing it."""
    with GatewayProcess(config(worker, "old.example"), tmp_path) as gateway, RawClient(gateway.port) as client:
        client.send(handshake("/app/ws", "Origin: https://old.example", host=HOST))
        assert client.answer().status == 101
        assert opening(gateway, "https://new.example").status == 403
        tunnel = worker.connections[-1].number
        text = gateway.config_path.read_text().replace("old.example", "new.example")
        gateway.config_path.write_text(text)
        gateway.signal(signal.SIGHUP)
        wait_until(lambda: opening(gateway, "https://new.example").status == 101, "the new list", every=0.2)
        assert opening(gateway, "https://old.example").status == 403
        message = frame(TEXT, b"still here")
        client.send(message)
        wait_until(lambda: message in worker.connections[tunnel].data, "the open WebSocket goes on")
