"""Forged, expired, replayed and monstrous tokens and session ids, against real `bokeh serve` that signs."""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from bokeh.util.token import generate_jwt_token, generate_session_id
from websockets.exceptions import InvalidStatus

from bokeh_gateway.bokeh import session_id as ids
from bokeh_gateway.bokeh import token as tokens
from tests.support.bokeh_client import BokehSocket, get, page_token, view_page, websocket_url
from tests.support.frames import handshake
from tests.support.gateway import GatewayProcess
from tests.support.raw import Answer, RawClient
from tests.support.waiting import wait_until
from tests.support.workers import BokehWorker, RunRecord, bokeh_workers, servers

SECRET, OLD, REVOKED = (f"{name} secret of the workers, long enough" for name in ("present", "previous", "revoked"))
LEEWAY = 5.0
LONG = "x" * 10240

CONFIG = """
[gateway]
listen = ["127.0.0.1:0"]
[pool.apps]
servers = {servers}
[sessions]
mode = "signed"
secret_key = "{key}"
previous_keys = {previous}
token_leeway = "{leeway:.0f} s"
[log]
level = "debug"
"""


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return RunRecord(tmp_path_factory.mktemp("record") / "runs")


@pytest.fixture(scope="module")
def workers(record: RunRecord, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[BokehWorker]]:
    """They know the present key alone."""
    env = {"BOKEH_SECRET_KEY": SECRET, "BOKEH_SIGN_SESSIONS": "yes", **record.environment}
    folder = tmp_path_factory.mktemp("workers")
    with bokeh_workers(1, folder, env=env, arguments=["--session-ids", "signed", "--log-level", "info"]) as started:
        yield started


@pytest.fixture(scope="module")
def gateway(workers: list[BokehWorker], tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    text = CONFIG.format(servers=servers(workers), key=SECRET, previous=json.dumps([OLD]), leeway=LEEWAY)
    with GatewayProcess(text, tmp_path_factory.mktemp("gateway")) as running:
        yield running


def session(key: str = SECRET) -> str:
    return str(generate_session_id(key.encode(), signed=True))


EXTRA = {"headers": {}, "cookies": {}, "arguments": {}}


def token(session_id: str, key: str = SECRET, lifetime: int = 300) -> str:
    return generate_jwt_token(session_id, key.encode(), True, EXTRA, lifetime)  # type: ignore[arg-type]


def opening(gateway: GatewayProcess, offered: str) -> Answer:
    """The answer to a WebSocket with this token, as it is."""
    with RawClient(gateway.port) as client:
        client.send(handshake("/recorder/ws", f"Sec-WebSocket-Protocol: bokeh, {offered}"))
        return client.answer()


def upgrades(workers: list[BokehWorker]) -> int:
    return sum("101 GET" in line for worker in workers for line in (worker.stderr + worker.stdout).splitlines())


def flipped(text: str, at: int) -> str:
    return text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]


def forged() -> list[object]:
    good, another = token(session()), token(session())
    base, _, signature = good.partition(".")
    return [
        pytest.param(flipped(good, 20), "token-signature", id="TK02-payload"),
        pytest.param(flipped(good, len(base) + 5), "token-signature", id="TK02-signature"),
        pytest.param(f"{base}.{another.partition('.')[2]}", "token-signature", id="TK02-signature-of-another"),
        pytest.param(base, "token-signature", id="TK03-no-signature"),
        pytest.param(base + ".", "token-signature", id="TK03-empty-signature"),
        pytest.param(f"{base}..{signature}", "token-signature", id="TK03-two-dots"),
        pytest.param(good + "AA", "token-signature", id="TK03-trailing"),
        pytest.param(good + ".x", "token-signature", id="TK03-third-part"),
        pytest.param(token(session(REVOKED)), "session-id-signature", id="TK04-wrong-signature-inside"),
        pytest.param(token("unsigned"), "session-id-signature", id="TK04-no-signature-inside"),
        pytest.param(token(session(REVOKED), REVOKED), "token-signature", id="TK05-revoked-key"),
        pytest.param(token("a/../b." + ids.signature("a/../b", SECRET.encode())), "session-id-invalid", id="TK14-dots"),
        pytest.param(token("a\r\nb." + ids.signature("a\r\nb", SECRET.encode())), "session-id-invalid", id="TK14-crlf"),
        pytest.param(token("a\0b." + ids.signature("a\0b", SECRET.encode())), "session-id-invalid", id="TK14-nul"),
        pytest.param(token("ä." + ids.signature("ä", SECRET.encode())), "session-id-invalid", id="TK14-unicode"),
        pytest.param(
            token("x" * 10240 + "." + ids.signature("x" * 10240, SECRET.encode())),
            "session-id-invalid",
            id="TK14-10-kb",
        ),
    ]


