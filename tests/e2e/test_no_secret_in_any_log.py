"""One run of everything that knows a secret, and a search through everything that anybody can read afterwards."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import jwt
import pytest
from bokeh.util.token import generate_jwt_token, generate_session_id
from websockets.exceptions import InvalidStatus

from bokeh_gateway.policy.password import scrypt_hash
from tests.support.bokeh_client import BokehSocket, get, page_token, session_of, websocket_url
from tests.support.ctl import done
from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port
from tests.support.raw import raw_exchange
from tests.support.waiting import wait_until
from tests.support.workers import APPS, RunRecord

SECRET = "session-key-of-the-whole-run-0123456789"
JWT_SECRET = "jwt-key-of-the-whole-run-012345678901234567890"
COOKIE_SECRET = "cookie-key-of-the-whole-run-012345678901234567890"
PASSWORD, WRONG = "correct-horse-battery", "wrong-horse-battery"
COOKIE, CODE = "cookie-that-is-nobodys-business", "oidc-code-that-is-nobodys-business"

CONFIG = f"""
[gateway]
listen = ["127.0.0.1:0"]
[pool.apps]
serve = ["{APPS / "recorder.py"}"]
args = ["--log-level", "trace"]
[sessions]
mode = "signed"
secret_key = "{SECRET}"
[auth]
cookie_secret = "{COOKIE_SECRET}"
[auth.basic]
users = {{ ada = "{scrypt_hash(PASSWORD, b"s" * 16, 10)}" }}
[auth.jwt]
algorithms = ["HS256"]
secret = "{JWT_SECRET}"
argument = "access_token"
cookie = "access"
[log]
access = "access.log"
level = "debug"
[metrics]
listen = ["127.0.0.1:{free_port()}"]
"""


def test_no_secret_is_in_any_log_metric_or_answer_of_the_control_socket(tmp_path: Path) -> None:
    """Access log, the gateway's log with the workers' output in it, metrics, `ctl status`, command lines."""
    record = RunRecord(tmp_path / "runs")
    with GatewayProcess(CONFIG, tmp_path / "gateway", env=record.environment) as gateway:
        secrets = everything(gateway)
        address = gateway.config["metrics"]["listen"][0]
        heard = {
            "metrics": get(f"http://{address}/metrics").text,
            "status": done(gateway.config_path, "status"),
            "status in JSON": done(gateway.config_path, "--json", "status"),
            "command lines": "\n".join(" ".join(process.cmdline()) for process in gateway.processes()),
        }
        access = gateway.config_path.parent / "access.log"
        wait_until(lambda: "code=" in access.read_text(), "the last line of the run")
    heard |= {"log": gateway.stderr, "output": gateway.stdout, "access log": access.read_text()}
    assert "apps/1" in heard["log"], "the worker's output is in it"
    assert "ada" in heard["access log"]
    found = [(what, where) for what, value in secrets.items() for where, text in heard.items() if value in text]
    assert found == []
    assert [where for where, text in heard.items() if "eyJ" in text] == []


def everything(gateway: GatewayProcess) -> dict[str, str]:
    """Sign-ins, pages, WebSockets and refusals, right ones and wrong ones; returns what must be found nowhere."""
    url, ada = gateway.url("/recorder"), ("ada", PASSWORD)
    signed_in = jwt.encode({"sub": "ada", "exp": int(time.time()) + 300}, JWT_SECRET, "HS256")
    forged_in = jwt.encode({"sub": "ada", "exp": int(time.time()) + 300}, "x" * 40, "HS256")
    own = str(generate_session_id(SECRET.encode(), signed=True))
    forged = str(generate_session_id(b"another", signed=True))
    expired = generate_jwt_token(own, SECRET.encode(), True, None, -1000)  # type: ignore[arg-type]
    basic = base64.b64encode(f"ada:{PASSWORD}".encode()).decode()

    page = get(url, auth=ada, headers={"Cookie": f"s={COOKIE}"})
    assert page.status_code == 200
    token = page_token(page.text)
    with BokehSocket(websocket_url(url), token, headers={"Authorization": f"Basic {basic}"}) as socket:
        socket.pull_document()
    assert get(url, auth=("ada", WRONG)).status_code == 401
    assert get(url, headers={"Authorization": f"Bearer {signed_in}"}).status_code == 200
    assert get(url, headers={"Authorization": f"Bearer {forged_in}"}).status_code == 401
    get(f"{url}?access_token={signed_in}", allow_redirects=False)
    get(f"{url}?access_token={forged_in}", headers={"Cookie": f"access={forged_in}"})
    get(f"{url}?bokeh-session-id={own}", auth=ada, headers={"Referer": f"{url}?bokeh-session-id={own}"})
    get(f"{url}?bokeh-session-id={forged}", auth=ada)
    get(url, auth=ada, headers={"Bokeh-Session-Id": forged})
    get(f"{url}?bokeh-token={expired}", auth=ada)
    for offered in (expired, token[:-3] + "AAA"):
        with pytest.raises(InvalidStatus):
            BokehSocket(websocket_url(url), offered, headers={"Authorization": f"Basic {basic}"})
    raw_exchange(gateway.port, f"GET / HTTP/1.1\r\nHost: x\r\nCookie : s={COOKIE}\r\n\r\n".encode())
    raw_exchange(gateway.port, f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {basic}\0\r\n\r\n".encode())
    get(f"{url}?code={CODE}&state={CODE}", auth=ada)
    minted = session_of(token)
    return {
        "token": token.partition(".")[0],
        "session id": minted.partition(".")[0],
        "signature of the session id": minted.partition(".")[2],
        "the parent's session id": own.partition(".")[0],
        "forged session id": forged.partition(".")[0],
        "expired token": expired.partition(".")[0],
        "cookie": COOKIE,
        "password": PASSWORD,
        "wrong password": WRONG,
        "Authorization": basic,
        "JWT": signed_in,
        "signature of the JWT": signed_in.rpartition(".")[2],
        "forged JWT": forged_in.rpartition(".")[2],
        "code": CODE,
        "session key": SECRET,
        "JWT key": JWT_SECRET,
        "cookie key": COOKIE_SECRET,
    }
