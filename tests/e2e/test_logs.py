"""The access log says how WebSockets end, and holds no token, id, cookie or secret."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest
from bokeh.util.token import generate_jwt_token, generate_session_id
from websockets.exceptions import InvalidStatus

from tests.support.bokeh_client import BokehSocket, get, view_page, websocket_url
from tests.support.gateway import GatewayProcess
from tests.support.raw import raw_exchange
from tests.support.waiting import wait_until
from tests.support.workers import BokehWorker, RunRecord, bokeh_workers, servers

SECRET = "logs-secret-key-0123456789"
COOKIE = "cookie-value-that-is-secret"
BEARER = "bearer-value-that-is-secret"


@pytest.mark.parametrize("form", ["combined", "json"])
def test_tk16_gw13_au04_no_log_has_what_lets_anyone_in(form: str, tmp_path: Path) -> None:
    """After pages, WebSockets, refusals, bad heads and errors, at the most talkative level."""
    record = RunRecord(tmp_path / "runs")
    env = {"BOKEH_SECRET_KEY": SECRET, "BOKEH_SIGN_SESSIONS": "yes", **record.environment}
    with bokeh_workers(1, tmp_path, env=env, arguments=["--session-ids", "signed"]) as workers:
        text = (
            f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nservers = {servers(workers)}\n'
            f'[sessions]\nmode = "signed"\nsecret_key = "{SECRET}"\n[log]\nformat = "{form}"\nlevel = "debug"\n'
            '[metrics]\nlisten = ["127.0.0.1:0"]\n'
        )
        with GatewayProcess(text, tmp_path) as gateway:
            secrets = _mixed_run(gateway)
            metrics = get(f"http://{gateway.config['metrics']['listen'][0]}/metrics").text
            wait_until(lambda: len(gateway.access_log()) >= 9, "the lines of the run")
        said = gateway.stdout + gateway.stderr + metrics
        found = [name for name, value in secrets.items() if value in said]
        assert not found
        assert "eyJ" not in said
        assert "\x1b" not in said
        for line in gateway.stdout.splitlines():
            assert json.loads(line) if form == "json" else re.match(r"^\S+ \S+ \S+ \[", line), line


def _mixed_run(gateway: GatewayProcess) -> dict[str, str]:
    """Does a bit of everything; returns what must be found nowhere."""
    url = gateway.url("/recorder")
    sign = SECRET.encode()
    with view_page(url, headers={"Cookie": f"s={COOKIE}", "Authorization": f"Bearer {BEARER}"}) as view:
        token, session_id = view.socket.token, view.session_id
    own = generate_session_id(secret_key=sign, signed=True)
    forged = generate_session_id(secret_key=b"another", signed=True)
    expired = generate_jwt_token(own, secret_key=sign, signed=True, expiration=-1000)
    get(f"{url}?bokeh-session-id={own}")
    get(f"{url}?bokeh-session-id={forged}")
    get(f"{url}?bokeh-token={expired}&x=1", headers={"Referer": f"{url}?bokeh-session-id={own}"})
    get(url, headers={"Bokeh-Session-Id": forged})
    with pytest.raises(InvalidStatus):
        BokehSocket(websocket_url(url), expired)
    with pytest.raises(InvalidStatus):
        BokehSocket(websocket_url(url), token, origin="http://evil.example")
    bad = f"GET /a\x1b[31mb?bokeh-token={token} HTTP/1.1\r\nHost: localhost\r\nCookie: s={COOKIE}\r\n\r\n"
    raw_exchange(gateway.port, bad.encode())
    raw_exchange(gateway.port, f"GET / HTTP/1.1\r\nHost: localhost\r\nCookie : s={COOKIE}\r\n\r\n".encode())
    return {
        "token": token,
        "payload of the token": token.partition(".")[0],
        "session id": session_id,
        "base of the session id": session_id.partition(".")[0],
        "external id": own.partition(".")[0],
        "forged id": forged.partition(".")[0],
        "expired token": expired.partition(".")[0],
        "cookie": COOKIE,
        "authorization": BEARER,
        "secret": SECRET,
        "secret, coded": base64.b64encode(sign).decode(),
    }


def test_a_websocket_has_a_line_at_open_and_one_at_close(three_workers: list[BokehWorker], tmp_path: Path) -> None:
    text = (
        f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nservers = {servers(three_workers)}\n'
        '[log]\nformat = "json"\n'
    )
    with GatewayProcess(text, tmp_path) as gateway:
        with view_page(gateway.url("/recorder")) as view:
            view.socket.pull_document()
        still_open = view_page(gateway.url("/recorder"))
        wait_until(lambda: gateway.stdout.count("/recorder/ws") >= 3, "open, close, open")
    lines = [json.loads(line) for line in gateway.stdout.splitlines() if "/recorder/ws" in line]
    print(*lines, sep="\n")
    assert len(lines) == 4
    closes = [line for line in lines if "close_code" in line]
    assert [(line["close_code"], line["closed_by"]) for line in closes] == [(1000, "browser"), (1001, "gateway")]
    still_open.close()
