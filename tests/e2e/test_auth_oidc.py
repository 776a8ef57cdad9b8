"""A login at an OpenID provider that the test runs itself: a Tornado application with signed id tokens."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.client
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import jwt
import psutil
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.bokeh_client import get, http_session
from tests.support.gateway import GatewayProcess
from tests.support.raw import raw_exchange
from tests.support.recording import RecordingWorker, either
from tests.support.steer import connection_to, get_through, movers
from tests.support.waiting import GENEROUS, wait_until

KEY = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
CLIENT, CLIENT_SECRET = "dash", "a client secret: with odd & signs"
COOKIE_SECRET = "a cookie secret of more than 32 bytes"


class Provider:
    """Signs everybody in as `user`; its answers can be bent by a test."""

    def __init__(self) -> None:
        self.codes: dict[str, dict[str, str]] = {}
        self.refresh_tokens: set[str] = set()
        self.refreshes = 0
        self.refused = 0
        self.user, self.groups = "ada", ["team"]
        self.bend: dict[str, Any] = {}
        """Claims that replace the right ones."""
        self.key = KEY
        self.with_refresh_token = True
        self.blocked = False
        self.discovered: dict[str, Any] = {}
        """Further metadata."""
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.ready = threading.Event()

    def start(self) -> None:
        self.thread.start()
        assert self.ready.wait(GENEROUS)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(GENEROUS)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)

        async def serve() -> None:
            application = Application(
                [
                    ("/.well-known/openid-configuration", Discovery),
                    ("/keys", Keys),
                    ("/authorize", Authorize),
                    ("/token", Token),
                ],
                provider=self,
                log_function=lambda _: None,
            )
            sockets = bind_sockets(0, "127.0.0.1")
            self.issuer = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
            self.server = HTTPServer(application)
            self.server.add_sockets(sockets)
            self.ready.set()

        self.loop.run_until_complete(serve())
        self.loop.run_forever()
        self.server.stop()
        self.loop.run_until_complete(self.server.close_all_connections())
        self.loop.close()

    def id_token(self, nonce: str | None) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": self.user,
            "iat": now,
            "exp": now + 60,
            "groups": self.groups,
            "email": f"{self.user}@example.com",
            **({"nonce": nonce} if nonce else {}),
            **self.bend,
        }
        return jwt.encode(claims, self.key, "RS256", headers={"kid": "k1"})

    def tokens(self, nonce: str | None) -> dict[str, Any]:
        found: dict[str, Any] = {"access_token": "at", "token_type": "Bearer", "id_token": self.id_token(nonce)}
        if self.with_refresh_token:
            found["refresh_token"] = "rt-" + secrets.token_urlsafe(8)
            self.refresh_tokens.add(found["refresh_token"])
        return found


class Base(RequestHandler):
    @property
    def provider(self) -> Provider:
        found: Provider = self.settings["provider"]
        return found


class Discovery(Base):
    def get(self) -> None:
        issuer = self.provider.issuer
        self.write(
            {
                **self.provider.discovered,
                "issuer": issuer,
                "authorization_endpoint": f"{issuer}/authorize",
                "token_endpoint": f"{issuer}/token",
                "jwks_uri": f"{issuer}/keys",
                "end_session_endpoint": f"{issuer}/logout",
            }
        )


class Keys(Base):
    def get(self) -> None:
        self.write({"keys": [{**json.loads(RSAAlgorithm.to_jwk(KEY.public_key())), "kid": "k1", "use": "sig"}]})


class Authorize(Base):
    def get(self) -> None:
        asked = {name: self.get_argument(name) for name in self.request.arguments}
        assert asked["code_challenge_method"] == "S256"
        assert asked["response_type"] == "code"
        code = secrets.token_urlsafe(8)
        self.provider.codes[code] = asked
        self.redirect(f"{asked['redirect_uri']}?code={code}&state={asked['state']}&iss={self.provider.issuer}")


class Token(Base):
    def post(self) -> None:
        provider = self.provider
        name, _, secret = base64.b64decode(self.request.headers["Authorization"][6:]).decode().partition(":")
        from urllib.parse import unquote_plus

        assert (unquote_plus(name), unquote_plus(secret)) == (CLIENT, CLIENT_SECRET)
        if self.get_argument("grant_type") == "refresh_token":
            provider.refreshes += 1
            token = self.get_argument("refresh_token")
            if provider.blocked or token not in provider.refresh_tokens:
                provider.refused += 1
                self.set_status(400)
                self.write({"error": "invalid_grant"})
                return
            provider.refresh_tokens.discard(token)
            self.write(provider.tokens(None))
            return
        asked = provider.codes.pop(self.get_argument("code"), None)
        verifier = self.get_argument("code_verifier").encode()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier).digest()).decode().rstrip("=")
        if asked is None or asked["code_challenge"] != challenge:
            self.set_status(400)
            self.write({"error": "invalid_grant"})
            return
        assert self.get_argument("redirect_uri") == asked["redirect_uri"]
        self.write(provider.tokens(asked["nonce"]))


CONFIG = """
[gateway]
listen = ["127.0.0.1:0"]
{trusted}

