"""An upgrade: the program is executed anew, and workers, sessions and WebSockets do not notice."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.faults.test_reload import COUNT, Reloaded, config, demo
from tests.support.bokeh_client import get, view_page
from tests.support.certificates import make_certificate
from tests.support.ports import free_port
from tests.support.scrape import total
from tests.support.talkers import EchoServer, Talkers
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def echo() -> Iterator[EchoServer]:
    with EchoServer() as server:
        yield server


def upgrade(gateway: Reloaded) -> None:
    before = gateway.stderr.count("upgrade: version")
    gateway.signal(signal.SIGUSR2)
    wait_until(lambda: gateway.stderr.count("upgrade: version") > before, f"the new program runs\n{gateway.report()}")


def commands(gateway: Reloaded) -> dict[int, list[str]]:
    """Of the gateway's own processes, less one that has just ended."""
    found: dict[int, list[str]] = {}
    for process in gateway.processes():
        with contextlib.suppress(psutil.NoSuchProcess):  # zombies included
            found[process.pid] = process.cmdline()
    return found


def movers(gateway: Reloaded) -> set[int]:
    return {pid for pid, command in commands(gateway).items() if "bokeh_gateway.process" in command}


def trials(gateway: Reloaded) -> set[int]:
    return {pid for pid, command in commands(gateway).items() if command[1:] == gateway.command[1:]} - {gateway.pid}


def test_an_upgrade_keeps_workers_sessions_and_websockets(echo, tmp_path):
    text = config(echo, processes=2, more=demo())
    with ExitStack() as stack:
        gateway = stack.enter_context(Reloaded(text, tmp_path))
        talkers = stack.enter_context(Talkers(gateway.url("/talk").replace("http", "ws"), COUNT))
        view = stack.enter_context(view_page(gateway.url("/template")))
        workers, old, pid = gateway.workers(), movers(gateway), gateway.pid
        program = psutil.Process(pid).create_time()
        upgrade(gateway)
        assert psutil.Process(pid).create_time() == program, "the same process, for whoever watches it"
        assert gateway.workers() == workers
        talkers.wait_round()
        view.socket.pull_document()
        assert len(movers(gateway)) == 4, "two that are new, two that keep what they have"
        with view_page(gateway.url("/template")) as later:
            later.socket.pull_document()
        assert total(gateway.metrics_port, "tunnels_open") == COUNT + 1
        gateway.reload(text.replace('drain = "1 s"', 'drain = "2 s"'))
        upgrade(gateway)
        talkers.wait_round()
        assert gateway.workers() == workers
        # What was adopted is supervised as before.
        (worker,) = workers
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: gateway.workers() and worker not in gateway.workers(), "the worker is started again")
        talkers.wait_round()
        view.close()
        assert old <= movers(gateway), "they live as long as their WebSockets"
    assert talkers.score.wrong == []


def test_all_at_once(echo, tmp_path):
    """Reloads, a deploy of another pool and an upgrade: none closed, no message lost or out of order."""
    text = config(echo, processes=2, more=demo())
    with Reloaded(text, tmp_path) as gateway:
        pause = 0.05 if COUNT < 500 else 2.0
        with Talkers(gateway.url("/talk").replace("http", "ws"), COUNT, pause) as talkers:
            # A program's first reload, upgrade, requests and scrapes load code that it keeps.
            first = movers(gateway)
            gateway.reload(text.replace('drain = "1 s"', 'drain = "1 s"\nheader = "9 s"'))
            upgrade(gateway)
            for _ in range(20):
                assert get(gateway.url()).status_code
                assert total(gateway.metrics_port, "tunnels_open") == COUNT
            fresh = [process for process in gateway.processes() if process.pid not in first]
            before = [sum(p.num_fds() for p in fresh), sum(p.memory_info().rss for p in fresh)]
            for number in range(20):
                gateway.reload(text.replace('drain = "1 s"', f'drain = "1 s"\nheader = "{number + 10} s"'))
            deployed = text.replace("args = []", 'args = ["--log-level=debug"]')
            old = set(gateway.workers())
            gateway.reload(deployed)
            wait_until(lambda: gateway.workers() and not old & set(gateway.workers()), "the deploy is done", 90)
            talkers.wait_round()
            upgrade(gateway)
            talkers.wait_round()
            assert total(gateway.metrics_port, "tunnels_open") == COUNT
        assert (talkers.score.closed, talkers.score.wrong) == (0, [])
        print(f"{COUNT} WebSockets, {talkers.score.echoed} messages echoed")
        wait_until(lambda: len(gateway.processes()) == 3, "those left behind end")
        wait_until(lambda: total(gateway.metrics_port, "tunnels_open") == 0, "none is counted")
        after = [sum(process.num_fds() for process in gateway.processes()), gateway.memory()]
        assert after[0] <= before[0], "descriptors are back"
        assert after[1] <= before[1] * 1.05, "memory is back"


