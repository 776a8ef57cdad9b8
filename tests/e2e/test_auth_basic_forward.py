"""Passwords, and a service that is asked, in front of a recording worker."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bokeh_gateway.policy.password import argon2_hash, scrypt_hash
from tests.support.bokeh_client import get
from tests.support.gateway import GatewayProcess
from tests.support.raw import raw_exchange
from tests.support.recording import Recorded, RecordingWorker, Side, answer
from tests.support.waiting import wait_until

CONFIG = """
[gateway]
listen = ["127.0.0.1:0"]

[pool.site]
kind = "http"
servers = ["{worker}"]

[auth.basic]
users = {{ ada = "{ada}" }}
file = "users"
groups = {{ team = ["grace"] }}
realm = "Dash"

[auth.forward]
url = "http://{service}/check?x=1"
timeout = "1 s"
headers = ["X-Team"]
login_url = "https://sso.test/login"

[[route]]
path = "/basic"
pool = "site"
auth = "basic"

[[route]]
path = "/team"
pool = "site"
auth = "basic"
groups = ["team"]

[[route]]
path = "/forward"
pool = "site"
auth = "forward"

[[route]]
path = "/either"
pool = "site"
auth = ["basic", "forward"]
"""


async def service_script(request: Recorded, side: Side) -> None:
    """What the service says depends on one header."""
    await side.body(request)
    wish = request.get("x-wish") or "200"
    if wish == "silence":
        await side.wait_end()
        side.close()
    elif wish == "200":
        await side.send(answer(b"", "200 OK", "X-Forwarded-User: ada", "X-Forwarded-Groups: a, b", "X-Team: blue"))
    elif wish == "close":
        side.close()
    else:
        await side.send(answer(b"secret reason", f"{wish} Odd", "WWW-Authenticate: Custom x", "Set-Cookie: s=1"))


@pytest.fixture(scope="module")
def worker_process() -> Iterator[RecordingWorker]:
    with RecordingWorker() as running:
        yield running


@pytest.fixture(scope="module")
def service_process() -> Iterator[RecordingWorker]:
    with RecordingWorker(service_script) as running:
        yield running


@pytest.fixture
def worker(worker_process: RecordingWorker) -> RecordingWorker:
    worker_process.forget()
    return worker_process


@pytest.fixture
def service(service_process: RecordingWorker) -> RecordingWorker:
    service_process.forget()
    return service_process


@pytest.fixture(scope="module")
def gateway(
    worker_process: RecordingWorker, service_process: RecordingWorker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("basic")
    (folder / "users").write_text(f"# people\ngrace:{argon2_hash('battery')}\n")
    text = CONFIG.format(
        worker=worker_process.address, service=service_process.address, ada=scrypt_hash("correct", b"s" * 16, 10)
    )
    with GatewayProcess(text, folder) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "user", "password", "status"),
    [
        pytest.param("/basic/x", "ada", "correct", 200, id="scrypt"),
        pytest.param("/basic/x", "grace", "battery", 200, id="argon2"),
        pytest.param("/basic/x", "ada", "not-hers", 401, id="wrong-password"),
        pytest.param("/basic/x", "nobody", "correct", 401, id="unknown-user"),
        pytest.param("/team/x", "grace", "battery", 200, id="in-the-group"),
        pytest.param("/team/x", "ada", "correct", 403, id="not-in-the-group"),
    ],
)
def test_passwords(
    gateway: GatewayProcess, worker: RecordingWorker, path: str, user: str, password: str, status: int
) -> None:
    said = len(gateway.stdout)
    found = get(gateway.url(path), auth=(user, password))
    assert found.status_code == status
    wait_until(lambda: f'"GET {path} HTTP/1.1" {status} ' in gateway.stdout[said:], "the request is logged")
    if status == 200:
        assert worker.requests[0].get("x-forwarded-user") == user
        assert worker.requests[0].get("authorization") is None
    else:
        assert not worker.requests
    assert password not in gateway.stderr + gateway.stdout


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"Authorization: Basic ***\r\n", id="no-base64"),
        pytest.param(b"Authorization: Basic YWRh\r\n", id="no-colon"),
        pytest.param(b"Authorization: Basic\r\n", id="empty"),
        pytest.param(b"Authorization: Bearer YWRhOmNvcnJlY3Q=\r\n", id="other-scheme"),
    ],
)
def test_without_a_password_the_browser_is_asked_for_one(
    gateway: GatewayProcess, worker: RecordingWorker, line: bytes
) -> None:
    found = raw_exchange(gateway.port, b"GET /basic/x HTTP/1.1\r\nHost: localhost\r\n" + line + b"\r\n").answers[0]
    assert found.status == 401
    assert found.header("www-authenticate") == 'Basic realm="Dash", charset="UTF-8"'
    assert not worker.requests


def test_many_at_once_are_hashed_once(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    """Pipelined requests whose sign-in waits are answered in order, each with its own body."""
    head = "POST /basic/{} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic YWRhOmNvcnJlY3Q=\r\n"
    requests = "".join(head.format(n) + f"Content-Length: 1\r\n\r\n{n}" for n in range(5))
    found = raw_exchange(gateway.port, requests.encode())
    assert [one.status for one in found.answers] == [200] * 5
    assert [(one.target, one.body) for one in worker.requests] == [(f"/basic/{n}", str(n).encode()) for n in range(5)]


def test_the_service_lets_in(gateway: GatewayProcess, worker: RecordingWorker, service: RecordingWorker) -> None:
    lies = {"X-Forwarded-User": "root", "X-Team": "red", "Cookie": "c=1", "If-None-Match": "*", "Range": "bytes=0-1"}
    told = ("X-Original-URI", "X-Original-Method", "X-Forwarded-URI", "X-Forwarded-Method")
    lies |= dict.fromkeys(told, "/public")
    for _ in range(3):
        assert get(gateway.url("/forward/x?y=1"), headers=lies).status_code == 200
    request = worker.requests[0]
    assert request.all("x-forwarded-user") == ["ada"]
    assert request.all("x-forwarded-groups") == ["a,b"]
    assert request.all("x-team") == ["blue"]
    asked = service.requests[0]
    assert (asked.target, asked.get("cookie")) == ("/check?x=1", "c=1")
    assert [asked.all(name.lower()) for name in told] == [["/forward/x?y=1"], ["GET"]] * 2
    assert (asked.get("if-none-match"), asked.get("range"), asked.get("x-forwarded-user")) == (None, None, None)
    assert len({one.connection for one in service.requests}) == 1, "one connection, kept"
    wait_until(lambda: " ada [" in gateway.stdout, "the user in the access log")


@pytest.mark.parametrize(
    ("wish", "status"),
    [
        pytest.param("401", 401, id="401"),
        pytest.param("403", 403, id="403"),
        pytest.param("302", 500, id="redirect"),
        pytest.param("500", 500, id="error"),
        pytest.param("silence", 503, id="no-answer"),
        pytest.param("close", 503, id="closed"),
    ],
)
def test_whatever_else_the_service_does_lets_nobody_in(
    gateway: GatewayProcess, worker: RecordingWorker, service: RecordingWorker, wish: str, status: int
) -> None:
    found = get(gateway.url("/forward/x"), headers={"X-Wish": wish, "Sec-Fetch-Mode": "cors"}, allow_redirects=False)
    assert found.status_code == status
    assert "secret reason" not in found.text
    if status in (401, 403):
        assert (found.headers["WWW-Authenticate"], found.headers["Set-Cookie"]) == ("Custom x", "s=1")
    assert not worker.requests


def test_a_page_is_led_to_the_services_login(gateway: GatewayProcess, service: RecordingWorker) -> None:
    found = get(gateway.url("/forward/x?a=1"), headers={"X-Wish": "401"}, allow_redirects=False)
    here = gateway.url("/forward/x?a=1").replace(":", "%3A").replace("/", "%2F").replace("?", "%3F").replace("=", "%3D")
    assert (found.status_code, found.headers["Location"]) == (302, f"https://sso.test/login?next={here}")


def test_one_of_several_methods_is_enough(
    gateway: GatewayProcess, worker: RecordingWorker, service: RecordingWorker
) -> None:
    assert get(gateway.url("/either/x"), auth=("grace", "battery"), headers={"X-Wish": "401"}).status_code == 200
    assert not service.requests
    assert get(gateway.url("/either/x")).status_code == 200
    assert [one.get("x-forwarded-user") for one in worker.requests] == ["grace", "ada"]


def test_a_service_that_is_not_there_lets_nobody_in(worker: RecordingWorker, tmp_path: Path) -> None:
    (tmp_path / "users").write_text("")
    text = CONFIG.format(worker=worker.address, service="127.0.0.1:1", ada=scrypt_hash("x", b"s" * 16, 10))
    with GatewayProcess(text, tmp_path) as gateway:
        assert get(gateway.url("/forward/x")).status_code == 503
        assert not worker.requests
        wait_until(lambda: "auth-forward-down" in gateway.stderr, "the reason in the log")


@pytest.mark.parametrize("algorithm", ["scrypt", "argon2"])
def test_hash_password(algorithm: str) -> None:
    """The command's output is what the configuration takes."""
    from bokeh_gateway.policy.password import check_form, verify

    made = subprocess.run(
        [sys.executable, "-m", "bokeh_gateway.cli", "hash-password", "--algorithm", algorithm],
        input="a password\n",
        capture_output=True,
        text=True,
        check=True,
    )
    hashed = made.stdout.strip()
    check_form(hashed)
    assert verify("a password", hashed)
    assert not verify("a passwort", hashed)