[pool.site]
kind = "http"
servers = ["{worker}"]

[auth]
cookie_secret = "{cookie_secret}"

[auth.oidc]
issuer = "{issuer}"
client_id = "dash"
client_secret = "{client_secret}"
headers = {{ X-Auth-Email = "email" }}
refresh = "{refresh}"
session = "{session}"
leeway = "0 s"

[[route]]
path = "/"
pool = "site"

[[route]]
path = "/bosses"
pool = "site"
groups = ["bosses"]
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
def provider_process() -> Iterator[Provider]:
    provider = Provider()
    provider.start()
    yield provider
    provider.stop()


@pytest.fixture
def provider(provider_process: Provider) -> Provider:
    provider_process.bend = {}
    provider_process.key = KEY
    provider_process.user, provider_process.groups = "ada", ["team"]
    provider_process.with_refresh_token, provider_process.blocked = True, False
    provider_process.refreshes = provider_process.refused = 0
    provider_process.discovered = {}
    return provider_process


def start(
    recording: RecordingWorker,
    provider: Provider,
    folder: Path,
    *,
    refresh: str = "5 min",
    session: str = "8 h",
    trusted: str = "",
) -> GatewayProcess:
    text = CONFIG.format(
        worker=recording.address,
        issuer=provider.issuer,
        client_secret=CLIENT_SECRET,
        cookie_secret=COOKIE_SECRET,
        refresh=refresh,
        session=session,
        trusted=trusted,
    )
    return GatewayProcess(text, folder)


@pytest.fixture(scope="module")
def gateway(
    recording: RecordingWorker, provider_process: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    with start(recording, provider_process, tmp_path_factory.mktemp("oidc")) as running:
        yield running


def sign_in(gateway: GatewayProcess, path: str = "/page?a=1") -> tuple[requests.Session, requests.Response]:
    session = http_session()
    return session, session.get(gateway.url(path), timeout=GENEROUS)


def cookie_header(session: requests.Session) -> str:
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in session.cookies)


def test_a_login_leads_back_to_the_page(gateway: GatewayProcess, provider: Provider, worker: RecordingWorker) -> None:
    """Through the login, the provider and the callback; the worker sees who it is, and no cookie of ours."""
    first = get(gateway.url("/page?a=1"), allow_redirects=False)
    assert (first.status_code, first.headers["Location"]) == (302, "/oauth2/login?next=/page%3Fa%3D1")
    session, page = sign_in(gateway)
    assert (page.status_code, page.url) == (200, gateway.url("/page?a=1"))
    request = worker.requests[0]
    assert (request.get("x-forwarded-user"), request.get("x-forwarded-groups")) == ("ada", "team")
    assert (request.get("x-auth-email"), request.get("cookie")) == ("ada@example.com", None)
    wait_until(lambda: " ada [" in gateway.stdout, "the user in the access log")
    for secret in (CLIENT_SECRET, COOKIE_SECRET, session.cookies["bokeh-gateway"], "rt-"):
        assert secret not in gateway.stdout + gateway.stderr