@pytest.mark.parametrize(("offered", "reason"), forged())
def test_a_forged_token_is_a_403_before_a_worker_is_touched(
    offered: str, reason: str, gateway: GatewayProcess, workers: list[BokehWorker], record: RunRecord
) -> None:
    """As a WebSocket, and as a page by `bokeh-token`; the reason is in the log, the token in none."""
    runs, opened, said = len(record.runs()), upgrades(workers), len(gateway.stderr)
    assert opening(gateway, offered).status == 403
    assert get(gateway.url(f"/recorder?bokeh-token={offered}")).status_code == 403
    wait_until(lambda: gateway.stderr[said:].count(reason) >= 2, f"{reason} in the log")
    assert (len(record.runs()), upgrades(workers)) == (runs, opened)
    assert offered.partition(".")[0] not in gateway.stderr + gateway.stdout


@pytest.mark.parametrize("lifetime", [-1 - int(LEEWAY), -int(LEEWAY), -300], ids=["over", "at-leeway", "long-ago"])
def test_tk01_an_expired_token_is_refused_before_the_upgrade(
    lifetime: int, gateway: GatewayProcess, workers: list[BokehWorker]
) -> None:
    """With a status and words that a client can act on, where Bokeh answers 101 and drops the connection."""
    opened = upgrades(workers)
    refused = opening(gateway, token(session(), lifetime=lifetime))
    assert refused.status == 401
    assert b"reload the page" in refused.body
    assert upgrades(workers) == opened


def test_tk01_within_the_leeway_the_workers_clock_decides(gateway: GatewayProcess) -> None:
    assert opening(gateway, token(session(), lifetime=-1)).status == 101
    with BokehSocket(websocket_url(gateway.url("/recorder")), token(session(), lifetime=5)):
        pass


def test_tk05_what_the_previous_key_signed_opens_at_workers_that_know_the_new_one(
    gateway: GatewayProcess, record: RunRecord
) -> None:
    """A parent application still has it: the WebSocket of `pull_session`, then the page, and that page's WebSocket.

    All three are one session, and each way to name it is the same.
    """
    url = gateway.url("/recorder")
    record.mark()
    given = session(OLD)
    with BokehSocket(websocket_url(url), token(given, OLD)) as pulled:
        pulled.set_property(pulled.find("Slider")["id"], "value", 7)
        pages = [
            get(f"{url}?a=1&bokeh-session-id={given}&b=2"),
            get(url, headers={"Bokeh-Session-Id": given}),
            get(f"{url}?bokeh-token={token(given, OLD)}"),
        ]
        assert [page.status_code for page in pages] == [200, 200, 200]
        for page in pages:
            with BokehSocket(websocket_url(url), page_token(page.text)) as view:
                assert view.find("Slider")["attributes"]["value"] == 7
        with BokehSocket(websocket_url(url), token(given, OLD)) as again:
            assert again.find("Slider")["attributes"]["value"] == 7
    assert len(record.runs()) == 1
    assert given not in gateway.stderr + gateway.stdout


def test_tk05_a_revoked_key_opens_nothing(gateway: GatewayProcess) -> None:
    for key in (REVOKED, "x"):
        given = session(key)
        assert opening(gateway, token(given, key)).status == 403
        assert get(gateway.url(f"/recorder?bokeh-session-id={given}")).status_code == 403


@pytest.mark.parametrize("size", [64 << 10, 1 << 20], ids=["64-KiB", "1-MiB"])
def test_tk09_a_monstrous_token_is_a_431_at_once(size: int, gateway: GatewayProcess) -> None:
    """The status, the size and the setting are told; what fits is judged as any other."""
    began = time.monotonic()
    refused = opening(gateway, "A" * size)
    assert refused.status == 431
    assert b"[limits] header_size" in refused.body
    assert opening(gateway, "A" * 60_000 + ".x").status == 403
    assert time.monotonic() - began < 10


