"""A page whose token has expired comes back to its session, on real workers; and is refused when that is gone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests
from bokeh.util.token import generate_session_id
from websockets.exceptions import InvalidStatus

from bokeh_gateway.bokeh.token import read_claims
from tests.support.bokeh_client import BokehSocket, PageView, view_page, websocket_url
from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port
from tests.support.steer import connection_to, movers
from tests.support.waiting import wait_until
from tests.support.workers import APPS, RunRecord

SECRET = "s" * 44


def config(mode: str = "unsigned", reconnect: str = '"8 h"', lifetime: str = "60 s", leeway: str = "0 s") -> str:
    return f"""
[gateway]
listen = ["127.0.0.1:0"]
[pool.apps]
serve = ["{APPS / "recorder.py"}"]
unused_session_lifetime = "{lifetime}"
[sessions]
mode = "{mode}"
{"" if mode == "unsigned" else f'secret_key = "{SECRET}"'}
token_expiration = "2 s"
token_leeway = "{leeway}"
reconnect = {reconnect}
[metrics]
listen = ["127.0.0.1:{free_port()}"]
"""


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    return RunRecord(tmp_path / "runs")


def started(tmp_path: Path, record: RunRecord, text: str) -> GatewayProcess:
    return GatewayProcess(text, tmp_path / "gateway", env=record.environment)


def expire(view: PageView) -> None:
    """Waits until the page's token is one that workers refuse."""
    expiry = read_claims(view.socket.token).expiry
    assert expiry is not None
    wait_until(lambda: time.time() >= expiry + 0.2, "the token's expiry", every=0.1)


def cut(view: PageView) -> None:
    """The connection goes away as a failing network lets it: no close frame."""
    view.socket.connection.socket.shutdown(2)


def refusal(url: str, token: str) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as refused:
        BokehSocket(url, token).close()
    response = refused.value.response
    return response.status_code, (response.body or b"").decode()


def metrics(gateway: GatewayProcess) -> str:
    address = gateway.config["metrics"]["listen"][0]
    with requests.Session() as session:
        session.trust_env = False
        return session.get(f"http://{address}/metrics", timeout=10).text


def open_page(gateway: GatewayProcess, mode: str) -> PageView:
    url = gateway.url("/recorder")
    if mode == "external-signed":
        url += f"?bokeh-session-id={generate_session_id(SECRET.encode(), signed=True)}"
    view = view_page(url)
    slider = view.socket.find("Slider")
    view.socket.set_property(slider["id"], "value", 7)
    return view


@pytest.mark.parametrize("mode", ["unsigned", "signed", "external-signed"])
def test_a_page_with_an_expired_token_comes_back_with_its_state(mode: str, tmp_path: Path, record: RunRecord) -> None:
    """The token has expired, the connection is cut, the same token opens the same session again, twice."""
    with started(tmp_path, record, config(mode)) as gateway:
        view = open_page(gateway, mode)
        where, token = websocket_url(gateway.url("/recorder")), view.socket.token
        expire(view)
        cut(view)
        for _ in range(2):
            with BokehSocket(where, token) as again:
                assert again.find("Slider")["attributes"]["value"] == 7
        assert len(record.runs()) == 1
        assert 'tokens_renewed_total{worker="apps/1"} 2' in metrics(gateway)
        assert token not in gateway.stderr + gateway.stdout
        assert view.session_id not in gateway.stderr + gateway.stdout


def test_a_browser_that_is_back_before_its_old_connection_ended(tmp_path: Path, record: RunRecord) -> None:
    """After a change of network the gateway still holds the old one open."""
    with started(tmp_path, record, config()) as gateway, open_page(gateway, "unsigned") as view:
        expire(view)
        with BokehSocket(websocket_url(gateway.url("/recorder")), view.socket.token) as again:
            assert again.find("Slider")["attributes"]["value"] == 7
        assert len(record.runs()) == 1


def gone_by_time(gateway: GatewayProcess, view: PageView) -> None:
    cut(view)
    wait_until(lambda: time.time() >= (read_claims(view.socket.token).expiry or 0) + 3, "the session's end", every=0.1)


def gone_by_restart(gateway: GatewayProcess, view: PageView) -> None:
    """The worker dies while the browser is away, and is run again."""
    cut(view)
    restarts = 'worker_restarts_total{reason="SIGKILL",worker="apps/1"} 1'
    (worker,) = [p for p in gateway.processes()[0].children(recursive=True) if "serve" in p.cmdline()]
    os.kill(worker.pid, signal.SIGKILL)
    wait_until(lambda: "worker_restarts_total{" in metrics(gateway), f"the metric {restarts}", every=0.1)
    wait_until(lambda: 'worker_up{worker="apps/1"} 1' in metrics(gateway), "the worker to be up again", every=0.1)