def test_cookies_have_their_flags(gateway: GatewayProcess, provider: Provider) -> None:
    login = get(gateway.url("/oauth2/login?next=/x"), allow_redirects=False)
    callback = http_session()
    callback.cookies.update(login.cookies)
    there = callback.get(login.headers["Location"], allow_redirects=False, timeout=GENEROUS)
    back = callback.get(there.headers["Location"], allow_redirects=False, timeout=GENEROUS)
    assert back.headers["Location"] == "/x"
    for header in (login.headers["Set-Cookie"], back.headers["Set-Cookie"]):
        assert "HttpOnly" in header
        assert "SameSite=Lax" in header
        assert "Secure" not in header, "over plain http it would be lost"


def test_under_https_cookies_are_secure_and_bound_to_the_host(
    provider: Provider, recording: RecordingWorker, tmp_path: Path
) -> None:
    """A trusted proxy says that the browser came by https."""
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "dash.test"}
    with start(recording, provider, tmp_path, trusted='trusted_proxies = ["127.0.0.1"]') as gateway:
        login = get(gateway.url("/oauth2/login"), headers=headers, allow_redirects=False)
    cookie = login.headers["Set-Cookie"]
    assert cookie.startswith("__Host-bokeh-gateway-login-")
    assert cookie.endswith("; Secure")
    asked = parse_qs(urlsplit(login.headers["Location"]).query)
    assert asked["redirect_uri"] == ["https://dash.test/oauth2/callback"]


@pytest.mark.parametrize(
    ("target", "back"),
    [
        ("/app2?x=1", "/app2?x=1"),
        ("//evil.test", "/"),
        ("/\\evil.test", "/"),
        ("https:evil.test", "/"),
        ("https://evil.test/", "/"),
        ("/\tx", "/"),
        ("", "/"),
    ],
)
def test_next_leads_to_this_host_only(gateway: GatewayProcess, provider: Provider, target: str, back: str) -> None:
    session = http_session()
    login = session.get(gateway.url("/oauth2/login"), params={"next": target}, allow_redirects=False, timeout=GENEROUS)
    there = session.get(login.headers["Location"], allow_redirects=False, timeout=GENEROUS)
    assert session.get(there.headers["Location"], allow_redirects=False, timeout=GENEROUS).headers["Location"] == back


def callback_url(gateway: GatewayProcess) -> tuple[requests.Session, str]:
    session = http_session()
    login = session.get(gateway.url("/oauth2/login"), allow_redirects=False, timeout=GENEROUS)
    there = session.get(login.headers["Location"], allow_redirects=False, timeout=GENEROUS)
    return session, there.headers["Location"]


def test_a_callback_that_another_browser_began_signs_nobody_in(gateway: GatewayProcess, provider: Provider) -> None:
    """Login CSRF and session fixation: the attacker's state is not in the victim's cookies."""
    _, attackers = callback_url(gateway)
    victim, own = callback_url(gateway)
    mixed = own.replace(
        dict(parse_qsl(urlsplit(own).query))["code"], dict(parse_qsl(urlsplit(attackers).query))["code"]
    )
    for url in (attackers, mixed):
        answer = victim.get(url, allow_redirects=False, timeout=GENEROUS)
        assert answer.status_code in (400, 403)
        assert "bokeh-gateway" not in victim.cookies


