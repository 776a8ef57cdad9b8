"""Worn-out workers are replaced, and their number follows the load, while page views go on: no browser notices.

The figures are printed.  Page views for minutes, each worker replaced and one killed:
`VIEWS_A_MINUTE=200 MINUTES=5 python -m pytest tests/faults/test_recycling.py -s -k one_is_killed`.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path

import psutil

from tests.faults.test_reload import Reloaded
from tests.faults.test_upgrade import upgrade
from tests.support.bokeh_client import view_page
from tests.support.ctl import workers
from tests.support.page_load import PageLoad
from tests.support.ports import free_port
from tests.support.scrape import total
from tests.support.waiting import GENEROUS, wait_until
from tests.support.workers import APPS

A_MINUTE = float(os.environ.get("VIEWS_A_MINUTE", "150"))
MINUTES = float(os.environ.get("MINUTES", "0.25"))


def config(pool: str, app: str = "recorder", processes: int = 1, more: str = "") -> str:
    return f"""
[gateway]
listen = ["127.0.0.1:{free_port()}"]
processes = {processes}
[pool.apps]
serve = ["{APPS / app}.py"]
unused_session_lifetime = "1 s"
hold = "60 s"
env = {{ TEST_RUN_RECORD = "/dev/null" }}
{pool}
[pool.apps.health]
max_lag = "60 s"      # a busy machine is no reason to avoid a worker here
timeout = "90 s"
[metrics]
listen = ["127.0.0.1:{free_port()}"]
[timeouts]
drain = "1 s"
{more}
"""


def serving(gateway: Reloaded) -> set[str]:
    """Names of the workers that may get new sessions."""
    found = workers(gateway.config_path).items()
    return {name for name, worker in found if name.startswith("apps/") and worker["state"] == "up"}


def present(gateway: Reloaded) -> set[str]:
    return {name for name in workers(gateway.config_path) if name.startswith("apps/")}


def test_wl01_a_leaking_worker_is_replaced_and_its_websockets_end_by_themselves(tmp_path: Path) -> None:
    with Reloaded(config('workers = 2\nmax_rss = "300 MB"', "leaking"), tmp_path) as gateway, ExitStack() as stack:
        url = gateway.url("/leaking")
        views = [stack.enter_context(view_page(url)) for _ in range(2)]
        assert all(worker["tunnels"] == 1 for worker in workers(gateway.config_path).values()), "one at each"
        load = stack.enter_context(PageLoad(url, threads=2, a_minute=180))
        wait_until(lambda: {"apps/1", "apps/2"}.isdisjoint(serving(gateway)), "both are replaced", 2 * GENEROUS)
        assert {"apps/1", "apps/2"} <= present(gateway), "they keep their WebSockets"
        for view in views:
            assert view.socket.pull_document()["title"] == "Leaking"
            view.close()
        wait_until(lambda: {"apps/1", "apps/2"}.isdisjoint(present(gateway)), "they end with their sessions")
        stack.close()
        print(f"\na leaking app, max_rss = 300 MB: {len(load.done)} page views, {len(load.failed)} failed")
        assert (load.failed, len(load.done) > 10) == ([], True)
        gateway.wait_for_output("MB of memory, max_rss = 300 MB ([pool.apps])")
        assert total(gateway.metrics_port, "workers_replaced_total") >= 2


def test_each_worker_is_replaced_and_one_is_killed_while_page_views_go_on(tmp_path: Path) -> None:
    views = int(A_MINUTE * MINUTES)
    text = config(f"workers = 3\nmax_served = {max(views // 5, 5)}", processes=2)
    with Reloaded(text, tmp_path) as gateway:
        first = gateway.workers()
        with PageLoad(gateway.url("/recorder"), threads=4, a_minute=A_MINUTE) as load:
            wait_until(lambda: len(load.done) >= views // 3, "page views", 60 * MINUTES + GENEROUS)
            victim = min(gateway.workers())
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: len(load.done) >= views, "page views", 60 * MINUTES + 2 * GENEROUS)
            wait_until(lambda: first.keys().isdisjoint(gateway.workers()), "each is another one", 2 * GENEROUS)
        replaced = total(gateway.metrics_port, "workers_replaced_total")
        print(
            f"\n{len(load.done)} page views at {A_MINUTE:g} a minute, {replaced:g} workers replaced, 1 killed: "
            f"{len(load.failed)} failed"
        )
        assert load.failed == []
        assert replaced >= 2


def test_a_successor_that_dies_or_hangs_leaves_the_old_worker_in_its_place(tmp_path: Path) -> None:
    mood = tmp_path / "mood"
    text = config(f'command = ["python", "{APPS / "moody.py"}", "{mood}"]\nmax_served = 2\nstart_timeout = "90 s"')
    with Reloaded(text, tmp_path) as gateway:
        url = gateway.url("/recorder")
        old = gateway.workers()
        mood.write_text("dies")
        for _ in range(2):
            view_page(url).close()
        gateway.wait_for_output("apps/1#2 did not get ready; apps/1 serves on")
        gateway.reload(text.replace('start_timeout = "90 s"', 'start_timeout = "1 s"'))
        mood.write_text("hangs")
        gateway.wait_for_output("apps/1#3: did not answer within 1 s")
        view_page(url).close()
        assert old.keys() <= gateway.workers().keys(), "neither was it touched by the reload"
        mood.unlink()
        gateway.reload(text)
        with view_page(url) as view:
            wait_until(lambda: old.keys().isdisjoint(gateway.workers()) or serving(gateway) != {"apps/1"}, "the next")
            view.socket.pull_document()
        wait_until(lambda: old.keys().isdisjoint(gateway.workers()), "a successor got ready in the end", 2 * GENEROUS)
        view_page(url).close()


def test_workers_that_were_replaced_keep_their_websockets_through_an_upgrade(tmp_path: Path) -> None:
    with Reloaded(config("max_served = 3", processes=2), tmp_path) as gateway:
        url = gateway.url("/recorder")
        view = view_page(url)
        for _ in range(2):
            view_page(url).close()
        wait_until(lambda: serving(gateway) == {"apps/1#2"}, "it is replaced", 2 * GENEROUS)
        view_page(url).close()
        upgrade(gateway)
        assert workers(gateway.config_path)["apps/1"]["state"] == "leaving"
        assert view.socket.pull_document()["title"] == "Recorder"
        for _ in range(2):
            view_page(url).close()
        wait_until(lambda: serving(gateway) == {"apps/1#3"}, "what was served before it counts after it", 2 * GENEROUS)
        assert view.socket.pull_document()["title"] == "Recorder"
        os.kill(workers(gateway.config_path)["apps/1"]["pid"], signal.SIGKILL)
        wait_until(lambda: present(gateway) == {"apps/1#3"}, "one that dies is not started again")
        assert len(gateway.workers()) == 1
        view.socket.connection.close()
        assert view.socket.connection.protocol.close_code == 1012


def test_what_stays_open_at_a_replaced_worker_is_told_to_come_back(tmp_path: Path) -> None:
    text = config("max_served = 1", more='reload_linger = "2 s"')
    with Reloaded(text, tmp_path) as gateway:
        view = view_page(gateway.url("/recorder"))
        wait_until(lambda: present(gateway) and "apps/1" not in present(gateway), "its time is over")
        view.socket.connection.close()
        assert view.socket.connection.protocol.close_code == 1012
        gateway.wait_for_output("[timeouts] reload_linger has passed")


def test_the_number_of_workers_follows_the_load_and_the_file(tmp_path: Path) -> None:
    text = config("min_workers = 1\nmax_workers = 3\nload_factor = 3")
    with Reloaded(text, tmp_path) as gateway, ExitStack() as stack:
        url = gateway.url("/recorder")
        first = gateway.workers()
        assert len(first) == 1
        views = [stack.enter_context(view_page(url)) for _ in range(7)]
        wait_until(lambda: len(serving(gateway)) == 3, "7 sessions need 3 workers", 2 * GENEROUS)
        views += [stack.enter_context(view_page(url)) for _ in range(3)]
        assert len(gateway.workers()) == 3, "and never more than max_workers"
        for view in views:
            assert view.socket.pull_document()
        for view in views[1:]:
            view.close()
        wait_until(lambda: len(serving(gateway)) == 1, "1 session needs one", 3 * GENEROUS)
        assert views[0].socket.pull_document(), "wherever it is, it goes on"
        views[0].close()
        wait_until(lambda: len(gateway.workers()) == 1, "and the others end")
        gateway.reload(text.replace("max_workers = 3", "max_workers = 4"))
        kept = gateway.workers()
        gateway.reload(text.replace("min_workers = 1\nmax_workers = 3\nload_factor = 3", "workers = 2"))
        wait_until(lambda: len(serving(gateway)) == 2, "as many as the file says")
        assert kept.items() <= gateway.workers().items(), "those that were there are not started again"
        assert all(psutil.pid_exists(pid) for pid in kept)
