"""An operator's commands: status, drain, undrain, reload and upgrade, through the control socket."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from websockets.exceptions import ConnectionClosed

from bokeh_gateway.bokeh.token import read_claims
from bokeh_gateway.control.control_socket import ask
from tests.faults.test_reload import Reloaded
from tests.support.bokeh_client import BokehSocket, get, page_token, view_page, websocket_url
from tests.support.ctl import ctl, ctl_program, ctl_socket, done, refused, status, workers
from tests.support.ports import free_port
from tests.support.scrape import figures
from tests.support.serve import ServeProcess
from tests.support.waiting import GENEROUS, wait_until
from tests.support.workers import BokehWorker, bokeh_workers, servers

APP = Path(__file__).parents[1] / "support" / "apps" / "template.py"


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[BokehWorker]]:
    with bokeh_workers(2, tmp_path_factory.mktemp("workers"), APP) as running:
        yield running


def config(pool: str, drain: str = "10 min", more: str = "", processes: int = 1) -> str:
    return f"""
[gateway]
listen = ["127.0.0.1:{free_port()}"]
processes = {processes}
{more}
[pool.apps]
{pool}
[pool.apps.health]
max_lag = "60 s"      # a busy machine is no reason to avoid a worker here
timeout = "90 s"
[metrics]
listen = ["127.0.0.1:{free_port()}"]
[timeouts]
drain = "{drain}"
"""


ONE = f'serve = ["{APP}"]'
SUPERVISED = f'serve = ["{APP}"]\nworkers = 2'


def sessions_go_to(gateway: Reloaded, views: int = 4) -> set[str]:
    """Names of the workers that page views open their WebSockets at."""
    before = {name: worker["tunnels"] for name, worker in workers(gateway.config_path).items()}
    with ExitStack() as stack:
        for _ in range(views):
            stack.enter_context(view_page(gateway.url("/template")))
        after = {name: worker["tunnels"] for name, worker in workers(gateway.config_path).items()}
        assert sum(after.values()) - sum(before.values()) == views
    return {name for name, count in after.items() if count > before[name]}


def worker_of(gateway: Reloaded) -> str:
    """The one worker that has a WebSocket open."""
    (name,) = [name for name, worker in workers(gateway.config_path).items() if worker["tunnels"]]
    return name


def close_code(socket: BokehSocket) -> int:
    with contextlib.suppress(ConnectionClosed):
        while True:
            socket.receive()
    code = socket.connection.protocol.close_code
    assert code is not None
    return code


@pytest.mark.parametrize("kind", ["servers", "supervised"])
def test_a_drained_worker_keeps_its_sessions_and_gets_no_new_ones(kind, two_workers, tmp_path):
    text = config(f"servers = {servers(two_workers)}" if kind == "servers" else SUPERVISED, processes=2)
    with Reloaded(text, tmp_path) as gateway:
        file = gateway.config_path
        with view_page(gateway.url("/template")) as view:
            name = worker_of(gateway)
            page = get(gateway.url("/template"))  # one more page, somewhere
            assert "no new sessions" in done(file, "drain", name)
            assert workers(file)[name]["state"] == "draining"
            assert sessions_go_to(gateway) == set(workers(file)) - {name}
            view.socket.pull_document()
            # A page that names a session of it still goes there.
            url = websocket_url(gateway.url("/template"))
            with BokehSocket(url, page_token(page.text)):
                pass
            with BokehSocket(url, view.socket.token) as again:
                again.pull_document()
                assert workers(file)[name]["tunnels"] == 2
            assert "drains already" in done(file, "drain", name)
            gateway.reload(text.replace('drain = "10 min"', 'drain = "11 min"'))
            assert workers(file)[name]["state"] == "draining", "a reload leaves it so"
            assert sessions_go_to(gateway) == set(workers(file)) - {name}
            assert "again" in done(file, "undrain", name)
            assert workers(file)[name]["state"] == "up"
            assert sessions_go_to(gateway) == set(workers(file))
            view.socket.pull_document()


@pytest.mark.parametrize("kind", ["servers", "supervised"])
def test_when_the_drain_is_over_pages_go_on_elsewhere(kind, two_workers, tmp_path):
    text = config(f"servers = {servers(two_workers)}" if kind == "servers" else SUPERVISED, drain="1 s", processes=2)
    with Reloaded(text, tmp_path) as gateway, ExitStack() as stack:
        file = gateway.config_path
        views = [stack.enter_context(view_page(gateway.url("/template"))) for _ in range(4)]
        name, other = workers(file)
        assert workers(file)[name]["tunnels"] == 2
        done(file, "drain", name, "--wait")
        assert workers(file)[name]["state"] == "drained"
        assert (workers(file)[name]["tunnels"], workers(file)[other]["tunnels"]) == (0, 2)
        lost = []
        for view in views:
            try:
                view.socket.pull_document()
            except ConnectionClosed:
                assert close_code(view.socket) == 1012
                lost.append(view.socket.token)
        assert len(lost) == 2
        for token in lost:
            # As BokehJS connects again: the same token, which names the drained worker.
            stack.enter_context(BokehSocket(websocket_url(gateway.url("/template")), token)).pull_document()
        assert (workers(file)[name]["tunnels"], workers(file)[other]["tunnels"]) == (0, 4)
        done(file, "undrain", name)
        assert name in sessions_go_to(gateway)


def test_status_lists_pools_workers_and_the_last_reload(tmp_path):
    text = config(SUPERVISED, more=f'runtime_dir = "{tmp_path / "run"}"', processes=2)
    with Reloaded(text, tmp_path) as gateway:
        socket = tmp_path / "run" / "control.sock"
        assert stat.S_IMODE(socket.stat().st_mode) == 0o600
        ended = ctl_program(gateway.config_path, "status")
        assert (ended.returncode, ended.stderr) == (0, "")
        shown = ended.stdout
        pids = set(gateway.workers())
        for word in ("pool apps (bokeh, generation 1)", "apps/1", "apps/2", "last reload: none", *map(str, pids)):
            assert word in shown
        gateway.reload()
        assert "in force" in done(gateway.config_path, "status")
        answer = json.loads(done(gateway.config_path, "status", "--json"))
        assert {worker["pid"] for worker in workers(gateway.config_path).values()} == pids
        assert len(answer["processes"]) == 2
    assert not socket.exists()


def test_a_reload_says_what_is_wrong_and_changes_nothing(tmp_path):
    text = config(ONE)
    with Reloaded(text, tmp_path) as gateway:
        file = gateway.config_path
        assert "in force" in done(file, "reload")
        for broken in (
            text.replace("processes = 1", 'processes = "many"\nspelling = 1'),
            text.replace("processes = 1", "processes = = 1"),
        ):
            file.write_text(broken)
            why = refused(file, "reload")
            assert "nothing was changed" in why
            assert "gateway.processes" in why or "line 4" in why, why
            assert figures(gateway.metrics_port)["config_last_reload_ok", ""] == 0
            assert not status(file)["last_reload"]["ok"]
            assert get(gateway.url("/template")).status_code == 200
        file.write_text(text)
        done(file, "reload")
        assert figures(gateway.metrics_port)["config_last_reload_ok", ""] == 1


def test_an_upgrade_keeps_the_socket_and_the_drain(tmp_path):
    with Reloaded(config(SUPERVISED), tmp_path) as gateway:
        file, pids = gateway.config_path, gateway.workers()
        done(file, "drain", "apps/1")
        began = psutil.Process(gateway.pid).create_time()
        assert f"process {gateway.pid}" in done(file, "upgrade")
        assert psutil.Process(gateway.pid).create_time() == began
        assert status(file)["upgrades"] == 1
        assert gateway.workers() == pids
        assert workers(file)["apps/1"]["state"] == "draining"
        assert sessions_go_to(gateway) == {"apps/2"}
        # Started again after a crash it is the same worker, and still drained.
        (pid,) = [worker["pid"] for name, worker in workers(file).items() if name == "apps/1"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: workers(file)["apps/1"]["pid"] not in (pid, None), "it is started again", GENEROUS)
        wait_until(lambda: workers(file)["apps/1"]["up"], "it is ready", GENEROUS)
        assert sessions_go_to(gateway) == {"apps/2"}
        done(file, "undrain", "apps/1")
        assert sessions_go_to(gateway) == {"apps/1", "apps/2"}
        file.write_text("listen = 5")
        assert "nothing was changed" in refused(file, "upgrade")
        file.write_text(gateway.text)


def test_what_cannot_be_done_ends_with_1_and_wrong_usage_with_2(tmp_path):
    with Reloaded(config(ONE), tmp_path) as gateway:
        file = gateway.config_path
        assert "there are: apps/1" in refused(file, "drain", "apps/3")
        assert "does not drain" in refused(file, "undrain", "apps/1")
        assert ctl(file, "drain").returncode == 2
        assert ctl(file, "rewind").returncode == 2
        assert ctl(tmp_path / "other.toml", "status").returncode == 2
        assert "another gateway" in second_gateway(tmp_path / "second")
        assert done(file, "status")
    assert "no gateway answers" in refused(file, "status")


def second_gateway(folder: Path) -> str:
    """What one says that shall listen at the first one's socket."""
    socket = folder / "control.sock"
    folder.mkdir()
    text = 'servers = ["127.0.0.1:1"]'
    with Reloaded(config(text, more=f'control = "{socket}"'), folder / "a"):
        late = Reloaded(config(text, more=f'control = "{socket}"'), folder / "b")
        late.launch()
        try:
            assert late.wait_exit() == 2
            return late.stderr
        finally:
            late.kill()