@pytest.mark.parametrize(
    ("named", "change", "status"),
    [
        pytest.param(False, lambda back, _: back.partition("&iss=")[0], 302, id="no-iss"),
        pytest.param(True, lambda back, _: back.partition("&iss=")[0], 400, id="iss-was-promised"),
        pytest.param(False, lambda back, _: back.replace("&iss=", "&iss=https://evil.test/"), 400, id="another"),
        pytest.param(False, lambda back, issuer: back + f"&iss={issuer}", 400, id="twice"),
        pytest.param(False, lambda back, _: back + "&code=x", 403, id="two-codes"),
        pytest.param(False, lambda back, _: back + "&state=x", 400, id="two-states"),
    ],
)
def test_who_answers_is_who_was_asked(
    provider: Provider,
    recording: RecordingWorker,
    tmp_path: Path,
    named: bool,
    change: Callable[[str, str], str],
    status: int,
) -> None:
    """Mix-up: a callback that says another provider's name, two, or none where it always says one."""
    provider.discovered = {"authorization_response_iss_parameter_supported": True} if named else {}
    with start(recording, provider, tmp_path) as gateway, http_session() as session:
        login = session.get(gateway.url("/oauth2/login"), allow_redirects=False, timeout=GENEROUS)
        there = get(login.headers["Location"], allow_redirects=False)
        back = change(there.headers["Location"], provider.issuer)
        assert session.get(back, allow_redirects=False, timeout=GENEROUS).status_code == status


def test_a_callback_works_once(gateway: GatewayProcess, provider: Provider) -> None:
    session, url = callback_url(gateway)
    assert session.get(url, allow_redirects=False, timeout=GENEROUS).status_code == 302
    assert session.get(url, allow_redirects=False, timeout=GENEROUS).status_code == 400


@pytest.mark.parametrize(
    ("bend", "reason"),
    [
        pytest.param({"nonce": "other"}, "token-nonce", id="nonce"),
        pytest.param({"nonce": None}, "token-nonce", id="no-nonce"),
        pytest.param({"aud": "other"}, "token-audience", id="aud"),
        pytest.param({"aud": [CLIENT, "other"]}, "token-audience", id="two-aud-without-azp"),
        pytest.param({"azp": "other"}, "token-audience", id="azp"),
        pytest.param({"iss": "https://evil.test"}, "token-issuer", id="iss"),
        pytest.param({"exp": 1}, "token-expired", id="expired"),
    ],
)
def test_a_wrong_id_token_signs_nobody_in(
    gateway: GatewayProcess, provider: Provider, bend: dict[str, Any], reason: str
) -> None:
    provider.bend = bend
    before = len(gateway.stderr)
    session, answer = sign_in(gateway)
    assert answer.status_code == 403
    assert "bokeh-gateway" not in session.cookies
    wait_until(lambda: reason in gateway.stderr[before:], f"{reason} in the log")
    assert reason not in answer.text


def test_an_id_token_of_another_key_signs_nobody_in(gateway: GatewayProcess, provider: Provider) -> None:
    provider.key = OTHER
    session, answer = sign_in(gateway)
    assert answer.status_code == 403
    assert "bokeh-gateway" not in session.cookies


def test_groups(gateway: GatewayProcess, provider: Provider) -> None:
    assert sign_in(gateway, "/bosses/x")[1].status_code == 403
    provider.groups = ["bosses"]
    assert sign_in(gateway, "/bosses/x")[1].status_code == 200


def test_a_changed_cookie_is_nobodys(gateway: GatewayProcess, provider: Provider, worker: RecordingWorker) -> None:
    session, _ = sign_in(gateway)
    value = session.cookies["bokeh-gateway"]
    worker.forget()
    flipped = value[:40] + ("A" if value[40] != "A" else "B") + value[41:]
    for changed in (flipped, value[:-4], "x", "x" * 20_000, value + "A"):
        answer = get(gateway.url("/page"), headers={"Cookie": f"bokeh-gateway={changed}"}, allow_redirects=False)
        assert answer.status_code == 302, changed[:30]
    assert not worker.requests


