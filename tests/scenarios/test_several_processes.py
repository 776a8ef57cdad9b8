"""`bokeh serve --num-procs 3` as the gateway does it: it runs the workers itself, each on a socket of its own."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.bokeh_client import view_page
from tests.support.gateway import GatewayProcess
from tests.support.workers import APPS, RunRecord


def test_a_supervised_pool_of_three(tmp_path: Path) -> None:
    """Six open pages on three processes, two each, without a flag for origins (OR-07); all end with the gateway."""
    record = RunRecord(tmp_path / "runs")
    text = (
        '[gateway]\nlisten = ["127.0.0.1:0"]\npublic_url = "https://plots.test"\n'
        f'[pool.apps]\nserve = ["{APPS / "recorder.py"}"]\nworkers = 3\n'
    )
    with GatewayProcess(text, tmp_path, env=record.environment) as gateway:
        assert gateway.ready_line.endswith("https://plots.test/ (3 workers)")
        views = [view_page(gateway.url("/recorder")) for _ in range(6)]
        runs = record.runs()
        pids = [run.pid for run in runs]
        assert len(pids) == 6
        assert sorted(pids.count(pid) for pid in set(pids)) == [2, 2, 2]
        for run in runs:
            assert run.headers["x-forwarded-proto"] == "https"
            assert run.headers["x-forwarded-host"] == "plots.test"
            assert run.headers["x-forwarded-port"] == "443"
            assert run.remote["protocol"] == "https"
        for view in views:
            view.close()
    assert not any(_alive(pid) for pid in set(pids))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
