"""A worker that takes more memory than there is: the kernel kills it, or Python cannot go on; both are said."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.bokeh_client import get
from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port
from tests.support.scrape import figures
from tests.support.waiting import wait_until

APP = """
import os, signal
from bokeh.io import curdoc
from bokeh.models import Div
arguments = curdoc().session_context.request.arguments
if "killed" in arguments:
    os.kill(os.getpid(), signal.SIGKILL)  # what the kernel does to who takes too much
if "abort" in arguments:
    os.abort()  # what C code does that got no memory
curdoc().add_root(Div(text="fine"))
"""


@pytest.mark.parametrize(("how", "signal_name"), [("killed", "SIGKILL"), ("abort", "SIGABRT")])
def test_wf03_how_a_worker_ended_is_in_log_and_metrics_and_it_comes_back(
    how: str, signal_name: str, tmp_path: Path
) -> None:
    metrics = free_port()
    app = tmp_path / "app.py"
    app.write_text(APP)
    text = (
        f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nserve = ["{app}"]\nworkers = 1\nhold = "30 s"\n'
        f'[metrics]\nlisten = ["127.0.0.1:{metrics}"]\n'
    )
    with GatewayProcess(text, tmp_path / "gateway") as gateway:
        assert get(gateway.url("/app")).status_code == 200
        assert get(gateway.url(f"/app?{how}=1")).status_code >= 500
        wait_until(lambda: signal_name in gateway.stderr, "the log says how")
        wait_until(lambda: get(gateway.url("/app")).status_code == 200, "it comes back")
        restarts = {labels: value for (name, labels), value in figures(metrics).items() if "worker_restarts" in name}
        assert any(signal_name in labels and value >= 1 for labels, value in restarts.items())