def test_a_login_cookie_is_no_session(gateway: GatewayProcess, provider: Provider) -> None:
    login = get(gateway.url("/oauth2/login"), allow_redirects=False)
    sealed = login.headers["Set-Cookie"].partition("=")[2].partition(";")[0]
    answer = get(gateway.url("/page"), headers={"Cookie": f"bokeh-gateway={sealed}"}, allow_redirects=False)
    assert answer.status_code == 302


def test_many_groups_go_into_several_cookies(
    gateway: GatewayProcess, provider: Provider, worker: RecordingWorker
) -> None:
    provider.groups = [f"group-{n:04}" for n in range(400)]
    session, answer = sign_in(gateway)
    assert answer.status_code == 200
    assert "bokeh-gateway.1" in session.cookies
    assert worker.requests[-1].get("cookie") is None


def test_a_session_is_refreshed_once_however_many_ask(
    provider: Provider, recording: RecordingWorker, tmp_path: Path
) -> None:
    """The old cookie still works for those that were under way; the provider's refresh tokens work once."""
    with start(recording, provider, tmp_path, refresh="1 s") as gateway:
        session, _ = sign_in(gateway)
        old = cookie_header(session)
        provider.user, provider.groups = "ada", ["team", "bosses"]
        until = time.monotonic() + 1.1
        wait_until(lambda: time.monotonic() > until, "the session is old")
        with ThreadPoolExecutor(8) as threads:
            found = list(
                threads.map(lambda _: get(gateway.url("/bosses/x"), headers={"Cookie": old}).status_code, range(8))
            )
        assert found == [200] * 8
        assert provider.refreshes < 4
        assert provider.refused == 0
        again = get(gateway.url("/bosses/x"), headers={"Cookie": old})
        assert again.status_code == 200
        assert "bokeh-gateway=" in again.headers["Set-Cookie"]


def test_processes_refresh_a_session_together(provider: Provider, recording: RecordingWorker, tmp_path: Path) -> None:
    """Requests with the old cookie come to both, one after the other and at once; each refresh token is used once."""
    with start(recording, provider, tmp_path, refresh="1 s", trusted="processes = 2") as gateway:
        first, second = movers(gateway)
        session, _ = sign_in(gateway)
        old = {"Cookie": cookie_header(session)}

        def at(process: psutil.Process) -> int:
            return get_through(gateway, process, "/page", old).status

        for _ in range(2):
            until = time.monotonic() + 1.1
            wait_until(lambda until=until: time.monotonic() > until, "the session is old")  # type: ignore[misc]
            with ThreadPoolExecutor(4) as threads:
                assert list(threads.map(at, (first, second) * 2)) == [200] * 4
        assert [at(process) for process in (second, first)] == [200, 200]
        assert provider.refused == 0
        assert provider.refreshes > 0
        provider.blocked = True
        wait_until(lambda: [at(process) for process in (second, first)] == [302, 302], "both refuse")


def test_a_refreshed_session_that_fits_no_cookie_goes_on(
    provider: Provider, recording: RecordingWorker, tmp_path: Path
) -> None:
    """For as long as the gateway remembers it; the log says what the browser did not get."""
    with start(recording, provider, tmp_path, refresh="1 s") as gateway:
        session, _ = sign_in(gateway)
        provider.groups = [secrets.token_hex(16) for _ in range(600)]
        wait_until(
            lambda: (
                session.get(gateway.url("/page"), allow_redirects=False, timeout=GENEROUS).status_code == 200
                and "cannot be given to the browser" in gateway.stderr
            ),
            "the refresh",
        )


def test_a_blocked_user_is_out_after_the_refresh(
    provider: Provider, recording: RecordingWorker, tmp_path: Path
) -> None:
    with start(recording, provider, tmp_path, refresh="1 s") as gateway:
        session, _ = sign_in(gateway)
        provider.blocked = True
        wait_until(
            lambda: session.get(gateway.url("/page"), allow_redirects=False, timeout=GENEROUS).status_code == 302,
            "the login again",
        )


