"""Tokens that somebody else signed: over real sockets, with a real key server, in front of a recording worker."""

from __future__ import annotations

import base64
import contextlib
import json
import signal
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.faults.test_reload import Reloaded
from tests.support.bokeh_client import get
from tests.support.gateway import GatewayProcess
from tests.support.raw import raw_exchange
from tests.support.recording import RecordingWorker, either
from tests.support.steer import connection_to, get_through, movers
from tests.support.waiting import GENEROUS, wait_until

SECRET = "a secret of more than thirty-two bytes"
RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
NEXT_RSA = rsa.generate_private_key(65537, 2048)


def public_pem(key: Any) -> bytes:
    raw: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return raw


def jwk(algorithm: Any, key: Any, kid: str) -> dict[str, Any]:
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": kid, "use": "sig"}


class KeyServer:
    """Publishes a JWKS, and counts how often it is asked."""

    def __init__(self) -> None:
        self.keys = [jwk(RSAAlgorithm, RSA, "r1"), jwk(ECAlgorithm, EC, "e1"), jwk(OKPAlgorithm, ED, "o1")]
        self.asked = 0
        self.down = False
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.asked += 1
                body = json.dumps({"keys": owner.keys}).encode()
                self.send_response(500 if owner.down else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"


@contextlib.contextmanager
def key_server() -> Iterator[KeyServer]:
    server = KeyServer()
    thread = Thread(target=server.server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.server.shutdown()
    server.server.server_close()
    thread.join()


CONFIG = """
[gateway]
listen = ["127.0.0.1:0"]

[pool.site]
kind = "http"
servers = ["{worker}"]

[auth.jwt]
algorithms = ["RS256", "ES256", "EdDSA", "HS256"]
secret = "{secret}"
jwks_url = "{keys}"
issuer = "https://sso.test"
audience = ["dash", "other"]
leeway = "0 s"
cookie = "access"
argument = "token"
headers = {{ X-Auth-Email = "email" }}

[[route]]
path = "/"
pool = "site"

[[route]]
path = "/open"
pool = "site"
auth = "none"

[[route]]
path = "/write"
pool = "site"
scopes = ["dash.write"]

[[route]]
path = "/team"
pool = "site"
groups = ["team"]

[log]
level = "debug"
"""


@pytest.fixture(scope="module")
def recording() -> Iterator[RecordingWorker]:
    with RecordingWorker(either) as running:
        yield running


@pytest.fixture
def worker(recording: RecordingWorker) -> RecordingWorker:
    recording.forget()
    return recording


@pytest.fixture(scope="module")
def keys() -> Iterator[KeyServer]:
    with key_server() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(
    recording: RecordingWorker, keys: KeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    text = CONFIG.format(worker=recording.address, keys=keys.url, secret=SECRET)
    with GatewayProcess(text, tmp_path_factory.mktemp("jwt")) as running:
        yield running


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    whole = {"iss": "https://sso.test", "aud": "dash", "sub": "ada", "iat": now, "exp": now + 300, **changes}
    return {name: value for name, value in whole.items() if value is not ...}


def sign(key: Any = RSA, algorithm: str = "RS256", headers: dict[str, Any] | None = None, **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm, headers={"kid": "r1"} if headers is None else headers)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"),
    [
        pytest.param(RSA, "RS256", "r1", id="RS256"),
        pytest.param(EC, "ES256", "e1", id="ES256"),
        pytest.param(ED, "EdDSA", "o1", id="EdDSA"),
        pytest.param(SECRET, "HS256", None, id="HS256"),
    ],
)
def test_a_token_of_each_algorithm_lets_in(
    gateway: GatewayProcess, worker: RecordingWorker, key: Any, algorithm: str, kid: str | None
) -> None:
    """The worker learns who it is, and never sees the token."""
    token = sign(key, algorithm, {"kid": kid} if kid else {}, email="ada@example.com", groups=["team"])
    lies = {"X-Forwarded-User": "root", "X-Auth-Email": "root@example.com", "x-auth-EMAIL": "x"}
    assert get(gateway.url("/page"), headers={**bearer(token), **lies}).status_code == 200
    request = worker.to("/page")[0]
    assert request.all("x-forwarded-user") == ["ada"]
    assert request.all("x-forwarded-groups") == ["team"]
    assert request.all("x-auth-email") == ["ada@example.com"]
    assert request.get("authorization") is None
    assert token.encode() not in worker.received()


def forged() -> list[Any]:
    none = {name: f"{part({'alg': name, 'kid': 'r1'})}.{part(claims())}." for name in ("none", "None", "nOnE", "NONE")}
    confused = f"{part({'alg': 'HS256', 'kid': 'r1'})}.{part(claims())}"
    import hashlib
    import hmac

    def hs(text: str, key: bytes) -> str:
        return (
            text + "." + base64.urlsafe_b64encode(hmac.digest(key, text.encode(), hashlib.sha256)).decode().strip("=")
        )

    good = sign()
    head, payload, signature = good.split(".")
    own = jwk(RSAAlgorithm, OTHER_RSA, "r1")
    now = int(time.time())
    return [
        *(pytest.param(token, "token-algorithm", id=f"TK06-alg-{name}") for name, token in none.items()),
        pytest.param(hs(confused, public_pem(RSA)), "token-", id="TK06-HS256-by-public-key"),
        pytest.param(sign(OTHER_RSA, headers={"kid": "../../dev/null"}), "token-", id="TK06-kid-path"),
        pytest.param(sign(OTHER_RSA, headers={"kid": "r1", "jwk": own}), "token-signature", id="TK06-jwk"),
        pytest.param(
            sign(OTHER_RSA, headers={"kid": "r1", "jku": "http://127.0.0.1:1/keys"}), "token-signature", id="TK06-jku"
        ),
        pytest.param(sign(headers={"kid": "r1", "crit": ["x"], "x": 1}), "token-critical", id="TK06-crit"),
        pytest.param(sign(RSA, "RS512"), "token-algorithm", id="algorithm-not-listed"),
        pytest.param(sign(OTHER_RSA), "token-signature", id="other-key"),
        pytest.param(f"{head}.{payload[:-2]}AA.{signature}", "token-", id="payload-changed"),
        pytest.param(f"{head}.{payload}.", "token-signature", id="no-signature"),
        pytest.param("abc", "token-malformed", id="no-token"),
        pytest.param(f"{head}.{payload}", "token-malformed", id="two-parts"),
        pytest.param(sign(exp=...), "token-exp-missing", id="TK07-exp-missing"),
        pytest.param(_raw(exp=str(now + 300)), "token-time", id="TK07-exp-string"),
        pytest.param(_raw(exp=now + 300.5), "token-time", id="TK07-exp-float"),
        pytest.param(_raw(exp=-1), "token-time", id="TK07-exp-negative"),
        pytest.param(_raw(exp=2**63), "token-time", id="TK07-exp-2-63"),
        pytest.param(_raw(exp=True), "token-time", id="exp-boolean"),
        pytest.param(sign(exp=now - 5), "token-expired", id="expired"),
        pytest.param(sign(nbf=now + 300), "token-not-yet", id="TK07-nbf-future"),
        pytest.param(sign(iat=now + 300), "token-not-yet", id="iat-future"),
        pytest.param(sign(aud="evil"), "token-audience", id="TK07-aud-wrong"),
        pytest.param(sign(aud=...), "token-audience", id="aud-missing"),
        pytest.param(sign(iss="https://evil.test"), "token-issuer", id="TK07-iss-wrong"),
        pytest.param(sign(sub="a\nb"), "token-user", id="user-unprintable"),
        pytest.param(sign(sub=...), "token-user", id="no-user"),
    ]


def _raw(**changes: Any) -> str:
    """Signed, with claims that the library would not write."""
    return jwt.PyJWS().encode(json.dumps(claims(**changes)).encode(), RSA, "RS256", {"kid": "r1"})


@pytest.mark.parametrize(("token", "reason"), forged())
def test_a_bad_token_is_refused_and_the_reason_is_the_logs(
    gateway: GatewayProcess, worker: RecordingWorker, token: str, reason: str
) -> None:
    before = len(gateway.stderr)
    refused = get(gateway.url("/page"), headers=bearer(token), allow_redirects=False)
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    assert "token-" not in refused.text
    wait_until(lambda: f"401 {reason}" in gateway.stderr[before:], f"{reason} in the log")
    assert not worker.requests
    assert token not in gateway.stderr + gateway.stdout


@pytest.mark.parametrize(
    ("path", "changes", "status"),
    [
        pytest.param("/open/x", None, 200, id="open-route"),
        pytest.param("/page", None, 401, id="nothing"),
        pytest.param("/write/x", {"scope": "dash.read dash.write"}, 200, id="scope"),
        pytest.param("/write/x", {"scope": "dash.read"}, 403, id="scope-missing"),
        pytest.param("/team/x", {"groups": ["team"]}, 200, id="group"),
        pytest.param("/team/x", {"groups": ["other"]}, 403, id="group-missing"),
    ],
)
def test_routes(
    gateway: GatewayProcess, worker: RecordingWorker, path: str, changes: dict[str, Any] | None, status: int
) -> None:
    headers = {"X-Forwarded-User": "root", **({} if changes is None else bearer(sign(**changes)))}
    assert get(gateway.url(path), headers=headers).status_code == status
    if changes is None and status == 200:
        assert worker.requests[0].get("x-forwarded-user") is None


def test_a_page_moves_the_token_from_its_address_to_a_cookie(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    token = sign()
    first = get(gateway.url(f"/page?a=1&token={token}&b=2"), allow_redirects=False)
    assert (first.status_code, first.headers["Location"]) == (302, "/page?a=1&b=2")
    cookie = first.headers["Set-Cookie"]
    assert cookie.startswith(f"access={token}; Path=/; Max-Age=")
    assert cookie.endswith("; HttpOnly; SameSite=Lax")
    assert get(gateway.url("/page?a=1"), headers={"Cookie": f"x=1; access={token}; y=2"}).status_code == 200
    request = worker.requests[0]
    assert request.get("cookie") == "x=1; y=2"
    wait_until(lambda: "ada" in gateway.stdout, "the user in the access log")
    assert token not in gateway.stdout + gateway.stderr


def test_an_argument_is_taken_out_of_what_the_worker_gets(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    script = get(gateway.url(f"/app/autoload.js?token={sign()}&x=1"))
    assert script.status_code == 200
    assert worker.targets == ["/app/autoload.js?x=1"]


def test_a_body_waits_for_nothing_and_arrives_whole(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    body = b"x" * 100_000
    request = (
        f"POST /page HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {sign()}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    assert raw_exchange(gateway.port, request + body).status == 200
    assert worker.requests[0].body == body


def test_two_authorization_headers_are_refused(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    line = f"Authorization: Bearer {sign()}\r\n"
    request = f"GET /page HTTP/1.1\r\nHost: localhost\r\n{line}{line}\r\n".encode()
    assert raw_exchange(gateway.port, request).status == 401
    assert not worker.requests


def test_a_new_key_is_fetched_and_an_outage_takes_none_away(recording: RecordingWorker, tmp_path: Path) -> None:
    """An unknown key id asks again, at most once in the cool-down; the old keys stay while the server is down."""
    with key_server() as keys:
        text = CONFIG.format(worker=recording.address, keys=keys.url, secret=SECRET)
        with GatewayProcess(text, tmp_path) as gateway:
            assert get(gateway.url("/page"), headers=bearer(sign())).status_code == 200
            asked = keys.asked
            keys.down = True
            strange = sign(NEXT_RSA, headers={"kid": "r2"})
            for _ in range(5):
                assert get(gateway.url("/page"), headers=bearer(strange)).status_code == 401
            assert keys.asked - asked <= 1
            assert get(gateway.url("/page"), headers=bearer(sign(jti="x"))).status_code == 200
            keys.down = False
            keys.keys.append(jwk(RSAAlgorithm, NEXT_RSA, "r2"))
            wait_until(
                lambda: get(gateway.url("/page"), headers=bearer(strange)).status_code == 200,
                "the new key is known",
                every=0.5,
            )


def test_a_key_without_a_name_may_be_replaced(recording: RecordingWorker, tmp_path: Path) -> None:
    def nameless(key: Any) -> dict[str, Any]:
        return {name: value for name, value in jwk(RSAAlgorithm, key, "").items() if name != "kid"}

    with key_server() as keys:
        keys.keys = [nameless(RSA)]
        text = CONFIG.format(worker=recording.address, keys=keys.url, secret=SECRET)
        with GatewayProcess(text, tmp_path) as gateway:
            assert get(gateway.url("/page"), headers=bearer(sign(headers={}))).status_code == 200
            keys.keys = [nameless(NEXT_RSA)]
            fresh = bearer(sign(NEXT_RSA, headers={}))
            wait_until(lambda: get(gateway.url("/page"), headers=fresh).status_code == 200, "the new key", every=0.5)
            assert keys.asked == 2
            assert get(gateway.url("/page"), headers=bearer(sign(headers={}, jti="x"))).status_code == 401


def test_a_reload_while_the_signer_is_down_takes_no_key_away(recording: RecordingWorker, tmp_path: Path) -> None:
    """Not even one that changes the sign-in itself."""
    with key_server() as keys:
        text = CONFIG.format(worker=recording.address, keys=keys.url, secret=SECRET)
        with Reloaded(text, tmp_path) as gateway:
            assert get(gateway.url("/page"), headers=bearer(sign())).status_code == 200
            keys.down = True
            changed = gateway.text.replace('audience = ["dash", "other"]', 'audience = ["dash"]')
            assert "auth" in gateway.reload(changed, "in force for new connections")
            assert get(gateway.url("/page"), headers=bearer(sign(jti="y"))).status_code == 200
            assert get(gateway.url("/page"), headers=bearer(sign(aud="other"))).status_code == 401
            strange = bearer(sign(NEXT_RSA, headers={"kid": "r2"}))
            wait_until(
                lambda: (
                    get(gateway.url("/page"), headers=strange).status_code == 401
                    and "the 3 known ones stay in use" in gateway.stderr
                ),
                "the signer is asked after the cool-down, and the log says what that means",
                every=0.5,
            )
            assert get(gateway.url("/page"), headers=bearer(sign(jti="z"))).status_code == 200


def test_a_reload_may_name_another_signer(recording: RecordingWorker, tmp_path: Path) -> None:
    with key_server() as old, key_server() as new:
        new.keys = [jwk(RSAAlgorithm, NEXT_RSA, "r2")]
        text = CONFIG.format(worker=recording.address, keys=old.url, secret=SECRET)
        with Reloaded(text, tmp_path) as gateway:
            assert get(gateway.url("/page"), headers=bearer(sign())).status_code == 200
            assert "auth" in gateway.reload(gateway.text.replace(old.url, new.url), "in force for new connections")
            fresh = sign(NEXT_RSA, headers={"kid": "r2"})
            assert get(gateway.url("/page"), headers=bearer(fresh)).status_code == 200
            assert get(gateway.url("/page"), headers=bearer(sign(jti="x"))).status_code == 401


def test_keys_are_fetched_once_for_all_processes_and_outlive_an_upgrade(
    recording: RecordingWorker, tmp_path: Path
) -> None:
    """Each of two processes knows a key as soon as the other one had reason to ask for it."""
    with key_server() as keys:
        text = CONFIG.format(worker=recording.address, keys=keys.url, secret=SECRET)
        text = text.replace("[gateway]", "[gateway]\nprocesses = 2")
        with Reloaded(text, tmp_path) as gateway:

            def through_both(token: str, status: int) -> None:
                seen = set()
                for _ in range(24):
                    answer = get(gateway.url("/page"), headers={**bearer(token), "Connection": "close"})
                    seen.add(answer.status_code)
                assert seen == {status}

            through_both(sign(), 200)
            assert keys.asked == 1
            keys.keys.append(jwk(RSAAlgorithm, NEXT_RSA, "r2"))
            fresh = sign(NEXT_RSA, headers={"kid": "r2"})
            wait_until(
                lambda: get(gateway.url("/page"), headers=bearer(fresh)).status_code == 200, "the new key", every=0.5
            )
            through_both(fresh, 200)
            assert keys.asked == 2
            keys.down = True
            gateway.process.send_signal(signal.SIGUSR2)
            gateway.wait_for_output("upgrade: version")
            through_both(sign(jti="after"), 200)
            through_both(fresh, 200)


def test_a_websocket_ends_with_its_token(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    url = gateway.url("/app/ws").replace("http", "ws")
    token = sign(exp=int(time.time()) + 11, sub="short")
    with connect(url, additional_headers=bearer(token), proxy=None, ping_interval=None) as socket:
        began = time.monotonic()
        with pytest.raises(ConnectionClosed) as ended:
            socket.recv(timeout=30)
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == 4401
        assert time.monotonic() - began > 5
    wait_until(lambda: "sign-in-ended" in gateway.stderr, "the log says why")


def test_a_websocket_lives_on_when_a_newer_token_was_seen(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    url = gateway.url("/app/ws").replace("http", "ws")
    token = sign(exp=int(time.time()) + 11, sub="renewed")
    with connect(url, additional_headers=bearer(token), proxy=None, ping_interval=None) as socket:
        assert get(gateway.url("/page"), headers=bearer(sign(sub="renewed"))).status_code == 200
        with pytest.raises(TimeoutError):
            socket.recv(timeout=15)


def test_a_newer_token_counts_whichever_process_saw_it(recording: RecordingWorker, tmp_path: Path) -> None:
    with key_server() as keys:
        text = CONFIG.format(worker=recording.address, keys=keys.url, secret=SECRET)
        with GatewayProcess(text.replace("[gateway]", "[gateway]\nprocesses = 2"), tmp_path) as gateway:
            first, second = movers(gateway)
            url = gateway.url("/app/ws").replace("http", "ws")

            def open_there(user: str) -> ClientConnection:
                headers = bearer(sign(exp=int(time.time()) + 11, sub=user))
                there = connection_to(gateway, second)
                return connect(url, additional_headers=headers, proxy=None, ping_interval=None, sock=there)

            with open_there("renewed") as renewed, open_there("short") as short:
                assert get_through(gateway, first, "/page", bearer(sign(sub="renewed"))).status == 200
                with pytest.raises(ConnectionClosed):
                    short.recv(timeout=GENEROUS)
                with pytest.raises(TimeoutError):
                    renewed.recv(timeout=3)


def test_a_websocket_without_a_token_is_401(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    request = (
        b"GET /app/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert raw_exchange(gateway.port, request).status == 401
    assert not worker.requests
