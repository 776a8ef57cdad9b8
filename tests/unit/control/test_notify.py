"""What the service manager hears, on a real datagram socket; and its sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bokeh_gateway.control.notify import Notifier, activated, serves


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5)
        yield sock


def heard(manager: socket.socket) -> dict[str, str]:
    return dict(line.split("=", 1) for line in manager.recv(4096).decode().splitlines())


def test_each_state_is_one_datagram(manager):
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()})
    notifier.ready("3 WebSockets")
    assert heard(manager) == {"READY": "1", "STATUS": "3 WebSockets", "MAINPID": str(os.getpid())}
    notifier.reloading()
    said = heard(manager)
    assert said.keys() == {"RELOADING", "MONOTONIC_USEC"}
    assert int(said["MONOTONIC_USEC"]) > 0
    notifier.alive()
    assert heard(manager) == {"WATCHDOG": "1"}
    notifier.stopping("draining")
    assert heard(manager) == {"STOPPING": "1", "STATUS": "draining"}


def test_an_abstract_address_is_understood():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        name = f"bokeh-gateway-test-{os.getpid()}"
        sock.bind(f"\0{name}")
        sock.settimeout(5)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).status("up")
        assert heard(sock) == {"STATUS": "up"}


def test_without_a_manager_nothing_happens(tmp_path):
    Notifier({}).ready("")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready("")


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"WATCHDOG_USEC": "30000000"}, 15.0, id="half-of-it"),
        pytest.param({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0, id="ours"),
        pytest.param({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None, id="another's"),
        pytest.param({"WATCHDOG_USEC": "soon"}, None, id="no-number"),
    ],
)
def test_the_watchdog_is_ours_or_not(environ, seconds):
    assert Notifier(environ).watchdog == seconds


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({"LISTEN_PID": "1", "LISTEN_FDS": "2"}, id="another's"),
        pytest.param({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"}, id="no-number"),
        pytest.param({}, id="none"),
    ],
)
def test_sockets_of_others_are_left_alone(environ):
    assert activated(environ) == []
    assert "LISTEN_PID" not in environ


@pytest.mark.parametrize(
    ("host", "unix", "expected"),
    [
        pytest.param("127.0.0.1", "", True, id="address"),
        pytest.param("127.0.0.2", "", False, id="another-address"),
        pytest.param("", "/run/x", False, id="unix"),
    ],
)
def test_a_socket_serves_its_own_address_only(host, unix, expected):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert serves(bound, host, 0 if unix else bound.getsockname()[1], unix) is expected
