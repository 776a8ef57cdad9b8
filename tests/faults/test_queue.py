"""`max_sessions` is exact, and what is beyond it waits; with real workers."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bokeh.util.token import generate_session_id

from tests.support.bokeh_client import PageView, get, http_session, view_page
from tests.support.gateway import GatewayProcess
from tests.support.waiting import GENEROUS, wait_until
from tests.support.workers import bokeh_workers, servers

HTML = {"Accept": "text/html"}


@pytest.mark.parametrize("processes", [1, 2])
def test_beyond_max_sessions_browsers_wait_in_order_and_others_are_sent_away(processes: int, tmp_path: Path) -> None:
    """One queue, however many processes there are."""
    with bokeh_workers(2, tmp_path) as workers:
        text = f"""
[gateway]
listen = ["127.0.0.1:0"]
processes = {processes}
[pool.apps]
servers = {servers(workers)}
max_sessions = 2
queue = 2
"""
        with GatewayProcess(text, tmp_path / "gw") as gateway:
            url = gateway.url("/recorder")
            with ThreadPoolExecutor(4) as pool:
                views: list[PageView] = list(pool.map(lambda _: view_page(url), range(4)))
            other = get(url)
            assert (other.status_code, other.headers["Retry-After"]) == (503, "5")
            assert "max_sessions = 2" in other.text
            with http_session() as first, http_session() as second, http_session() as third:
                waiting = [browser.get(url, headers=HTML, timeout=GENEROUS) for browser in (first, second, third)]
                assert [page.status_code for page in waiting] == [503] * 3
                assert [("place in the queue: " + n) in page.text for n, page in zip("12", waiting, strict=False)]
                assert waiting[0].headers["Refresh"] == "5"
                assert "others are waiting already" in waiting[2].text
                views.pop().close()

                def served() -> bool:
                    assert second.get(url, headers=HTML, timeout=GENEROUS).status_code == 503
                    return first.get(url, headers=HTML, timeout=GENEROUS).status_code == 200

                wait_until(served, "the first in the queue is served first")
            for view in views:
                view.close()


@pytest.mark.parametrize("external", [False, True], ids=["minted", "external"])
def test_there_are_never_more_and_a_place_in_the_queue_outlives_a_reload(external: bool, tmp_path: Path) -> None:
    """Twelve ask at once, of two processes, for four sessions; also with ids that another program made."""
    with bokeh_workers(2, tmp_path) as workers:
        text = f"""
[gateway]
listen = ["127.0.0.1:0"]
processes = 2
[pool.apps]
servers = {servers(workers)}
max_sessions = 2
"""
        with GatewayProcess(text, tmp_path / "gw") as gateway:
            url = gateway.url("/recorder")

            def ask(_: int) -> int:
                headers = {"Bokeh-Session-Id": generate_session_id(signed=False)} if external else {}
                return get(url, headers=headers).status_code

            with ThreadPoolExecutor(12) as pool:
                statuses = sorted(pool.map(ask, range(12)))
            assert statuses == [200] * 4 + [503] * 8
            first, second = get(url, headers=HTML), get(url, headers=HTML)
            gateway.signal(signal.SIGHUP)
            gateway.wait_for_output("reload: in force")
            for _ in range(6):  # on connections that both processes get
                assert "place in the queue: 1" in get(url, headers=HTML, cookies=first.cookies).text
                assert "place in the queue: 2" in get(url, headers=HTML, cookies=second.cookies).text

            # The four are not connected to, and given up after 15 s.
            def served(cookies: object) -> bool:
                return get(url, headers=HTML, cookies=cookies).status_code == 200

            wait_until(lambda: served(first.cookies), "a place is free, and it is the first one's", every=1.0)
