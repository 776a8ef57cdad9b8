"""Three workers by least connections: a page and its WebSocket meet on one worker, and sessions are spread evenly."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.bokeh_client import get, view_page
from tests.support.gateway import GatewayProcess
from tests.support.workers import BokehWorker, RunRecord, servers

PATHS = ["/", "/dash/"]


@pytest.mark.parametrize("path", PATHS, ids=["at-the-root", "under-a-path"])
def test_open_sessions_are_spread(
    three_workers: list[BokehWorker], run_record: RunRecord, tmp_path: Path, path: str
) -> None:
    """Thirty open pages: thirty runs, ten on each; requests for anything else do not count."""
    text = (
        f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nservers = {servers(three_workers)}\n'
        f'[[route]]\npath = "{path}"\npool = "apps"\nstrip_prefix = {"true" if path != "/" else "false"}\n'
    )
    with GatewayProcess(text, tmp_path) as gateway, ExitStack() as stack:
        for number in range(30):
            stack.enter_context(view_page(gateway.url(f"{path}recorder")))
            for _ in range(number % 4):
                assert get(gateway.url(f"{path}recorder/metadata")).status_code == 200
        runs = run_record.runs()
        assert len(runs) == 30
        assert sorted(Counter(run.pid for run in runs).values()) == [10, 10, 10]