def test_a_page_that_outlived_its_token_goes_on_elsewhere_too(tmp_path):
    """The gateway ended its session, so it may begin anew; one whose session ended otherwise has to be loaded again."""
    more = '[sessions]\ntoken_expiration = "8 s"\ntoken_leeway = "0 s"\n'
    with Reloaded(config(SUPERVISED, drain="1 s") + more, tmp_path) as gateway:
        url = gateway.url("/template")
        with view_page(url) as view:
            expiry = read_claims(view.socket.token).expiry
            assert expiry is not None
            wait_until(lambda: time.time() > expiry + 0.5, "the token's expiry")
            done(gateway.config_path, "drain", worker_of(gateway), "--wait")
            assert close_code(view.socket) == 1012
            with BokehSocket(websocket_url(url), view.socket.token) as again:
                again.pull_document()


def test_a_gateway_without_a_file_says_by_which_socket_it_is_reached(tmp_path):
    with ServeProcess(tmp_path / "serve", APP) as gateway:
        path = Path(re.search(r"ctl --socket (\S+) status", gateway.stderr)[1])
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        told = ctl_socket(path, "deploy", "apps")
        assert (told.returncode, "generation 2" in told.stdout) == (0, True), told
        (pool,) = ask(path, "status")["pools"]
        assert [worker["name"] for worker in pool["workers"] if worker["state"] == "up"] == ["apps/1#2"]
        told = ctl_socket(path, "upgrade")
        assert told.returncode == 0, told
        assert ask(path, "status")["upgrades"] == 1
        gateway.signal(signal.SIGTERM)
        assert gateway.wait_exit() == 0
        assert not path.parent.exists()