def test_a_logout_ends_the_session_and_its_websockets(
    gateway: GatewayProcess, provider: Provider, worker: RecordingWorker
) -> None:
    session, _ = sign_in(gateway)
    cookie = {"Cookie": cookie_header(session)}
    url = gateway.url("/app/ws").replace("http", "ws")
    with connect(url, additional_headers=cookie, proxy=None, ping_interval=None) as socket:
        answer = session.get(gateway.url("/oauth2/logout"), allow_redirects=False, timeout=GENEROUS)
        where = urlsplit(answer.headers["Location"])
        assert where.path == "/logout"
        assert parse_qs(where.query)["post_logout_redirect_uri"] == [gateway.url("/")]
        with pytest.raises(ConnectionClosed) as ended:
            socket.recv(timeout=GENEROUS)
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == 4401
    assert "bokeh-gateway" not in session.cookies
    assert get(gateway.url("/page"), headers=cookie, allow_redirects=False).status_code == 302, "a stolen copy"


def cookies_of(*answers: http.client.HTTPResponse) -> dict[str, str]:
    """The header that a browser sends after these answers."""
    lines = [line for answer in answers for line in answer.headers.get_all("Set-Cookie") or ()]
    return {"Cookie": "; ".join(line.partition(";")[0] for line in lines if "Max-Age=0" not in line)}


def test_a_login_and_a_logout_go_through_any_process(
    provider: Provider, recording: RecordingWorker, tmp_path: Path
) -> None:
    """The login begins at one and comes back to the other; who signs out at one is out at both, WebSockets included."""
    with start(recording, provider, tmp_path, trusted="processes = 2") as gateway:
        first, second = movers(gateway)
        login = get_through(gateway, first, "/oauth2/login?next=/page", {})
        there = get(login.headers["Location"], allow_redirects=False)
        back = urlsplit(there.headers["Location"])
        callback = get_through(gateway, second, f"{back.path}?{back.query}", cookies_of(login))
        assert (callback.status, callback.headers["Location"]) == (302, "/page")
        cookie = cookies_of(callback)
        assert [get_through(gateway, process, "/page", cookie).status for process in (first, second)] == [200, 200]
        url = gateway.url("/app/ws").replace("http", "ws")
        with connect(
            url, additional_headers=cookie, proxy=None, ping_interval=None, sock=connection_to(gateway, second)
        ) as socket:
            assert get_through(gateway, first, "/oauth2/logout", cookie).status == 302
            assert [get_through(gateway, process, "/page", cookie).status for process in (first, second)] == [302, 302]
            with pytest.raises(ConnectionClosed) as ended:
                socket.recv(timeout=GENEROUS)
            assert ended.value.rcvd is not None
            assert ended.value.rcvd.code == 4401


def test_a_websocket_without_a_session_is_401(gateway: GatewayProcess, worker: RecordingWorker) -> None:
    request = (
        b"GET /app/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert raw_exchange(gateway.port, request).status == 401


def test_a_session_ends(provider: Provider, recording: RecordingWorker, tmp_path: Path) -> None:
    with start(recording, provider, tmp_path, session="2 s") as gateway:
        session, page = sign_in(gateway)
        assert page.status_code == 200
        cookie = {"Cookie": cookie_header(session)}
        wait_until(
            lambda: get(gateway.url("/page"), headers=cookie, allow_redirects=False).status_code == 302,
            "the session has ended",
        )


def test_a_provider_that_is_not_there_is_503(recording: RecordingWorker, tmp_path: Path) -> None:
    provider = Provider()
    provider.issuer = "http://127.0.0.1:1"
    with start(recording, provider, tmp_path) as gateway:
        assert get(gateway.url("/oauth2/login")).status_code == 503
        assert get(gateway.url("/page"), headers={"Sec-Fetch-Mode": "cors"}).status_code == 401
    provider.loop.close()
