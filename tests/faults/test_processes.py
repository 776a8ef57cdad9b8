"""Gateway processes: they share the work and the counts, are replaced when killed, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.support.bokeh_client import get
from tests.support.certificates import make_certificate
from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port
from tests.support.scrape import figures, total
from tests.support.talkers import EchoServer, Talkers
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def echo() -> Iterator[EchoServer]:
    with EchoServer() as server:
        yield server


def config(echo: EchoServer, processes: int = 2, listen: str = "127.0.0.1:0", more: str = "") -> str:
    return f"""
[gateway]
listen = ["{listen}"]
processes = {processes}
[pool.echo]
kind = "http"
servers = ["127.0.0.1:{echo.port}"]
[metrics]
listen = ["127.0.0.1:{free_port()}"]
{more}
"""


def metrics_port(gateway: GatewayProcess) -> int:
    return int(gateway.config["metrics"]["listen"][0].rpartition(":")[2])


def movers(gateway: GatewayProcess) -> list[psutil.Process]:
    """The processes that move bytes."""
    return [process for process in gateway.processes() if "bokeh_gateway.process" in " ".join(process.cmdline())]


def connections_of(process: psutil.Process, port: int) -> int:
    """Browsers' connections that this process holds."""
    found = process.net_connections(kind="tcp4")
    return sum(c.status == psutil.CONN_ESTABLISHED and c.laddr.port == port for c in found)


def test_one_process_is_the_default_and_a_master_stands_above_it(echo, tmp_path):
    with GatewayProcess(config(echo, processes=1), tmp_path) as gateway:
        assert len(gateway.processes()) == 2
        assert len(movers(gateway)) == 1


def test_both_processes_get_work_and_counts_are_summed(echo, tmp_path):
    with GatewayProcess(config(echo), tmp_path) as gateway, Talkers(gateway.url().replace("http", "ws"), 40) as talkers:
        shares = [connections_of(process, gateway.port) for process in movers(gateway)]
        assert sum(shares) == 40
        assert min(shares) >= 5, "each accepts about half; below 5 of 40 has a chance of one in a million"
        assert total(metrics_port(gateway), "tunnels_open") == 40
        wait_until(lambda: total(metrics_port(gateway), "connections_open") == 40, "connections are counted")
        talkers.wait_round()
    assert talkers.score.wrong == []


def test_a_killed_process_is_replaced_and_the_sum_is_the_truth(echo, tmp_path):
    with ExitStack() as stack:
        gateway = stack.enter_context(GatewayProcess(config(echo), tmp_path))
        talkers = stack.enter_context(Talkers(gateway.url().replace("http", "ws"), 20))
        victim, other = movers(gateway)
        lost, kept = connections_of(victim, gateway.port), connections_of(other, gateway.port)
        assert lost + kept == 20
        opened = total(metrics_port(gateway), "tunnels_total")
        os.kill(victim.pid, signal.SIGKILL)
        wait_until(lambda: talkers.score.closed == lost, "the killed process's WebSockets ended")
        gateway.wait_for_output("it is replaced")
        wait_until(
            lambda: len(movers(gateway)) == 2 and victim.pid not in {p.pid for p in movers(gateway)}, "two again"
        )
        assert total(metrics_port(gateway), "tunnels_open") == kept
        assert total(metrics_port(gateway), "tunnels_total") == opened, "a sum over processes never goes back"
        with Talkers(gateway.url().replace("http", "ws"), 20) as later:
            assert total(metrics_port(gateway), "tunnels_open") == kept + 20
            later.wait_round()
            # The successor has the dead one's sockets.
            wait_until(lambda: all(connections_of(p, gateway.port) for p in movers(gateway)), "both accept")
        assert later.score.wrong == []
    assert talkers.score.closed == lost


@pytest.mark.parametrize("which", ["processes", "one"])
def test_when_the_master_is_killed_nothing_is_left(echo, tmp_path, which):
    apps = Path(__file__).parents[1] / "support" / "apps" / "template.py"
    text = config(echo, processes=2 if which == "processes" else 1, more=f'[pool.demo]\nserve = ["{apps}"]\n')
    text += '[[route]]\npool = "echo"\n[[route]]\npath = "/demo"\npool = "demo"\n'
    gateway = GatewayProcess(text, tmp_path)
    gateway.start()
    try:
        assert gateway.kill_master() >= 3
    finally:
        gateway.kill()


def test_unix_sockets_are_shared(echo, tmp_path):
    path = tmp_path / "gw.sock"
    text = config(echo, listen=f"unix:{path}")
    with GatewayProcess(text, tmp_path) as gateway:
        assert len(movers(gateway)) == 2
        assert path.exists()
    assert not path.exists()


def test_a_second_gateway_on_the_port_is_refused_though_sockets_are_shared(echo, tmp_path):
    with GatewayProcess(config(echo), tmp_path / "first") as first:
        second = GatewayProcess(config(echo, listen=f"127.0.0.1:{first.port}"), tmp_path / "second")
        second.launch()
        try:
            assert second.wait_exit() == 2
            assert "an address that can be bound" in second.stderr
        finally:
            second.kill()


def test_log_lines_of_two_processes_are_whole(echo, tmp_path):
    with GatewayProcess(config(echo), tmp_path) as gateway:
        for number in range(60):
            get(gateway.url(f"/{number:03}"))
        wait_until(lambda: len(gateway.access_log()) == 60, "60 lines")
        assert {line.split()[6] for line in gateway.access_log()} == {f"/{number:03}" for number in range(60)}
        assert all(line.startswith("127.0.0.1 ") for line in gateway.access_log())


def test_the_figures_of_all_processes_are_on_one_page(echo, tmp_path):
    with GatewayProcess(config(echo), tmp_path) as gateway:
        for _ in range(30):
            get(gateway.url("/"))
        found = figures(metrics_port(gateway))
        assert sum(v for (name, _), v in found.items() if name == "requests_total") == 30
        assert found["config_last_reload_ok", ""] == 1
        assert found["worker_up", f'worker="echo/127.0.0.1:{echo.port}"'] == 1


def test_tls_sessions_are_no_failure_whichever_process_gets_them(echo, tmp_path):
    """A ticket that another process gave is not understood there: a full handshake, never an error."""
    pair = make_certificate(tmp_path / "pair")
    text = config(echo).replace(
        "[pool.echo]",
        f'[tls]\nlisten = ["127.0.0.1:{free_port()}"]\ncertfile = "{pair.certfile}"\nkeyfile = "{pair.keyfile}"\n'
        "redirect_http = false\n[pool.echo]",
    )
    with GatewayProcess(text, tmp_path / "gateway") as gateway:
        session: ssl.SSLSession | None = None
        resumed = 0
        for _ in range(24):
            with (
                socket.create_connection(("127.0.0.1", gateway.tls_port), timeout=20) as plain,
                pair.client.wrap_socket(plain, server_hostname="localhost", session=session) as client,
            ):
                client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                while client.recv(65536):
                    pass
                resumed += bool(client.session_reused)
                session = client.session
        assert 0 < resumed < 24, "the same process takes its own tickets, the other gives new ones"


def test_a_process_that_is_stopped_is_said_and_a_reload_waits_for_it(echo, tmp_path):
    with GatewayProcess(config(echo), tmp_path) as gateway:
        victim = movers(gateway)[0]
        victim.suspend()
        gateway.wait_for_output(f"gateway process {victim.pid} has not answered")
        gateway.signal(signal.SIGHUP)
        victim.resume()
        gateway.wait_for_output(f"gateway process {victim.pid} answers again")
        gateway.wait_for_output("reload: in force")
        assert victim in movers(gateway)
