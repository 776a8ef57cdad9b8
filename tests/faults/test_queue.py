"""`max_sessions` is exact, and what is beyond it waits; with real workers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.bokeh_client import PageView, get, http_session, view_page
from tests.support.gateway import GatewayProcess
from tests.support.waiting import GENEROUS, wait_until
from tests.support.workers import bokeh_workers, servers

HTML = {"Accept": "text/html"}


def test_beyond_max_sessions_browsers_wait_in_order_and_others_are_sent_away(tmp_path: Path) -> None:
    with bokeh_workers(2, tmp_path) as workers:
        text = f"""
[gateway]
listen = ["127.0.0.1:0"]
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
