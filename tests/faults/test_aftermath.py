"""After a row of faults, one after another on the same gateway, all is as it was before the first of them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.faults.test_recycling import config, present, serving
from tests.faults.test_reload import Reloaded
from tests.faults.test_upgrade import movers, upgrade
from tests.support.bokeh_client import PageView, view_page
from tests.support.ctl import asked, workers
from tests.support.page_load import PageLoad
from tests.support.scrape import total
from tests.support.talkers import EchoServer, Talkers
from tests.support.waiting import GENEROUS, wait_until

TALKERS = 10
VIEWS = 12
"""Page views after each fault, none of which may fail."""


@pytest.fixture(scope="module")
def echo() -> Iterator[EchoServer]:
    with EchoServer() as server:
        yield server


class Faults:
    """Each waits until the gateway is over it."""

    def __init__(self, gateway: Reloaded) -> None:
        self.gateway = gateway

    def one_worker_is_killed(self) -> None:
        victim = min(self.gateway.workers())
        os.kill(victim, signal.SIGKILL)
        self._whole(lambda: victim not in self.gateway.workers())

    def all_workers_are_killed(self) -> None:
        victims = self.gateway.workers().keys()
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        self._whole(lambda: victims.isdisjoint(self.gateway.workers()))

    def a_gateway_process_is_killed(self) -> None:
        victim = min(movers(self.gateway))
        os.kill(victim, signal.SIGKILL)
        self._whole(lambda: victim not in movers(self.gateway))

    def a_worker_is_stopped(self) -> None:
        victim = min(self.gateway.workers())
        before = self.gateway.stderr.count("its loop is blocked")
        os.kill(victim, signal.SIGSTOP)
        try:
            wait_until(lambda: self.gateway.stderr.count("its loop is blocked") > before, "it is seen")
        finally:
            os.kill(victim, signal.SIGCONT)
        self._whole(lambda: True)

    def files_are_broken_and_reloaded_in_a_storm(self) -> None:
        text = self.gateway.config_path.read_text()
        assert "nothing was changed" in self.gateway.reload(text + "\n[pool]\nnot = toml")
        self.gateway.config_path.write_text(text)
        for _ in range(50):
            self.gateway.signal(signal.SIGHUP)
        self.gateway.reload()
        self._whole(lambda: True)

    def workers_are_replaced(self) -> None:
        text = self.gateway.config_path.read_text()
        before = serving(self.gateway)
        self.gateway.reload(text.replace("workers = 2", 'workers = 2\nmax_age = "1 s"'))
        wait_until(lambda: before.isdisjoint(serving(self.gateway)), "both are replaced", 3 * GENEROUS)
        self.gateway.reload(text)
        self._whole(lambda: before.isdisjoint(present(self.gateway)))

    def a_worker_is_drained_and_taken_back(self) -> None:
        name = min(serving(self.gateway))
        assert asked(self.gateway.config_path, "drain", name)["ok"]
        assert asked(self.gateway.config_path, "undrain", name)["ok"]
        self._whole(lambda: True)

    def the_gateway_is_upgraded(self) -> None:
        upgrade(self.gateway)
        self._whole(lambda: True)

    def _whole(self, over: Callable[[], bool]) -> None:
        """Two workers and two processes, and nothing that is on its way."""

        def whole() -> bool:
            return over() and len(serving(self.gateway)) == len(self.gateway.workers()) == 2

        wait_until(whole, f"it is over\n{self.gateway.report(20)}", 3 * GENEROUS)


def measured(gateway: Reloaded) -> tuple[int, int]:
    """Descriptors and resident bytes of the gateway's own processes."""
    return sum(process.num_fds() for process in gateway.processes()), gateway.memory()


def family(folder: Path) -> set[int]:
    """Process ids of whatever has this gateway's folder in its command line."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if any(str(folder) in word for word in process.cmdline()):
                found.add(process.pid)
    return found


def test_after_all_faults_counts_are_the_truth_and_nothing_is_left(echo: EchoServer, tmp_path: Path) -> None:
    text = config(
        "workers = 2",
        processes=2,
        more=f'[pool.echo]\nkind = "http"\nservers = ["127.0.0.1:{echo.port}"]\n'
        '[[route]]\npool = "apps"\n[[route]]\npath = "/talk"\npool = "echo"\n',
    ).replace('max_lag = "60 s"', 'interval = "500 ms"\nmax_lag = "3 s"\n#')
    text = text.replace("[gateway]", f'[gateway]\nruntime_dir = "{tmp_path / "run"}"')
    with Reloaded(text, tmp_path / "gateway") as gateway, ExitStack() as stack:
        url, faults = gateway.url("/recorder"), Faults(gateway)
        talk = gateway.url("/talk").replace("http", "ws")

        def views() -> None:
            with PageLoad(url, threads=2) as load:
                wait_until(lambda: len(load.done) >= VIEWS, "page views", 3 * GENEROUS)
            assert load.failed == []

        # Each once beforehand: what is loaded for it stays loaded.
        with Talkers(talk, TALKERS):
            faults.a_worker_is_drained_and_taken_back()
            faults.files_are_broken_and_reloaded_in_a_storm()
            faults.a_gateway_process_is_killed()
            faults.the_gateway_is_upgraded()
            views()
        wait_until(lambda: len(gateway.processes()) == 3, "those left behind end")
        wait_until(lambda: not open_now(gateway), "nothing is open")
        before = measured(gateway)

        for fault in (
            faults.the_gateway_is_upgraded,
            faults.one_worker_is_killed,
            faults.a_worker_is_stopped,
            faults.workers_are_replaced,
            faults.a_gateway_process_is_killed,
            faults.all_workers_are_killed,
            faults.files_are_broken_and_reloaded_in_a_storm,
            faults.a_worker_is_drained_and_taken_back,
        ):
            fault()
            views()
        wait_until(lambda: len(gateway.processes()) == 3, "those left behind end")

        held: list[PageView] = [stack.enter_context(view_page(url)) for _ in range(5)]
        with Talkers(talk, TALKERS) as talkers:
            talkers.wait_round()
            assert open_now(gateway) == total(gateway.metrics_port, "tunnels_open") == len(held) + TALKERS
        for view in held:
            view.close()
        wait_until(lambda: not open_now(gateway), "nothing is open")
        wait_until(lambda: not any(w["load"] for w in workers(gateway.config_path).values()), "nothing is counted")
        after = measured(gateway)
        print(f"\nbefore and after all faults: descriptors {before[0]} {after[0]}, bytes {before[1]} {after[1]}")
        wait_until(lambda: measured(gateway)[0] <= before[0] * 1.05, f"descriptors are back: {before[0]}")
        assert measured(gateway)[1] <= before[1] * 1.05
        children = psutil.Process(gateway.pid).children(recursive=True)
        assert all(child.status() != psutil.STATUS_ZOMBIE for child in children)
        assert family(tmp_path) <= {gateway.pid, *(child.pid for child in children)}, "no orphan"
        assert len(children) == 2 + 2
    assert family(tmp_path) == set()


def open_now(gateway: Reloaded) -> int:
    """WebSockets on the board."""
    return sum(worker["tunnels"] for worker in workers(gateway.config_path).values())
