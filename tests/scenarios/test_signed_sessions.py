"""Signed session ids: made by the gateway for pages, or by the parent application and by nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bokeh.util.token import generate_session_id

from tests.support.bokeh_client import get, session_of, view_page
from tests.support.gateway import GatewayProcess
from tests.support.workers import BokehWorker, RunRecord, bokeh_workers, servers

SECRET = "the secret of bokeh secret, long enough for it"


@pytest.fixture(params=["signed", "external-signed"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    return RunRecord(tmp_path / "runs")


@pytest.fixture
def workers(mode: str, record: RunRecord, tmp_path: Path) -> Iterator[list[BokehWorker]]:
    env = record.environment | {"BOKEH_SECRET_KEY": SECRET, "BOKEH_SIGN_SESSIONS": "yes"}
    with bokeh_workers(2, tmp_path, env=env, arguments=["--session-ids", mode]) as started:
        yield started


def test_signed_ids(mode: str, workers: list[BokehWorker], record: RunRecord, tmp_path: Path) -> None:
    """A signed id of the parent's opens; a changed one and, where the parent makes all of them, none is a 403."""
    text = (
        f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nservers = {servers(workers)}\n'
        f'[sessions]\nmode = "{mode}"\nsecret_key = "${{BOKEH_SECRET_KEY}}"\n'
    )
    with GatewayProcess(text, tmp_path, env={"BOKEH_SECRET_KEY": SECRET}) as gateway:
        for _ in range(4):
            given = generate_session_id(SECRET.encode(), signed=True)
            with view_page(gateway.url(f"/recorder?bokeh-session-id={given}")) as view:
                assert view.session_id == given
        assert len(record.runs()) == 4
        forged = generate_session_id(b"another secret", signed=True)
        assert get(gateway.url(f"/recorder?bokeh-session-id={forged}")).status_code == 403
        none = get(gateway.url("/recorder"))
        if mode == "external-signed":
            assert none.status_code == 403
        else:
            with view_page(gateway.url("/recorder")) as view:
                assert session_of(view.socket.token).count(".") == 1
        assert forged not in gateway.stdout + gateway.stderr