@pytest.mark.parametrize(
    ("lifetime", "end"),
    [pytest.param("1 s", gone_by_time, id="time"), pytest.param("60 s", gone_by_restart, id="restart")],
)
def test_a_session_that_is_gone_is_not_replaced_by_an_empty_one(
    lifetime: str, end: object, tmp_path: Path, record: RunRecord
) -> None:
    """401 with the reason, in the body, the log and the metrics; the app does not run again."""
    assert callable(end)
    with started(tmp_path, record, config(lifetime=lifetime)) as gateway:
        view = open_page(gateway, "unsigned")
        expire(view)
        end(gateway, view)
        status, body = refusal(websocket_url(gateway.url("/recorder")), view.socket.token)
        assert status == 401
        assert "no longer on a worker" in body
        assert "[pool.apps] unused_session_lifetime" in body
        assert len(record.runs()) == 1
        assert 'refusals_total{pool="/",reason="session-gone"} 1' in metrics(gateway)
        wait_until(lambda: "session-gone" in gateway.stderr, "the refusal in the log")
        assert view.session_id not in gateway.stderr + body


@pytest.mark.parametrize(
    ("reconnect", "reason"),
    [
        pytest.param("false", "token-expired", id="off"),
        pytest.param('"1 s"', "reconnect-too-late", id="window-over"),
    ],
)
def test_without_reconnect_an_expired_token_is_refused(
    reconnect: str, reason: str, tmp_path: Path, record: RunRecord
) -> None:
    """The session lives, and the setting says no."""
    with started(tmp_path, record, config(reconnect=reconnect)) as gateway, open_page(gateway, "unsigned") as view:
        expire(view)
        status, _ = refusal(websocket_url(gateway.url("/recorder")), view.socket.token)
        assert status == 401
        wait_until(lambda: reason in gateway.stderr, f"{reason} in the log")


@pytest.fixture
def signed(tmp_path: Path, record: RunRecord) -> Iterator[tuple[GatewayProcess, PageView]]:
    with started(tmp_path, record, config("signed")) as gateway, open_page(gateway, "signed") as view:
        expire(view)
        yield gateway, view


def test_a_forged_token_is_never_made_again(signed: tuple[GatewayProcess, PageView]) -> None:
    """Signature off by one letter, or absent: 403, whatever session is named and however alive that is."""
    gateway, view = signed
    token = view.socket.token
    flipped = token[:-2] + ("A" if token[-2] != "A" else "B") + token[-1]
    where = websocket_url(gateway.url("/recorder"))
    for forged in (flipped, token.partition(".")[0], token.partition(".")[0] + "."):
        assert refusal(where, forged)[0] == 403
    assert "tokens_renewed_total{" not in metrics(gateway)


def test_a_browser_comes_back_to_another_process(tmp_path: Path, record: RunRecord) -> None:
    """Both tell each other which sessions live: while the old connection is open, after it ended, and after the process
    that it went through was killed."""
    text = config().replace("[pool.apps]", "processes = 2\n[pool.apps]", 1)
    # Long enough for the page to be opened a second time on a busy machine, before it expires.
    text = text.replace('token_expiration = "2 s"', 'token_expiration = "8 s"')
    with started(tmp_path, record, text) as gateway:
        first, second = movers(gateway)
        url = gateway.url("/recorder")
        where = websocket_url(url)
        with view_page(url) as page:
            token = page.socket.token
            page.socket.set_property(page.socket.find("Slider")["id"], "value", 7)
        with BokehSocket(where, token, sock=connection_to(gateway, first)):
            expire(page)
            # Known to the second one as soon as the first one has looked, once a second, that the session lives.
            back = wait_until(lambda: came_back(gateway, where, token, second), "the session is known to live")
            assert back == 7
        assert came_back(gateway, where, token, second) == 7
        last = BokehSocket(where, token, sock=connection_to(gateway, second))
        os.kill(second.pid, signal.SIGKILL)
        last.close()
        assert came_back(gateway, where, token, first) == 7
        wait_until(lambda: len(movers(gateway)) == 2 and second not in movers(gateway), "the process is replaced")
        for process in movers(gateway):
            assert came_back(gateway, where, token, process) == 7
        assert len(record.runs()) == 1


def came_back(gateway: GatewayProcess, where: str, token: str, process: psutil.Process) -> int | None:
    """What the slider of the session says through that process; None where it is refused."""
    try:
        with BokehSocket(where, token, sock=connection_to(gateway, process)) as again:
            return int(again.find("Slider")["attributes"]["value"])
    except InvalidStatus:
        return None
