"""BokehJS comes back by itself to its session after the network failed, also when its token has expired meanwhile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import TimeoutError as NotInTime

from bokeh_gateway.bokeh.token import read_claims
from tests.support.bokeh_client import BokehSocket, get, page_token, session_of, websocket_url
from tests.support.bokeh_page import MODEL, SHOWN, browser_page, factor, moves_the_plot
from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port
from tests.support.relay import Relay
from tests.support.waiting import wait_until
from tests.support.workers import APPS, RunRecord

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


def config(mode: str, lifetime: str = "60 s") -> str:
    return f"""
[gateway]
listen = ["127.0.0.1:0"]
[pool.apps]
serve = ["{APPS / "recorder.py"}"]
unused_session_lifetime = "{lifetime}"
[sessions]
mode = "{mode}"
{"" if mode == "unsigned" else f'secret_key = "{"s" * 44}"'}
token_expiration = "8 s"
token_leeway = "0 s"
reconnect = "8 hours"
[metrics]
listen = ["127.0.0.1:{free_port()}"]
"""


def metrics(gateway: GatewayProcess) -> str:
    return get(f"http://{gateway.config['metrics']['listen'][0]}/metrics").text


class Tab:
    """A page that was opened through the relay, and its token."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.token = ""
        wait_until(lambda: self._opened(url), "the page with its WebSocket", 120)

    def _opened(self, url: str) -> bool:
        """On a busy machine a token may have expired before its page's first WebSocket: then it is loaded again."""
        answer = self.page.goto(url)
        assert answer is not None
        self.token = page_token(answer.text())
        with contextlib.suppress(NotInTime):
            self.page.wait_for_function(SHOWN, timeout=20_000)
            return True
        return False

    def runs(self, record: RunRecord) -> int:
        """How often the app ran for this session."""
        return sum(run.session_id == session_of(self.token) for run in record.runs())

    def wait_expired(self) -> None:
        expiry = read_claims(self.token).expiry
        assert expiry is not None
        wait_until(lambda: self.page.evaluate("1") and time.time() >= expiry + 0.2, "the token's expiry", every=0.2)

    def wait_back(self, cut: Callable[[], None]) -> None:
        """Until the page has the worker's document in the place of the one that it had before the cut."""
        self.page.evaluate(f"() => {{ window.before = ({MODEL})('factor') }}")
        cut()
        self.page.wait_for_function(f"() => ({MODEL})('factor') && ({MODEL})('factor') !== window.before")


@contextmanager
def opened(browser: Browser, text: str, folder: Path) -> Iterator[tuple[GatewayProcess, Relay, Tab, RunRecord]]:
    record = RunRecord(folder / "runs")
    with (
        GatewayProcess(text, folder / "gateway", env=record.environment) as gateway,
        Relay(gateway.port) as relay,
        browser_page(browser) as page,
    ):
        yield gateway, relay, Tab(page, f"http://127.0.0.1:{relay.port}/recorder"), record


def cut_for_a_while(relay: Relay, page: Page, tries: int = 1) -> None:
    """Until the browser has tried in vain: at once, after 2 s, after 4 s more, ..."""
    relay.refuse = True
    relay.cut()
    wait_until(lambda: page.evaluate("1") and relay.refused >= tries, "tries in vain", every=0.2)
    relay.refuse = False


@pytest.mark.parametrize("mode", ["unsigned", "signed"])
def test_a_page_comes_back_to_its_session(chromium: Browser, tmp_path: Path, mode: str) -> None:
    """Twice, the second time not at its first try; the worker has the slider's value, the app does not run again."""
    with opened(chromium, config(mode), tmp_path) as (gateway, relay, tab, record):
        moves_the_plot(tab.page, 3)
        tab.wait_expired()
        for cut in (relay.cut, lambda: cut_for_a_while(relay, tab.page)):
            value = factor(tab.page)
            tab.wait_back(cut)
            assert factor(tab.page) == value
            moves_the_plot(tab.page, 1)
        with BokehSocket(websocket_url(gateway.url("/recorder")), tab.token) as other:
            assert other.find("Slider")["attributes"]["value"] == factor(tab.page) >= 6
        assert tab.runs(record) == 1
        assert 'tokens_renewed_total{worker="apps/1"} 3' in metrics(gateway)


def test_a_page_whose_session_is_gone_is_told_so(chromium: Browser, tmp_path: Path) -> None:
    """401 for its tries, with the reason in log and metrics; no empty session is put in the place of the user's."""
    with opened(chromium, config("unsigned", "2 s"), tmp_path) as (gateway, relay, tab, record):
        moves_the_plot(tab.page, 3)
        tab.wait_expired()
        runs = tab.runs(record)
        cut_for_a_while(relay, tab.page, tries=2)
        refused = 'refusals_total{pool="/",reason="session-gone"}'
        wait_until(lambda: tab.page.evaluate("1") and refused in metrics(gateway), refused, every=0.5)
        wait_until(lambda: "session-gone" in gateway.stderr, "the refusal in the log")
        wait_until(lambda: any(" 401 " in line for line in gateway.access_log()), "the refusal in the access log")
        assert tab.runs(record) == runs
