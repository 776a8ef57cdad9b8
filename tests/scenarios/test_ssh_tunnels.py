"""Behind OpenSSH tunnels: the browser sees another port than the one that the gateway listens on."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from tests.support.bokeh_client import view_page
from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port
from tests.support.ssh import SshServer, ssh_tunnel
from tests.support.workers import BokehWorker, RunRecord, servers


def _config(workers: list[BokehWorker]) -> str:
    return f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nservers = {servers(workers)}\n'


def test_a_local_tunnel(three_workers: list[BokehWorker], run_record: RunRecord, tmp_path: Path) -> None:
    """`ssh -NL`: from a laptop to the host where the gateway runs."""
    with ExitStack() as stack:
        server = stack.enter_context(SshServer(tmp_path))
        gateway = stack.enter_context(GatewayProcess(_config(three_workers), tmp_path))
        port = free_port()
        stack.enter_context(ssh_tunnel(server, "-L", port, f"127.0.0.1:{gateway.port}"))
        for host in ("127.0.0.1", "localhost"):
            with view_page(f"http://{host}:{port}/recorder") as view:
                assert view.socket.pull_document()["title"] == "Recorder"
        assert [run.remote["host"] for run in run_record.runs()] == [f"127.0.0.1:{port}", f"localhost:{port}"]


def test_a_reverse_tunnel_and_a_local_one(
    three_workers: list[BokehWorker], run_record: RunRecord, tmp_path: Path
) -> None:
    """`ssh -NR` to a host between, and `ssh -NL` from the laptop to that host."""
    with ExitStack() as stack:
        server = stack.enter_context(SshServer(tmp_path))
        gateway = stack.enter_context(GatewayProcess(_config(three_workers), tmp_path))
        between, laptop = free_port(), free_port()
        stack.enter_context(ssh_tunnel(server, "-R", between, f"127.0.0.1:{gateway.port}"))
        stack.enter_context(ssh_tunnel(server, "-L", laptop, f"127.0.0.1:{between}"))
        with view_page(f"http://localhost:{laptop}/recorder") as view:
            assert view.socket.pull_document()["title"] == "Recorder"
        assert len(run_record.runs()) == 1
