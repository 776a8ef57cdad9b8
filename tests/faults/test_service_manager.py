"""Under a service manager: it hears what happens, its sockets are used, its user is taken."""

from __future__ import annotations

import os
import pwd
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.faults.test_reload import Reloaded, config, demo
from tests.support.bokeh_client import get
from tests.support.ports import free_port
from tests.support.processes import ROOT
from tests.support.talkers import EchoServer
from tests.support.waiting import GENEROUS, wait_until


@pytest.fixture(scope="module")
def echo() -> Iterator[EchoServer]:
    with EchoServer() as server:
        yield server


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(path))
        self.sock.settimeout(GENEROUS)
        self.said: list[str] = []

    def hears(self, text: str) -> str:
        """The next datagram that holds `text`."""
        while True:
            self.said.append(self.sock.recv(4096).decode())
            if text in self.said[-1]:
                return self.said[-1]


def test_ready_reloading_watchdog_status_and_stopping_are_told(echo, tmp_path):
    manager = Manager(tmp_path / "notify")
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000000"}
    with manager.sock, Reloaded(config(echo), tmp_path / "gateway", env=env) as gateway:
        ready = manager.hears("READY=1")
        assert f"MAINPID={gateway.pid}" in ready
        assert "STATUS=0 WebSockets, 1 of 1 workers, 1 processes" in ready
        manager.hears("WATCHDOG=1")
        gateway.signal(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in manager.hears("RELOADING=1")
        manager.hears("READY=1")
        gateway.signal(signal.SIGUSR2)
        assert f"MAINPID={gateway.pid}" in manager.hears("READY=1")
        gateway.signal(signal.SIGTERM)
        manager.hears("STOPPING=1")
        assert gateway.wait_exit() == 0
        gateway.kill()
        gateway.stop = lambda *_: None  # type: ignore[method-assign]


ACTIVATE = """
import os, socket, sys
port, *command = sys.argv[1:]
bound = socket.create_server(("127.0.0.1", int(port)))
if bound.fileno() != 3:
    os.dup2(bound.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(command[0], command)
"""


def test_sockets_of_the_manager_are_used(echo, tmp_path):
    port = free_port()
    text = config(echo).replace("listen = [", f'listen = ["127.0.0.1:{port}", ', 1)
    gateway = Reloaded(text, tmp_path)
    gateway.command = [sys.executable, "-c", ACTIVATE, str(port), *gateway.command]
    with gateway:
        inodes = {os.stat(f"/proc/{gateway.pid}/fd/{fd}").st_ino for fd in os.listdir(f"/proc/{gateway.pid}/fd")}
        listening = Path(f"/proc/{gateway.pid}/net/tcp").read_text()
        rows = [row.split() for row in listening.splitlines() if f":{port:04X} " in row and " 0A " in row]
        assert len(rows) == 1, "one socket listens there: the manager's"
        assert int(rows[0][9]) in inodes
        assert get(f"http://127.0.0.1:{port}/").status_code != 503
        for process in psutil.Process(gateway.pid).children(recursive=True):
            assert "LISTEN_FDS" not in process.environ()


def reachable() -> bool:
    """Whether the user nobody can run this interpreter and import the gateway."""
    try:
        code = "import bokeh_gateway.process"
        return subprocess.run([sys.executable, "-c", code], user="nobody", capture_output=True).returncode == 0
    except (PermissionError, KeyError):
        return False


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_becoming_a_user_leaves_nothing_of_root():
    code = (
        "import os; from bokeh_gateway.control.privileges import drop; drop('nobody');"
        "print(*os.getresuid(), *os.getresgid(), 0 in os.getgroups(), os.environ['USER'])\n"
        "try: os.setuid(0)\nexcept PermissionError: print('for good')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    nobody = pwd.getpwnam("nobody")
    ids = [nobody.pw_uid] * 3 + [nobody.pw_gid] * 3
    assert done.stdout.split("\n")[:2] == [" ".join(map(str, ids)) + " False nobody", "for good"]


def test_a_user_that_does_not_exist_is_wrong_configuration(echo, tmp_path):
    gateway = Reloaded(config(echo).replace("[pool.echo]", 'user = "no-such-user"\n[pool.echo]', 1), tmp_path)
    gateway.launch()
    try:
        assert gateway.wait_exit() == 2
        assert "gateway.user = 'no-such-user'" in gateway.stderr
    finally:
        gateway.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_workers_are_not_run_as_root_unless_told_to(echo, tmp_path):
    """Where other machines reach them; the reload that would open the door, and an upgrade, are refused too."""
    near = config(echo, more=demo())
    wide = re.sub(r'listen = \[("[^"]*")', r'listen = [\1, "0.0.0.0:0"', near, count=1)
    gateway = Reloaded(wide, tmp_path)
    gateway.launch()
    try:
        assert gateway.wait_exit() == 2
        assert "gateway.user: expected the user to run as" in gateway.stderr
        assert "0.0.0.0:0" in gateway.stderr
    finally:
        gateway.kill()
    check = subprocess.run(
        [sys.executable, "-m", "bokeh_gateway.cli", "check", "--config", str(gateway.config_path)],
        capture_output=True,
        text=True,
    )
    assert (check.returncode, check.stderr.count("gateway.user")) == (1, 1)
    with Reloaded(near, tmp_path) as gateway:
        gateway.wait_for_output("workers run as root, and whoever can make an app err")
        gateway.reload(wide, "nothing was changed: gateway.user")
        gateway.signal(signal.SIGUSR2)
        gateway.wait_for_output("upgrade: nothing was changed: ")
        assert get(gateway.url("/template")).status_code == 200
    with Reloaded(wide.replace("[pool.echo]", 'user = "root"\n[pool.echo]', 1), tmp_path) as gateway:
        assert get(gateway.url("/template")).status_code == 200
        assert "as root" not in gateway.stderr


@pytest.mark.skipif(os.geteuid() != 0 or not reachable(), reason="needs root, and an interpreter that all may run")
def test_the_user_is_taken_for_every_process(echo, tmp_path):
    nobody = pwd.getpwnam("nobody")
    for folder in (tmp_path, *list(tmp_path.parents)[:3]):
        if folder.owner() == "root" and str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    text = config(echo, more=demo()).replace("[pool.echo]", 'user = "nobody"\n[pool.echo]', 1)
    with Reloaded(text, tmp_path / "gateway") as gateway:
        family = [psutil.Process(gateway.pid), *psutil.Process(gateway.pid).children(recursive=True)]
        assert {p.uids().effective for p in family} == {nobody.pw_uid}
        assert {p.gids().effective for p in family} == {nobody.pw_gid}
        assert "as root" not in gateway.stderr
        wait_until(lambda: get(gateway.url("/template")).status_code == 200, "its workers serve")