def test_after_an_upgrade_the_end_leaves_nothing(echo, tmp_path):
    gateway = Reloaded(config(echo, more=demo()), tmp_path)
    gateway.start()
    try:
        upgrade(gateway)
        assert gateway.kill_master() >= 3
    finally:
        gateway.kill()


def test_processes_left_behind_end_and_an_ordinary_stop_is_clean(echo, tmp_path):
    with Reloaded(config(echo, more=demo()), tmp_path) as gateway:
        old = movers(gateway)
        upgrade(gateway)
        wait_until(lambda: not old & movers(gateway), "nothing is open there")
        assert get(gateway.url("/template")).status_code == 200
        (socket,) = [arg for p in gateway.workers() for arg in psutil.Process(p).cmdline() if arg.endswith(".sock")]
        assert Path(socket).parent.is_dir()
    assert not Path(socket).parent.exists(), "the folder is known to the new program, which removes it"


def test_a_program_that_cannot_run_changes_nothing(echo, tmp_path):
    with Reloaded(config(echo), tmp_path) as gateway:
        gateway.config_path.write_text("[gateway]\nlisten = 5\n")
        gateway.signal(signal.SIGUSR2)
        gateway.wait_for_output("upgrade: nothing was changed")
        assert "gateway.listen" in gateway.stderr
        assert get(gateway.url()).status_code != 503
        gateway.config_path.write_text(gateway.text)


def test_a_configuration_that_cannot_be_used_changes_nothing(echo, tmp_path):
    """The file is well-formed, but what it names is not there: after the `exec` it would be too late to see that."""
    certificate = make_certificate(tmp_path, "localhost")
    files = f'certfile = "{certificate.certfile}"\nkeyfile = "{certificate.keyfile}"\n'
    text = config(echo, more=f'[tls]\nlisten = ["127.0.0.1:{free_port()}"]\n{files}redirect_http = false\n')
    good = certificate.certfile.read_bytes()
    with Reloaded(text, tmp_path) as gateway, socket.create_server(("127.0.0.1", 0)) as taken:

        def refused(why: str) -> None:
            before = gateway.stderr.count("upgrade: nothing was changed")
            gateway.signal(signal.SIGUSR2)
            wait_until(lambda: gateway.stderr.count("upgrade: nothing was changed") > before, gateway.report())
            assert why in gateway.stderr.splitlines()[-1]
            assert get(gateway.url()).status_code == 426

        certificate.certfile.write_bytes(b"not a certificate")
        refused(str(certificate.certfile))
        certificate.certfile.write_bytes(good)
        gateway.config_path.write_text(
            text.replace("listen = [", f'listen = ["127.0.0.1:{taken.getsockname()[1]}", ', 1)
        )
        refused("already in use")
        gateway.config_path.write_text(text + '[log]\naccess = "/nowhere/access.log"\n')
        refused("log.access")
        gateway.config_path.write_text(text.replace("processes = 1", 'processes = 1\nuser = "nobody-by-that-name"'))
        refused("gateway.user")
        gateway.config_path.write_text(text)
        upgrade(gateway)
        assert get(gateway.url()).status_code == 426


def test_a_stop_during_the_trial_stops(echo, tmp_path):
    with Reloaded(config(echo).replace('drain = "1 s"', 'drain = "20 s"'), tmp_path) as gateway:
        with Talkers(gateway.url("/talk").replace("http", "ws"), 1):
            gateway.signal(signal.SIGUSR2)
            wait_until(lambda: trials(gateway), "the trial")
            gateway.signal(signal.SIGTERM)
            gateway.wait_for_output("upgrade: nothing was changed: the gateway stops")
        assert gateway.wait_exit() == 0
        assert "executed anew" not in gateway.stderr
        gateway.start()