def test_tk11_a_bomb_in_a_token_is_not_inflated(gateway: GatewayProcess) -> None:
    """32 MB of zeros in 43 KB, signed badly, and well but with a forged id inside."""
    bomb = base64.urlsafe_b64encode(zlib.compress(zlib.compress(zlib.compress(bytes(256 << 20), 9), 9), 9)).decode()
    payload = {
        "session_id": session(REVOKED),
        "session_expiry": int(time.time()) + 300,
        "__bk__zlib_": bomb.rstrip("="),
    }
    text = base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("=")
    gateway.forget_peak_memory()
    before = gateway.memory()
    for secret in (REVOKED, SECRET):
        assert opening(gateway, f"{text}.{ids.signature(text, secret.encode())}").status == 403
    assert gateway.peak_memory() - before < 8 << 20


def test_tk13_a_token_may_be_used_again_while_it_lives(gateway: GatewayProcess, record: RunRecord) -> None:
    """It opens the same session each time, and runs the app no more; another address is no other client."""
    record.mark()
    with view_page(gateway.url("/recorder")) as view, ExitStack() as stack:
        where, offered = websocket_url(gateway.url("/recorder")), view.socket.token
        for _ in range(20):
            stack.enter_context(BokehSocket(where, offered))
    assert len(record.runs()) == 1
    renewed = tokens.renew(offered, int(time.time()) - 400, SECRET.encode())
    record.mark()
    for n in range(200):
        assert opening(gateway, tokens.renew(renewed, int(time.time()) - 400 - n, SECRET.encode())).status in {101, 401}
    assert len(record.runs()) == 0


@pytest.mark.parametrize(
    "given",
    [
        pytest.param("x" * 10240, id="10-KB"),
        pytest.param("a%2Fb", id="slash"),
        pytest.param("..%2F..%2Fetc", id="dots"),
        pytest.param("a%0D%0AX-Evil:%201", id="crlf"),
        pytest.param("a%00b", id="nul"),
        pytest.param("%C3%A4", id="unicode"),
        pytest.param("%1b%5B31m", id="escape"),
    ],
)
def test_tk14_an_odd_session_id_is_a_403_and_in_no_log(given: str, gateway: GatewayProcess, record: RunRecord) -> None:
    record.mark()
    said = len(gateway.stderr + gateway.stdout)
    assert get(gateway.url(f"/recorder?bokeh-session-id={given}")).status_code == 403
    wait_until(lambda: "session-id" in gateway.stderr, "the refusal in the log")
    assert given not in (gateway.stderr + gateway.stdout)[said:]
    assert "X-Evil" not in gateway.stderr + gateway.stdout
    assert not record.runs()


def test_tk16_tokens_in_urls_are_in_no_log(gateway: GatewayProcess) -> None:
    """Good ones and bad ones, in the query and in a Referer."""
    good, bad = token(session()), token(session(REVOKED), REVOKED)
    for offered in (good, bad):
        get(gateway.url(f"/recorder?x=1&bokeh-token={offered}"), headers={"Referer": gateway.url(f"/?t={offered}")})
    wait_until(lambda: sum("x=1" in line for line in gateway.access_log()) >= 2, "the access log")
    for offered in (good, bad):
        assert offered.partition(".")[0] not in gateway.stderr + gateway.stdout


def test_a_page_by_a_forged_header_reaches_no_worker(gateway: GatewayProcess, record: RunRecord) -> None:
    record.mark()
    for value in (session(REVOKED), "x", session() + "A", ""):
        assert get(gateway.url("/recorder"), headers={"Bokeh-Session-Id": value}).status_code == 403
    assert not record.runs()


def test_a_refusal_never_hides_as_a_101(gateway: GatewayProcess) -> None:
    with pytest.raises(InvalidStatus) as refused:
        BokehSocket(websocket_url(gateway.url("/recorder")), token(session(REVOKED), REVOKED))
    assert refused.value.response.status_code == 403
