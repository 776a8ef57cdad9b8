"""What the README tells an operator: log files that are rotated, and the addresses that a machine asks."""

from __future__ import annotations

import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
import requests
from websockets.sync.client import connect

from tests.faults.test_reload import Reloaded
from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port
from tests.support.processes import clean_environment
from tests.support.recording import RecordingWorker
from tests.support.talkers import EchoServer
from tests.support.waiting import wait_until


def config(worker: str, more: str) -> str:
    return f"""
[gateway]
listen = ["127.0.0.1:0"]
processes = 2
[pool.site]
kind = "http"
servers = ["{worker}"]
hold = "0 s"
{more}"""


def test_usr1_opens_the_log_again_in_every_process(tmp_path: Path) -> None:
    log, moved = tmp_path / "access.log", tmp_path / "access.log.1"
    with (
        RecordingWorker() as worker,
        GatewayProcess(config(worker.address, f'[log]\naccess = "{log}"\n'), tmp_path / "gateway") as gateway,
    ):
        rounds = count()

        def of_a_round() -> tuple[int, int]:
            """How many of 16 requests, on connections of their own, are in the moved file and in the present one."""
            path = f"/round-{next(rounds)} "
            for _ in range(16):
                assert requests.get(gateway.url(path.strip()), timeout=30).status_code == 200

            def found() -> tuple[int, int]:
                old, new = (file.read_text() if file.exists() else "" for file in (moved, log))
                return old.count(path), new.count(path)

            wait_until(lambda: sum(found()) == 16, "every request is logged once")
            return found()

        assert of_a_round() == (0, 16)
        log.rename(moved)
        gateway.signal(signal.SIGUSR1)
        wait_until(lambda: of_a_round() == (0, 16), "both processes write the new file")
        assert "/round-0 " in moved.read_text()


@pytest.mark.parametrize(
    ("alive", "ready"), [pytest.param(True, 200, id="worker"), pytest.param(False, 503, id="none")]
)
def test_livez_and_readyz_answer_on_the_metrics_address(tmp_path: Path, alive: bool, ready: int) -> None:
    metrics = free_port()
    with RecordingWorker() as worker:
        address = worker.address if alive else f"127.0.0.1:{free_port()}"
        text = config(address, f'[metrics]\nlisten = ["127.0.0.1:{metrics}"]\n')
        with GatewayProcess(text, tmp_path) as gateway:

            def status(path: str) -> int:
                return requests.get(f"http://127.0.0.1:{metrics}{path}", timeout=30).status_code

            requests.get(gateway.url("/"), timeout=30)
            wait_until(lambda: status("/readyz") == ready, f"readyz is {ready}")
            assert status("/livez") == 200


def test_while_it_drains_it_lives_and_is_not_ready(tmp_path: Path) -> None:
    """Until the last WebSocket has ended."""
    with EchoServer() as echo:
        gateway = Reloaded(operated(echo.port, drain="60 s"), tmp_path)
        gateway.start()
        try:
            with connect(gateway.url("/talk").replace("http", "ws"), compression=None, proxy=None) as talker:
                assert asked(gateway, "readyz") == (200, "ready\n")
                gateway.signal(signal.SIGTERM)
                wait_until(lambda: asked(gateway, "readyz") == (503, "draining\n"), "it is not ready")
                assert asked(gateway, "livez") == (200, "alive\n")
                talker.send("still there")
                assert talker.recv(30) == "still there"
            assert gateway.wait_exit() == 0
        finally:
            gateway.kill()


def test_a_pool_that_a_reload_took_away_is_no_reason_not_to_be_ready(tmp_path: Path) -> None:
    """Though it is there for as long as its last WebSocket."""
    with (
        EchoServer() as echo,
        Reloaded(operated(echo.port), tmp_path) as gateway,
        connect(gateway.url("/talk").replace("http", "ws"), compression=None, proxy=None) as talker,
    ):
        gateway.reload(gateway.text.replace("[pool.site]", "[pool.other]"))
        assert asked(gateway, "readyz") == (200, "ready\n")
        talker.send("still there")
        assert talker.recv(30) == "still there"


def operated(port: int, drain: str = "1 s") -> str:
    text = config(f"127.0.0.1:{port}", f'[metrics]\nlisten = ["127.0.0.1:{free_port()}"]\n')
    return f'{text}[timeouts]\ndrain = "{drain}"\n'.replace("127.0.0.1:0", f"127.0.0.1:{free_port()}")


def asked(gateway: Reloaded, path: str) -> tuple[int, str]:
    answer = requests.get(f"http://127.0.0.1:{gateway.metrics_port}/{path}", timeout=30)
    return answer.status_code, answer.text


def check(gateway: GatewayProcess, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bokeh_gateway.cli", "check", *options, "--config", str(gateway.config_path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean_environment(), check=False)


def test_a_file_can_be_checked_while_the_gateway_runs_with_it(tmp_path: Path) -> None:
    """As before a reload: its own ports are no mistake, others' are, and what else is wrong is found."""
    with GatewayProcess(config("127.0.0.1:1", ""), tmp_path) as gateway:
        good = check(gateway)
        assert (good.returncode, "no port was looked at" in good.stderr) == (0, True), good.stderr
        taken = check(gateway, "--ports")
        assert taken.returncode == 1
        assert "expected a free port" in taken.stderr
        gateway.config_path.write_text(gateway.text + '[static]\ncache_dir = "gw.toml/x"\n')
        wrong = check(gateway)
        assert wrong.returncode == 1
        assert "static.cache_dir" in wrong.stderr
        gateway.config_path.write_text(gateway.text)
    after = check(gateway)
    assert (after.returncode, "no port was looked at" in after.stderr) == (0, False), after.stderr


def test_serve_wants_apps_that_exist(tmp_path: Path) -> None:
    """Wrong usage ends at once: workers that cannot start would be tried again and again."""
    command = [sys.executable, "-m", "bokeh_gateway.cli", "serve", str(tmp_path / "missing.py"), "--listen", ":0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean_environment(), check=False)
    assert (ended.returncode, "missing.py" in ended.stderr) == (2, True)
