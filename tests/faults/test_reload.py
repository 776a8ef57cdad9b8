"""A reload changes what is new and touches nothing that is open; a broken one changes nothing and says why."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.bokeh_client import get, view_page
from tests.support.certificates import make_certificate
from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port
from tests.support.scrape import figures, total
from tests.support.talkers import EchoServer, Talkers
from tests.support.waiting import GENEROUS, wait_until

APPS = Path(__file__).parents[1] / "support" / "apps"
COUNT = int(os.environ.get("TEST_WEBSOCKETS", "40"))
"""WebSockets that talk through it all; 1000 shows what the README says."""


@pytest.fixture(scope="module")
def echo() -> Iterator[EchoServer]:
    with EchoServer() as server:
        yield server


class Reloaded(GatewayProcess):
    """A gateway whose file can be rewritten."""

    def reload(self, text: str | None = None, said: str = "reload: ") -> str:
        """Writes the file, sends HUP, waits for the line that answers it, and returns that line."""
        if text is not None:
            self.config_path.write_text(text)
        before = self.stderr.count(said)
        self.signal(signal.SIGHUP)
        wait_until(lambda: self.stderr.count(said) > before, f"the reload's line\n{self.report()}")
        return [line for line in self.stderr.splitlines() if said in line][-1]

    @property
    def metrics_port(self) -> int:
        return int(self.config["metrics"]["listen"][0].rpartition(":")[2])

    def workers(self) -> dict[int, float]:
        """Start times of `bokeh serve` by process id."""
        found: dict[int, float] = {}
        for child in psutil.Process(self.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):  # one that has just ended, zombies included
                if "--unix-socket" in child.cmdline():
                    found[child.pid] = child.create_time()
        return found


def config(echo: EchoServer, processes: int = 1, more: str = "", listen: str = "") -> str:
    return f"""
[gateway]
listen = ["127.0.0.1:{free_port()}"{listen}]
processes = {processes}
[pool.echo]
kind = "http"
servers = ["127.0.0.1:{echo.port}"]
[metrics]
listen = ["127.0.0.1:{free_port()}"]
[timeouts]
drain = "1 s"
{more}
"""


def demo(workers: int = 1, args: str = "[]") -> str:
    return f"""
