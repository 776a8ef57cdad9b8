"""The module that `bokeh serve --auth-module` takes, unchanged, in front of a real worker and under prefixes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.bokeh_client import BokehSocket, get, http_session, page_token
from tests.support.gateway import GatewayProcess
from tests.support.raw import raw_exchange
from tests.support.waiting import GENEROUS, wait_until
from tests.support.workers import BokehWorker, RunRecord

MODULE = '''
"""As in Bokeh's own example: a form, one account, a signed cookie."""
from tornado.web import RequestHandler

FORM = """<html><body><form action="{action}" method="POST">{xsrf}
<input name="next" value="{next}"><input name="username"><input name="password"></form>{error}</body></html>"""

login_url = "/login"
logout_url = "/logout"


def get_user(request_handler):
    return request_handler.get_secure_cookie("user")


class LoginHandler(RequestHandler):
    def get(self):
        self.write(FORM.format(action="login", xsrf=self.xsrf_form_html() if self.settings["xsrf_cookies"] else "",
                               next=self.get_argument("next", "/"), error=self.get_argument("error", "")))

    def post(self):
        if self.get_argument("username") == "ada" and self.get_argument("password") == "right":
            self.set_secure_cookie("user", "ada")
            self.redirect(self.get_argument("next", "/recorder"))
        else:
            self.redirect(login_url + "?error=wrong")


class LogoutHandler(RequestHandler):
    def get(self):
        self.clear_cookie("user")
        self.redirect("/recorder")
