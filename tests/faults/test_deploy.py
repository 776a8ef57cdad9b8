"""A deploy under load: new sessions get the new code, open ones go on, and what does not get ready is not noticed."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from websockets.exceptions import ConnectionClosed

from tests.faults.test_reload import Reloaded
from tests.support.bokeh_client import BokehSocket, PageView, view_page, websocket_url
from tests.support.ctl import asked, ctl, done, refused, workers
from tests.support.ports import free_port
from tests.support.waiting import GENEROUS, wait_until

APP = """
from bokeh.io import curdoc
from bokeh.models import Div
curdoc().add_root(Div(name="words", text="version {version}"))
curdoc().title = "version {version}"
"""


def config(app: Path, count: int = 2, processes: int = 2) -> str:
    return f"""
[gateway]
listen = ["127.0.0.1:{free_port()}"]
processes = {processes}
[pool.apps]
serve = ["{app}"]
workers = {count}
[pool.apps.health]
max_lag = "60 s"      # a busy machine is no reason to avoid a worker here
timeout = "90 s"
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "app" / "dash.py"
    path.parent.mkdir()
    path.write_text(APP.format(version=1))
    return path


def version(view: PageView | BokehSocket) -> str:
    """The code that made the document of an open session."""
    socket = view.socket if isinstance(view, PageView) else view
    return str(socket.pull_document()["title"])


class Visitors:
    """One page view after the other, all the time, in a thread of their own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.seen: list[str] = []
        self.failed: list[str] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._visit, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: self.seen or self.failed, "the first page view")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join(2 * GENEROUS)

    def _visit(self) -> None:
        while not self._ending.is_set():
            try:
                with view_page(self.url) as view:
                    self.seen.append(version(view))
            except (AssertionError, OSError, ConnectionClosed, TimeoutError) as error:
                self.failed.append(repr(error))
            time.sleep(0.05)


class Talking:
    """An open page that keeps exchanging messages."""

    def __init__(self, url: str) -> None:
        self.view = view_page(url)
        self.exchanged = 0
        self.failed: list[str] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._talk, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ending.set()
        self._thread.join(GENEROUS)
        self.view.close()

    def _talk(self) -> None:
        while not self._ending.is_set():
            try:
                assert version(self.view) == "version 1"
            except (AssertionError, OSError, ConnectionClosed, TimeoutError) as error:
                self.failed.append(repr(error))
                return
            self.exchanged += 1
            time.sleep(0.05)


def generations(file: Path) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for worker in workers(file).values():
        found.setdefault(worker["generation"], []).append(worker)
    return found


def test_wf08_a_deploy_under_load(app, tmp_path):
    """Page views go on all the time and none fails; what is open stays open, on the old code, as long as it likes."""
    with Reloaded(config(app), tmp_path / "gateway") as gateway:
        file, url = gateway.config_path, gateway.url("/dash")
        talking = [Talking(url) for _ in range(3)]
        with Visitors(url) as visitors:
            app.write_text(APP.format(version=2))
            said = done(file, "deploy", "apps")
            assert "generation 2 takes new sessions, 2 workers" in said
            wait_until(lambda: visitors.seen[-1] == "version 2", "new sessions get the new code")
            at = [one.exchanged for one in talking]
            wait_until(lambda: all(one.exchanged > then for one, then in zip(talking, at, strict=True)), "talk goes on")
            seen = len(visitors.seen)
            wait_until(lambda: len(visitors.seen) > seen + 5, "page views go on")
        assert visitors.failed == []
        assert [one.failed for one in talking] == [[], [], []]
        switched = visitors.seen.index("version 2")
        assert set(visitors.seen[:switched]) == {"version 1"}
        assert set(visitors.seen[switched:]) == {"version 2"}, "the old code gets no new session"
        print(f"{len(visitors.seen)} page views through a deploy, 0 failed")
        assert {worker["state"] for worker in generations(file)[1]} == {"leaving"}
        old = {worker["pid"] for worker in generations(file)[1]}
        assert old < set(gateway.workers())
        for one in talking:
            one.close()
        wait_until(lambda: old.isdisjoint(gateway.workers()), "the old generation ends with its sessions")
        wait_until(lambda: set(generations(file)) == {2}, "its workers are off the list")
        # The names, and so the keys in session ids, are new ones.
        assert set(workers(file)) == {"apps/1#2", "apps/2#2"}


def test_what_does_not_get_ready_is_rolled_back_and_nobody_notices(app, tmp_path):
    with Reloaded(config(app), tmp_path / "gateway") as gateway:
        file, url = gateway.config_path, gateway.url("/dash")
        before = gateway.workers()
        talking = Talking(url)
        with Visitors(url) as visitors:
            app.write_text("this is no Python")
            why = refused(file, "deploy", "apps")
            assert "nothing was changed" in why
            assert "its last lines:" in why
            assert "SyntaxError" in why or "invalid syntax" in why
            seen = len(visitors.seen)
            wait_until(lambda: len(visitors.seen) > seen + 3, "page views go on")
        assert visitors.failed == []
        assert set(visitors.seen) == {"version 1"}
        assert talking.failed == []
        assert gateway.workers() == before
        assert set(generations(file)) == {1}
        assert "the earlier generation serves on" in gateway.stderr
        app.write_text(APP.format(version=3))
        done(file, "deploy", "apps")
        with view_page(url) as view:
            assert version(view) == "version 3"
        talking.close()
        assert talking.failed == []


def test_with_a_time_to_drain_open_pages_go_on_with_the_new_code(app, tmp_path):
    with Reloaded(config(app, count=1), tmp_path / "gateway") as gateway:
        file, url = gateway.config_path, gateway.url("/dash")
        with view_page(url) as view:
            app.write_text(APP.format(version=2))
            done(file, "deploy", "apps", "--drain", "1 s")
            wait_until(lambda: set(generations(file)) == {2}, "the old generation ends")
            with pytest.raises(ConnectionClosed):
                version(view)
            assert view.socket.connection.protocol.close_code == 1012
            # As BokehJS connects again: the same token, which names a worker that is gone.
            with BokehSocket(websocket_url(url), view.socket.token) as again:
                assert version(again) == "version 2"


def test_one_deploy_at_a_time_and_an_upgrade_keeps_the_old_generation(app, tmp_path):
    with Reloaded(config(app, count=1), tmp_path / "gateway") as gateway:
        file = gateway.config_path
        deploying = threading.Thread(target=asked, args=(file, "deploy", "apps"))
        deploying.start()
        wait_until(lambda: set(generations(file)) == {1, 2}, "the new generation starts")
        assert "a deploy of pool apps is under way" in asked(file, "deploy", "apps")["error"]
        deploying.join()
        with view_page(gateway.url("/dash")):
            done(file, "deploy", "apps")
            done(file, "upgrade")
            assert set(generations(file)) == {2, 3}
            assert {worker["state"] for worker in generations(file)[2]} == {"leaving"}
        wait_until(lambda: set(generations(file)) == {3}, "the old one ends with its session, after an upgrade too")


def test_what_cannot_be_deployed_is_refused(app, tmp_path):
    more = f'[pool.other]\nservers = ["127.0.0.1:{free_port()}"]\n[[route]]\npool = "apps"\n'
    with Reloaded(config(app, count=1) + more, tmp_path / "gateway") as gateway:
        assert "there are: apps, other" in refused(gateway.config_path, "deploy", "nobody")
        assert "no `serve`" in refused(gateway.config_path, "deploy", "other")
        assert ctl(gateway.config_path, "deploy", "apps", "--drain", "soon").returncode == 2