[pool.demo]
serve = ["{APPS / "template.py"}"]
workers = {workers}
args = {args}
[[route]]
pool = "echo"
[[route]]
path = "/template"
pool = "demo"
"""


def test_nothing_open_is_touched_by_reloads_and_a_deploy_of_another_pool(echo, tmp_path):
    text = config(echo, processes=2, more=demo())
    with ExitStack() as stack:
        gateway = stack.enter_context(Reloaded(text, tmp_path))
        talkers = stack.enter_context(Talkers(gateway.url("/talk").replace("http", "ws"), COUNT))
        pids = {process.pid for process in gateway.processes()}
        view = stack.enter_context(view_page(gateway.url("/template")))
        first = gateway.workers()
        for number in range(10):
            gateway.reload(text.replace('drain = "1 s"', f'drain = "1 s"\nheader = "{number + 10} s"'))
            talkers.wait_round()
        assert gateway.workers() == first, "a supervised worker of an unchanged pool runs on"
        line = gateway.reload(text.replace("args = []", 'args = ["--log-level=debug"]'))
        assert "pool.demo" in line
        wait_until(lambda: len(gateway.workers()) == 2, "the new generation beside the old")
        view.socket.pull_document()
        wait_until(
            lambda: figures(gateway.metrics_port).get(("worker_up", 'worker="demo/1#2"')) == 1, "the new one is up"
        )
        with view_page(gateway.url("/template")) as later:
            later.socket.pull_document()
            view.socket.pull_document()
        view.close()
        wait_until(lambda: first.keys().isdisjoint(gateway.workers()), "the old one ends with its session")
        talkers.wait_round()
        assert {process.pid for process in gateway.processes()} == pids, "no process was replaced"
        assert total(gateway.metrics_port, "tunnels_open") >= COUNT
    assert talkers.score.closed == 0, talkers.score.wrong[:5]
    assert talkers.score.wrong == []


def test_gw03_a_broken_file_changes_nothing_and_says_why(echo, tmp_path):
    text = config(echo)
    with Reloaded(text, tmp_path) as gateway:
        line = gateway.reload(text.replace("processes = 1", 'processes = "many"'))
        assert "nothing was changed" in line
        assert "gateway.processes" in gateway.stderr
        assert figures(gateway.metrics_port)["config_last_reload_ok", ""] == 0
        assert get(gateway.url()).status_code != 503
        gateway.reload(text)
        assert figures(gateway.metrics_port)["config_last_reload_ok", ""] == 1


def test_an_auth_module_that_cannot_be_loaded_changes_nothing(echo, tmp_path):
    """Only gateway processes load it, and one that is replaced later would not start."""
    text = config(echo)
    (tmp_path / "sign_in.py").write_text("def broken(:\n")
    with Reloaded(text, tmp_path) as gateway:
        line = gateway.reload(f'{text}[auth]\nmodule = "sign_in.py"\n')
        assert "nothing was changed" in line
        assert "sign_in.py, line 1" in line
        assert "could not take its configuration" not in gateway.stderr
        (process,) = gateway.processes()[1:]
        process.kill()
        gateway.wait_for_output("it is replaced")
        assert get(gateway.url()).status_code == 426


def test_an_address_in_use_changes_nothing(echo, tmp_path):
    text = config(echo)
    with Reloaded(text, tmp_path / "a") as gateway, Reloaded(config(echo), tmp_path / "b") as other:
        line = gateway.reload(
            text.replace("listen = [", f'listen = ["127.0.0.1:{free_port()}", "127.0.0.1:{other.port}", ', 1)
        )
        assert "nothing was changed" in line
        assert f"127.0.0.1:{other.port}" in line


def test_listeners_and_pools_come_and_go(echo, tmp_path):
    text = config(echo)
    with Reloaded(text, tmp_path) as gateway, Talkers(gateway.url().replace("http", "ws"), 5) as talkers:
        old, new = gateway.port, free_port()
        line = gateway.reload(text.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}") + demo(workers=2))
        assert "gateway.listen" in line
        assert "pool.demo added" in line
        wait_until(lambda: len(gateway.workers()) == 2, "its workers start")
        wait_until(lambda: get(f"http://127.0.0.1:{new}/template").status_code == 200, "the new pool answers")
        with pytest.raises(OSError, match="refused"):
            get(f"http://127.0.0.1:{old}/template")
        talkers.wait_round()
        gateway.reload(text.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}"))
        wait_until(lambda: not gateway.workers(), "the removed pool's workers end")
        talkers.wait_round()
    assert talkers.score.wrong == []


def test_more_and_fewer_processes_and_no_websocket_notices(echo, tmp_path):
    text = config(echo)
    with Reloaded(text, tmp_path) as gateway:
        with Talkers(gateway.url().replace("http", "ws"), 10) as talkers:
            gateway.reload(text.replace("processes = 1", "processes = 3"))
            assert len(gateway.processes()) == 5, "the master, three, and one that keeps its WebSockets"
            with Talkers(gateway.url().replace("http", "ws"), 10) as later:
                talkers.wait_round()
                later.wait_round()
                assert total(gateway.metrics_port, "tunnels_open") == 20
                gateway.reload(text)
                later.wait_round()
                assert get(gateway.url()).status_code
            assert later.score.wrong == []
        assert talkers.score.wrong == []
        wait_until(lambda: len(gateway.processes()) == 2, "those that were left behind end with their WebSockets")


def test_gw04_a_storm_of_reloads_leaves_memory_and_descriptors_as_they_were(echo, tmp_path):
    text = config(echo, more=demo())
    with Reloaded(text, tmp_path) as gateway, Talkers(gateway.url().replace("http", "ws"), 10) as talkers:

        def descriptors() -> list[int]:
            return [process.num_fds() for process in gateway.processes()]

        for _ in range(3):
            gateway.reload()
        before, memory, workers = descriptors(), gateway.memory(), gateway.workers()
        lines = gateway.stderr.count("reload: ")
        for _ in range(50):
            gateway.signal(signal.SIGHUP)
            talkers.wait_round()
        wait_until(lambda: gateway.stderr.count("reload: ") > lines, "they are answered")
        gateway.reload()
        assert gateway.stderr.count("reload: ") - lines <= 51
        assert gateway.workers() == workers
        wait_until(lambda: all(now <= then + 2 for now, then in zip(descriptors(), before, strict=True)), "descriptors")
        assert gateway.memory() < memory * 1.05 + 3 * 1024 * 1024
        assert all(p.status() != psutil.STATUS_ZOMBIE for p in psutil.Process(gateway.pid).children(recursive=True))
    assert talkers.score.wrong == []


def test_tl09_a_certificate_replaced_by_a_broken_one_keeps_the_old(echo, tmp_path):
    pair = make_certificate(tmp_path / "pair")
    text = config(echo).replace(
        "[pool.echo]",
        f'[tls]\nlisten = ["127.0.0.1:{free_port()}"]\ncertfile = "{pair.certfile}"\nkeyfile = "{pair.keyfile}"\n'
        "redirect_http = false\n[pool.echo]",
    )

    def fingerprint(port: int) -> str:
        return ssl.get_server_certificate(("127.0.0.1", port))

    with Reloaded(text, tmp_path / "gateway") as gateway:
        first = fingerprint(gateway.tls_port)
        good = Path(pair.certfile).read_bytes()
        Path(pair.certfile).write_text("-----BEGIN CERTIFICATE-----\nnothing\n")
        assert "nothing was changed" in gateway.reload()
        assert fingerprint(gateway.tls_port) == first
        Path(pair.certfile).write_bytes(good)
        assert "in force" in gateway.reload()
        fresh = make_certificate(tmp_path / "fresh")
        Path(pair.certfile).write_bytes(Path(fresh.certfile).read_bytes())
        Path(pair.keyfile).write_bytes(Path(fresh.keyfile).read_bytes())
        gateway.reload()
        wait_until(lambda: fingerprint(gateway.tls_port) != first, "the new certificate is shown")


def test_a_pool_that_was_taken_away_and_is_put_back_serves_while_its_old_sessions_go_on(echo, tmp_path):
    text = config(echo, more=demo())
    with Reloaded(text, tmp_path) as gateway, view_page(gateway.url("/template")) as view:
        old = gateway.workers()
        gateway.reload(text.replace(demo(), ""))
        gateway.reload(text)
        assert get(gateway.url("/template")).status_code == 200
        view.socket.pull_document()
        assert old.keys() < gateway.workers().keys(), "a new worker beside the one that ends with its session"


def test_a_generation_that_is_given_up_before_it_got_ready_is_no_error(echo, tmp_path):
    text = config(echo, more=demo())
    with Reloaded(text, tmp_path) as gateway:
        gateway.reload(text.replace("args = []", 'args = ["--log-level=debug"]'))
        gateway.reload(text.replace(demo(), ""))
        gateway.wait_for_output("gone, others took their place: demo/1#2")
        gateway.reload(text)
        assert get(gateway.url("/template")).status_code == 200
        assert "got ready" not in gateway.stderr


def test_a_port_moves_from_plain_connections_to_tls(echo, tmp_path):
    certificate = make_certificate(tmp_path, "localhost")
    files = f'certfile = "{certificate.certfile}"\nkeyfile = "{certificate.keyfile}"\nredirect_http = false\n'
    text = config(echo, processes=2)
    port, other = free_port(), free_port()
    before = text.replace("[pool.echo]", f'[tls]\nlisten = ["127.0.0.1:{other}"]\n{files}[pool.echo]')
    before = before.replace("listen = [", f'listen = ["127.0.0.1:{port}", ', 1)
    after = before.replace(f'"127.0.0.1:{port}", ', "").replace(str(other), str(port))
    with Reloaded(before, tmp_path) as gateway:
        assert get(f"http://localhost:{port}/").status_code == 426
        assert "in force" in gateway.reload(after)
        with socket.create_connection(("127.0.0.1", port)) as plain:
            certificate.client.wrap_socket(plain, server_hostname="localhost").close()
        assert "in force" in gateway.reload(before)
        assert get(f"http://localhost:{port}/").status_code == 426


def test_what_a_replaced_process_still_has_is_told_to_come_back(echo, tmp_path):
    text = config(echo).replace('drain = "1 s"', 'drain = "1 s"\nreload_linger = "1 s"')
    with Reloaded(text, tmp_path) as gateway, connect(gateway.url("/talk").replace("http", "ws")) as talker:
        gateway.reload(text.replace("processes = 1", "processes = 2"))
        with pytest.raises(ConnectionClosed) as closed:
            talker.recv(timeout=GENEROUS)
        assert closed.value.rcvd.code == 1012
        assert "have [timeouts] reload_linger = 1 s" in gateway.stderr
        assert "a second signal" not in gateway.stderr, "nobody sent a first one"


def test_the_end_of_a_replaced_process_that_was_killed_is_said(echo, tmp_path):
    text = config(echo)
    with Reloaded(text, tmp_path) as gateway, connect(gateway.url("/talk").replace("http", "ws")):
        (old,) = gateway.processes()[1:]
        gateway.reload(text.replace("processes = 1", "processes = 2"))
        old.kill()
        assert "killed by SIGKILL" in gateway.wait_for_output(f"gateway process {old.pid}, ")
