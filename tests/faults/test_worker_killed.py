"""Workers that the gateway runs, through the whole gateway: one is killed under load, or the gateway itself is.

The figure is printed: `python -m pytest tests/faults/test_worker_killed.py -s`.
"""

from __future__ import annotations

import os
import signal
import stat
import time
from pathlib import Path

import psutil
from websockets.exceptions import ConnectionClosed

from tests.support.bokeh_client import PageView, get, view_page
from tests.support.gateway import GatewayProcess
from tests.support.page_load import PageLoad
from tests.support.waiting import wait_until
from tests.support.workers import APPS, RunRecord

SECRET = "a-secret-key-that-nobody-may-read"


def supervised(record: RunRecord, folder: Path, workers: int = 3, more: str = "", hold: str = "15 s") -> GatewayProcess:
    text = (
        f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nserve = ["{APPS / "recorder.py"}"]\nworkers = {workers}\n'
        f'hold = "{hold}"\nenv = {{ TEST_RUN_RECORD = "{record.path}" }}\n'
        f'[sessions]\nmode = "signed"\nsecret_key = "{SECRET}"\n[timeouts]\ndrain = "1 s"\n{more}'
    )
    return GatewayProcess(text, folder)


def test_wf01_wl07_one_of_three_is_killed_under_load(tmp_path: Path) -> None:
    """No page view fails that starts after it, its browsers are told, and it comes back by itself."""
    record = RunRecord(tmp_path / "runs")
    with supervised(record, tmp_path) as gateway:
        url = gateway.url("/recorder")
        views = [view_page(url) for _ in range(6)]
        runs = {run.session_id: run.pid for run in record.runs()}
        victim = runs[views[0].session_id]
        mourners = [view for view in views if runs[view.session_id] == victim]
        others = [view for view in views if runs[view.session_id] != victim]
        assert (len(mourners), len(others)) == (2, 4)
        with PageLoad(url) as load:
            wait_until(lambda: len(load.done) >= 5, "load")
            os.kill(victim, signal.SIGKILL)
            killed = time.monotonic()
            codes = [_close_code(view) for view in mourners]
            told = time.monotonic() - killed
            before = {run.pid for run in record.runs()}
            wait_until(lambda: {run.pid for run in record.runs()} - before - {victim}, "a run on the new worker")
            back = time.monotonic() - killed
            wait_until(lambda: len(load.since(killed)) >= 15, "more load")
        outcomes = load.since(killed)
        failed = [outcome for outcome in outcomes if outcome]
        print(
            f"\nkill -9 of 1 of 3 under load: {len(outcomes)} page views began after it, {len(failed)} failed; "
            f"its browsers got {codes} within {told:.2f} s; back after {back:.1f} s"
        )
        assert not failed
        assert codes == [1012, 1012]
        for view in others:
            assert view.socket.pull_document()["title"] == "Recorder"
            view.close()
        assert "SIGKILL" in gateway.stderr
        wait_until(
            lambda: gateway.stdout.count("close_code=1006 closed_by=worker") >= 2,
            "the ends of both WebSockets in the access log",
        )
        _nothing_secret(gateway, [view.session_id for view in views] + [view.socket.token for view in views])


def _close_code(view: PageView) -> int | None:
    while True:
        try:
            view.socket.receive()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None


def _nothing_secret(gateway: GatewayProcess, secrets: list[str]) -> None:
    """Neither in the logs nor in the command line of any process."""
    said = gateway.stdout + gateway.stderr
    lines = [" ".join(child.cmdline()) for child in psutil.Process(gateway.pid).children(recursive=True)]
    for secret in (SECRET, *secrets):
        assert secret not in said
        assert not any(secret in line for line in lines)


def test_wf07_a_gateway_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    record = RunRecord(tmp_path / "runs")
    gateway = supervised(record, tmp_path, workers=2)
    gateway.start()
    try:
        children = psutil.Process(gateway.pid).children(recursive=True)
        sockets = [Path(word) for child in children for word in child.cmdline() if word.endswith(".sock")]
        assert len(set(sockets)) == 2
        for path in sockets:
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert any(child.environ().get("BOKEH_SECRET_KEY") == SECRET for child in children)
        _nothing_secret(gateway, [])
        os.kill(gateway.pid, signal.SIGKILL)
        gateway.wait_exit()
        wait_until(lambda: not any(_lives(child) for child in children), "all workers end with the gateway", 10)
    finally:
        gateway.kill()
    with supervised(record, tmp_path, workers=1) as again:
        assert get(again.url("/recorder")).status_code == 200


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_wf04_an_app_that_does_not_import_is_named_with_its_last_words(tmp_path: Path) -> None:
    """The gateway runs on and answers 503 with Retry-After."""
    app = tmp_path / "broken.py"
    app.write_text("import this_module_is_nowhere_to_be_found\nthis is no python\n")
    text = f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.apps]\nserve = ["{app}"]\n[timeouts]\ndrain = "1 s"\n'
    with GatewayProcess(text, tmp_path) as gateway:
        assert "0 of 1 workers" in gateway.ready_line
        answer = get(gateway.url("/broken"))
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        gateway.wait_for_output("[apps/1] ")
        gateway.wait_for_output("Invalid syntax")
        gateway.wait_for_output("[pool.apps] serve")


def test_wl07_all_are_killed_and_the_page_recovers_alone(tmp_path: Path) -> None:
    record = RunRecord(tmp_path / "runs")
    with supervised(record, tmp_path, workers=1, hold="0 s") as gateway:
        url = gateway.url("/recorder")
        with view_page(url):
            pass
        os.kill(record.runs()[0].pid, signal.SIGKILL)
        answers = []

        def serves_again() -> bool:
            answers.append(get(url))
            return answers[-1].status_code == 200

        wait_until(serves_again, "the worker is back", every=0.0)

        unavailable = [answer for answer in answers if answer.status_code == 503]
        assert unavailable
        assert all(answer.headers["Retry-After"] for answer in unavailable)
