"""Limits for one client hold for all gateway processes together: when one is killed, through reloads and upgrades."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from bokeh_gateway.policy.password import scrypt_hash
from tests.faults.test_reload import Reloaded
from tests.faults.test_upgrade import upgrade
from tests.support.bokeh_client import get
from tests.support.frames import handshake
from tests.support.ports import free_port
from tests.support.raw import RawClient
from tests.support.recording import Recorded, RecordingWorker, Side, switching
from tests.support.waiting import wait_until

CONFIG = """
[gateway]
listen = ["127.0.0.1:{port}"]
processes = 2
[pool.site]
kind = "{kind}"
servers = ["{worker}"]
[metrics]
listen = ["127.0.0.1:{metrics}"]
[timeouts]
drain = "1 s"
{more}
"""
OTHER_LAYOUT = """
import os
if os.path.exists("{}"):
    from bokeh_gateway.balance import shared
    shared.LAYOUT += 1
"""
LIMIT = 12
"""All of them in one process has a chance of one in two thousand; then there are more."""


async def tunnel(request: Recorded, side: Side) -> None:
    await side.send(switching(request))
    await side.wait_end()


@pytest.fixture(scope="module")
def worker() -> Iterator[RecordingWorker]:
    with RecordingWorker(scripts={"/ws": tunnel}) as running:
        yield running


def gateway_with(worker: RecordingWorker, folder: Path, more: str = "", kind: str = "http") -> Reloaded:
    text = CONFIG.format(port=free_port(), kind=kind, worker=worker.address, metrics=free_port(), more=more)
    return Reloaded(text, folder)


def movers(gateway: Reloaded) -> list[psutil.Process]:
    return [process for process in gateway.processes() if "bokeh_gateway.process" in " ".join(process.cmdline())]


class Crowd:
    """WebSockets of one client."""

    def __init__(self, gateway: Reloaded) -> None:
        self.gateway = gateway
        self.open: list[RawClient] = []

    def one_more(self) -> bool:
        """Whether one more is served."""
        client = RawClient(self.gateway.port)
        client.send(handshake("/ws"))
        if client.answer().status == 101:
            self.open.append(client)
            return True
        client.socket.close()
        return False

    def fill(self, up_to: int) -> None:
        """One by one, when there is room: what was refused counts until it is closed."""
        while len(self.open) < up_to:
            wait_until(self.one_more, f"there is room for {len(self.open) + 1}")

    def is_full(self) -> bool:
        """Whether both processes would say no; each gets some of twenty."""
        return not any(self.one_more() for _ in range(20))

    def of(self, process: psutil.Process) -> list[RawClient]:
        """Those that the process has."""
        ports = {
            c.raddr.port for c in process.net_connections(kind="tcp4") if c.raddr and c.laddr.port == self.gateway.port
        }
        return [client for client in self.open if client.socket.getsockname()[1] in ports]

    def close(self) -> None:
        for client in self.open:
            client.socket.close()


@pytest.mark.parametrize("setting", ["connections", "connections_per_client"])
def test_connections_are_counted_over_processes_and_those_of_a_killed_one_are_not(
    setting: str, worker: RecordingWorker, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        gateway = stack.enter_context(gateway_with(worker, tmp_path, f"[limits]\n{setting} = {LIMIT}"))
        crowd = Crowd(gateway)
        stack.callback(crowd.close)
        crowd.fill(LIMIT)
        assert crowd.is_full()
        assert f"[limits] {setting} = {LIMIT}" in gateway.stderr
        victim = max(movers(gateway), key=lambda process: len(crowd.of(process)))
        lost = crowd.of(victim)
        os.kill(victim.pid, signal.SIGKILL)
        for client in lost:
            assert client.ends(10)
            client.socket.close()
        crowd.open = [client for client in crowd.open if client not in lost]
        wait_until(lambda: len(movers(gateway)) == 2 and victim not in movers(gateway), "two processes again")
        crowd.fill(LIMIT)
        assert crowd.is_full(), "the others' connections still count, and no more than these"


def test_of_those_who_come_all_at_once_exactly_as_many_get_in_as_may(worker: RecordingWorker, tmp_path: Path) -> None:
    with ExitStack() as stack:
        gateway = stack.enter_context(gateway_with(worker, tmp_path, f"[limits]\nconnections_per_client = {LIMIT}"))
        crowd = Crowd(gateway)
        stack.callback(crowd.close)
        with ThreadPoolExecutor(40) as threads:
            assert sum(threads.map(lambda _: crowd.one_more(), range(40))) == LIMIT


def test_connections_are_counted_through_reloads_and_an_upgrade(worker: RecordingWorker, tmp_path: Path) -> None:
    """A new limit counts who was there before, and what processes hold that were left behind still counts."""
    with ExitStack() as stack:
        gateway = stack.enter_context(gateway_with(worker, tmp_path))
        crowd = Crowd(gateway)
        stack.callback(crowd.close)
        crowd.fill(LIMIT)
        text = gateway.config_path.read_text() + f"\n[limits]\nconnections_per_client = {LIMIT}\n"
        gateway.reload(text)
        assert crowd.is_full()
        upgrade(gateway)
        assert len(movers(gateway)) == 4, "two that are new, two that keep what they have"
        assert crowd.is_full()
        gateway.reload(text.replace("processes = 2", "processes = 1"))
        assert crowd.is_full()
        for client in crowd.open[:5]:
            client.socket.close()
        crowd.open = crowd.open[5:]
        crowd.fill(LIMIT)
        assert crowd.is_full()


def test_a_version_whose_memory_is_arranged_otherwise_begins_anew_and_says_so(
    worker: RecordingWorker, tmp_path: Path
) -> None:
    """What was open stays open, and its end is no concern of the new counts."""
    (tmp_path / "sitecustomize.py").write_text(OTHER_LAYOUT.format(tmp_path / "other"))
    with ExitStack() as stack:
        gateway = gateway_with(worker, tmp_path, f"[limits]\nconnections_per_client = {LIMIT}")
        gateway.env["PYTHONPATH"] = os.pathsep.join((str(tmp_path), gateway.env["PYTHONPATH"]))
        stack.enter_context(gateway)
        crowds = [Crowd(gateway), Crowd(gateway)]
        for crowd in crowds:
            stack.callback(crowd.close)
        crowds[0].fill(LIMIT)
        (tmp_path / "other").touch()
        upgrade(gateway)
        assert "and what counts for [limits] begin anew" in gateway.stderr
        crowds[1].fill(LIMIT)
        assert crowds[1].is_full()
        crowds[0].close()
        wait_until(lambda: len(movers(gateway)) == 2, "those left behind have ended")
        assert crowds[1].is_full()


def test_wrong_passwords_are_counted_over_processes_and_through_a_reload(
    worker: RecordingWorker, tmp_path: Path
) -> None:
    """Thirty guesses at once at two processes are five tries, and a reload gives no others; who is right gets in."""
    tmp_path.mkdir(exist_ok=True)
    hashed = scrypt_hash("right", b"s" * 16, 10)
    office = [f"user{number}" for number in range(20)]
    (tmp_path / "users").write_text("".join(f"{name}:{hashed}\n" for name in ["ada", *office]))
    more = '[auth.basic]\nfile = "users"\nfailures_per_minute = 5\n'
    with gateway_with(worker, tmp_path, more) as gateway:

        def guess(password: str, name: str = "ada") -> int:
            return get(gateway.url("/x"), auth=(name, password)).status_code

        with ThreadPoolExecutor(30) as threads:
            assert set(threads.map(guess, ["right"] * len(office), office)) == {200}
            assert Counter(threads.map(guess, map(str, range(30)))) == {401: 5, 429: 25}
        text = gateway.config_path.read_text()
        gateway.reload(text.replace("failures_per_minute = 5", 'failures_per_minute = 5\ncache = "60 s"'))
        assert {guess("right") for _ in range(10)} == {429}
        gateway.reload(text.replace("failures_per_minute = 5", "failures_per_minute = 6"))
        assert guess("right") == 200
        assert {guess(str(number)) for number in range(10)} == {401, 429}


def test_new_sessions_are_counted_over_processes_and_through_a_reload(worker: RecordingWorker, tmp_path: Path) -> None:
    more = "[limits]\nsessions_per_client_per_minute = {}\n"
    with gateway_with(worker, tmp_path, more.format(10), kind="bokeh") as gateway:

        def view(_: int = 0) -> int:
            return get(gateway.url("/app")).status_code

        with ThreadPoolExecutor(8) as threads:
            assert Counter(threads.map(view, range(40))) == {200: 10, 429: 30}
        gateway.reload(f"{gateway.config_path.read_text()}\nheader_count = 150\n")
        assert {view() for _ in range(10)} == {429}
        assert "[limits] sessions_per_client_per_minute = 10" in gateway.stderr