'''
ASYNC_MODULE = """
async def get_user_async(request_handler):
    name = request_handler.get_cookie("name")
    if name == "crash":
        raise RuntimeError("a bug of the module")
    return {"email": name} if name else None


def get_login_url(request_handler):
    return "https://sso.test/login"
"""
EXAMPLE = """
# In the shape of the examples: a template beside the module, the user's name as JSON in the cookie.
import tornado
from tornado.web import RequestHandler

login_url = "login"
logout_url = "/logout"


def get_user(request_handler):
    return request_handler.get_signed_cookie("user")


class LoginHandler(RequestHandler):
    def get(self):
        try:
            errormessage = self.get_argument("error")
        except Exception:
            errormessage = ""
        self.render("login.html", errormessage=errormessage)

    def post(self):
        if self.get_argument("password", "") == "right":
            self.set_current_user(self.get_argument("username", ""))
            self.redirect("/recorder")
        else:
            self.redirect(login_url + "?error=" + tornado.escape.url_escape("Login incorrect"))

    def set_current_user(self, user):
        if user:
            self.set_signed_cookie("user", tornado.escape.json_encode(user))
        else:
            self.clear_cookie("user")


class LogoutHandler(RequestHandler):
    def get(self):
        self.clear_cookie("user")
        self.redirect("/recorder")
"""
TEMPLATE = """<form action="login" method="POST">{% module xsrf_form_html() %}
<input name="username"><input name="password">{{ errormessage }}</form>"""
SECRET = "a cookie secret of more than 32 bytes"
CONFIG = """
[gateway]
listen = ["127.0.0.1:0"]
{gateway}

[pool.apps]
servers = ["{plain}"]

[pool.prefixed]
servers = ["{prefixed}"]
prefix = "/bk"

[auth]
module = "auth.py"
cookie_secret = "{secret}"
xsrf = {xsrf}

[[route]]
path = "/"
pool = "apps"

[[route]]
path = "/p"
pool = "apps"
strip_prefix = true

[[route]]
path = "/bk"
pool = "prefixed"

[[route]]
path = "/only-grace"
pool = "apps"
strip_prefix = true
users = ["grace"]
"""


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return RunRecord(tmp_path_factory.mktemp("record") / "runs")


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory, record: RunRecord) -> Iterator[list[BokehWorker]]:
    folder = tmp_path_factory.mktemp("workers")
    plain = BokehWorker(folder, name="plain", env=record.environment)
    prefixed = BokehWorker(folder, name="prefixed", prefix="/bk", env=record.environment)
    plain.launch()
    prefixed.launch()
    try:
        plain.wait_ready()
        prefixed.wait_ready()
        yield [plain, prefixed]
    finally:
        plain.kill()
        prefixed.kill()


def start(
    workers: list[BokehWorker], folder: Path, module: str, xsrf: str = "false", gateway: str = ""
) -> GatewayProcess:
    (folder / "auth.py").write_text(module)
    plain, prefixed = (worker.address for worker in workers)
    text = CONFIG.format(plain=plain, prefixed=prefixed, secret=SECRET, xsrf=xsrf, gateway=gateway)
    return GatewayProcess(text, folder)


@pytest.fixture(scope="module")
def gateway(workers: list[BokehWorker], tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with start(workers, tmp_path_factory.mktemp("module"), MODULE) as running:
        yield running


def sign_in(gateway: GatewayProcess, page: str) -> tuple[requests.Session, requests.Response]:
    """As a browser: the page, the form that it leads to, and wherever that leads."""
    session = http_session()
    form = session.get(gateway.url(page), timeout=GENEROUS)
    back = re.search(r'name="next" value="([^"]*)"', form.text)
    assert back, form.text
    answer = session.post(
        form.url.partition("?")[0],
        {"next": back[1], "username": "ada", "password": "right"},
        headers={"Origin": gateway.url("").rstrip("/")},
        timeout=GENEROUS,
    )
    return session, answer


@pytest.mark.parametrize(
    ("page", "login"),
    [
        pytest.param("/recorder", "/login?next=%2Frecorder", id="root"),
        pytest.param("/p/recorder?x=1", "/p/login?next=%2Fp%2Frecorder%3Fx%3D1", id="AU-01-stripped-prefix"),
        pytest.param("/bk/recorder", "/bk/login?next=%2Fbk%2Frecorder", id="worker-prefix"),
    ],
)
def test_a_page_leads_to_the_login_and_back_to_itself(
    gateway: GatewayProcess, record: RunRecord, page: str, login: str
) -> None:
    """The session's page and WebSocket then work, and the app knows who it is."""
    first = get(gateway.url(page), allow_redirects=False)
    assert (first.status_code, first.headers["Location"]) == (302, login)
    record.mark()
    session, answer = sign_in(gateway, page)
    assert (answer.status_code, answer.url) == (200, gateway.url(page))
    cookie = f"user={session.cookies['user']}"
    socket = gateway.url(page.partition("?")[0]).replace("http:", "ws:") + "/ws"
    with BokehSocket(socket, page_token(answer.text), headers={"Cookie": cookie}) as open_session:
        open_session.pull_document()
    assert [{k.lower(): v for k, v in run.headers.items()}.get("x-forwarded-user") for run in record.runs()] == ["ada"]
    wait_until(lambda: re.search(r" ada \[", gateway.stdout), "the user in the access log")


def test_a_wrong_password_comes_back_to_the_form_below_the_prefix(gateway: GatewayProcess) -> None:
    with http_session() as session:
        answer = session.post(
            gateway.url("/p/login"), {"username": "ada", "password": "no"}, allow_redirects=False, timeout=GENEROUS
        )
    assert answer.headers["Location"] == "/p/login?error=wrong"


def test_the_logout_signs_out(gateway: GatewayProcess) -> None:
    session, _ = sign_in(gateway, "/p/recorder")
    assert session.get(gateway.url("/p/logout"), timeout=GENEROUS).url.startswith(gateway.url("/p/login"))
    assert "user" not in session.cookies


@pytest.mark.parametrize(
    "path",
    [pytest.param("/recorder/autoload.js", id="autoload"), pytest.param("/recorder/metadata", id="fetch")],
)
def test_a_script_is_told_401(gateway: GatewayProcess, path: str) -> None:
    answer = get(gateway.url(path), headers={"Sec-Fetch-Mode": "no-cors"}, allow_redirects=False)
    assert answer.status_code == 401
    assert get(gateway.url("/recorder/autoload.js"), allow_redirects=False).status_code == 401


def test_a_websocket_is_told_401(gateway: GatewayProcess) -> None:
    request = (
        b"GET /recorder/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert raw_exchange(gateway.port, request).status == 401


def test_bokehjs_needs_no_sign_in(gateway: GatewayProcess) -> None:
    assert get(gateway.url("/static/js/bokeh.min.js"), allow_redirects=False).status_code == 200


def test_a_preflight_is_not_led_to_the_login(gateway: GatewayProcess) -> None:
    request = b"OPTIONS /recorder/autoload.js HTTP/1.1\r\nHost: localhost\r\nOrigin: https://x.test\r\n\r\n"
    assert raw_exchange(gateway.port, request).status != 302


def test_a_user_who_is_not_among_the_routes_is_403(gateway: GatewayProcess) -> None:
    session, _ = sign_in(gateway, "/recorder")
    answer = session.get(gateway.url("/only-grace/recorder"), timeout=GENEROUS)
    assert answer.status_code == 403
    assert "grace" not in answer.text
    wait_until(lambda: "403 auth-user" in gateway.stderr, "the reason in the log")


@pytest.mark.parametrize(
    "target",
    [
        "//evil.test",
        "/\\evil.test",
        "\\\\evil.test",
        "https:evil.test",
        "https://evil.test/",
        "/\t/evil.test",
        "/\n/evil.test",
        "javascript:alert(1)",
        " //evil.test",
        "/%0d%0aSet-Cookie:x\r\nX: y",
    ],
)
def test_next_leads_to_this_host_only(gateway: GatewayProcess, target: str) -> None:
    with http_session() as session:
        answer = session.post(
            gateway.url("/p/login"),
            {"next": target, "username": "ada", "password": "right"},
            allow_redirects=False,
            timeout=GENEROUS,
        )
    assert (answer.status_code, answer.headers["Location"]) == (302, "/p/")


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Origin": "https://evil.test"}, id="origin"),
        pytest.param({"Origin": "null"}, id="opaque-origin"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, id="fetch-metadata"),
        pytest.param({"Sec-Fetch-Site": "same-site"}, id="sibling"),
    ],
)
def test_another_sites_login_form_is_refused(gateway: GatewayProcess, headers: dict[str, str]) -> None:
    """Login CSRF: nobody is signed in to an account that is not his."""
    with http_session() as session:
        answer = session.post(
            gateway.url("/login"), {"username": "ada", "password": "right"}, headers=headers, timeout=GENEROUS
        )
    assert answer.status_code == 403
    assert "Set-Cookie" not in answer.headers


def test_a_cookie_has_its_flags_and_a_changed_one_is_nobodys(gateway: GatewayProcess) -> None:
    with http_session() as session:
        answer = session.post(
            gateway.url("/login"), {"username": "ada", "password": "right"}, allow_redirects=False, timeout=GENEROUS
        )
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        value = session.cookies["user"]
    for changed in (value[:-2] + "00", "ada", value.replace("user", "uses"), "x" * 4000):
        answer = get(gateway.url("/recorder"), headers={"Cookie": f"user={changed}"}, allow_redirects=False)
        assert answer.status_code == 302, changed[:50]
    assert value not in gateway.stderr + gateway.stdout


def test_xsrf(workers: list[BokehWorker], tmp_path: Path) -> None:
    """With `xsrf` a form without its token is refused, and one with it is not."""
    with start(workers, tmp_path, MODULE, xsrf="true") as gateway, http_session() as session:
        form = session.get(gateway.url("/login"), timeout=GENEROUS)
        token = re.search(r'name="_xsrf" value="([^"]+)"', form.text)
        assert token
        account = {"username": "ada", "password": "right"}
        assert session.post(gateway.url("/login"), account, timeout=GENEROUS).status_code == 403
        account["_xsrf"] = token[1]
        good = session.post(gateway.url("/login"), account, allow_redirects=False, timeout=GENEROUS)
        assert good.status_code == 302


def test_an_async_module_with_a_login_elsewhere(workers: list[BokehWorker], tmp_path: Path, record: RunRecord) -> None:
    """A failing module lets nobody in."""
    with start(workers, tmp_path, ASYNC_MODULE) as gateway:
        first = get(gateway.url("/recorder"), allow_redirects=False)
        assert first.status_code == 302
        here = gateway.url("/recorder").replace(":", "%3A").replace("/", "%2F")
        assert first.headers["Location"] == f"https://sso.test/login?next={here}"
        record.mark()
        assert get(gateway.url("/recorder"), headers={"Cookie": "name=grace"}).status_code == 200
        assert record.runs()[0].headers["x-forwarded-user"] == "grace"
        assert get(gateway.url("/recorder"), headers={"Cookie": "name=crash"}).status_code == 500
        wait_until(lambda: "a bug of the module" in gateway.stderr, "the module's error in the log")


@pytest.mark.parametrize(
    ("setting", "headers"),
    [
        pytest.param("", {}, id="direct"),
        pytest.param('trusted_proxies = ["127.0.0.1"]', {"X-Forwarded-Host": "dash.test"}, id="trusted-proxy"),
        pytest.param('public_url = "https://dash.test"', {}, id="public-url"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/p"])
def test_a_module_like_the_examples(
    workers: list[BokehWorker], tmp_path: Path, prefix: str, setting: str, headers: dict[str, str]
) -> None:
    """Also where the browser knows the gateway by another name than the request's Host."""
    (tmp_path / "login.html").write_text(TEMPLATE)
    with start(workers, tmp_path, EXAMPLE, xsrf="true", gateway=setting) as gateway, http_session() as session:
        origin = "https://dash.test" if setting else gateway.url("").rstrip("/")
        first = session.get(gateway.url(f"{prefix}/recorder"), headers=headers, timeout=GENEROUS)
        assert first.url.startswith(gateway.url(f"{prefix}/login?next=")), first.url
        token = re.search(r'name="_xsrf" value="([^"]+)"', first.text)
        assert token, first.text

        def sign_in(password: str) -> requests.Response:
            return session.post(
                gateway.url(f"{prefix}/login"),
                {"username": "Ada Lovelace", "password": password, "_xsrf": token[1]},
                headers={"Origin": origin, **headers},
                timeout=GENEROUS,
                allow_redirects=False,
            )

        wrong = sign_in("wrong")
        assert (wrong.status_code, wrong.headers["Location"]) == (302, "login?error=Login+incorrect")
        right = sign_in("right")
        assert (right.status_code, right.headers["Location"]) == (302, f"{prefix}/recorder")
        page = session.get(gateway.url(f"{prefix}/recorder"), headers=headers, timeout=GENEROUS)
        assert page.url == gateway.url(f"{prefix}/recorder")
        wait_until(lambda: "Ada" in gateway.stdout, "the user in the access log")
        assert '"Ada' not in gateway.stdout.replace("\\x22", '"')
        out = session.get(gateway.url(f"{prefix}/logout"), headers=headers, timeout=GENEROUS)
        assert out.url.startswith(gateway.url(f"{prefix}/login?next="))


ANSWERING = """
from tornado.web import Finish

login_url = "/login"


{define} get_user{suffix}(request_handler):
    wish = request_handler.get_argument("wish", "")
    if wish == "redirect":
        request_handler.set_cookie("asked", "1")
        request_handler.redirect("/elsewhere")
    elif wish == "finish":
        request_handler.set_status(418)
        request_handler.finish("no")
    elif wish == "raise":
        request_handler.set_status(410)
        raise Finish("gone")
    else:
        return "ada"
"""


@pytest.mark.parametrize(("define", "suffix"), [("def", ""), ("async def", "_async")], ids=["plain", "async"])
def test_a_module_may_answer_itself(workers: list[BokehWorker], tmp_path: Path, define: str, suffix: str) -> None:
    """As its handler could behind Bokeh; nothing reaches a worker, and the connection goes on."""
    module = ANSWERING.format(define=define, suffix=suffix)
    with start(workers, tmp_path, module) as gateway, http_session() as session:
        found = [
            session.get(gateway.url(f"/recorder?wish={wish}"), allow_redirects=False, timeout=GENEROUS)
            for wish in ("redirect", "finish", "raise", "")
        ]
        assert [answer.status_code for answer in found] == [302, 418, 410, 200]
        assert (found[0].headers["Location"], found[0].cookies["asked"]) == ("/elsewhere", "1")
        assert (found[1].text, found[2].text) == ("no", "gone")
