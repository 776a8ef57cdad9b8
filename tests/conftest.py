"""Fixtures for the tests with real parts, and what their processes said when one fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

# An example may take long, and long to make, on a busy machine; what is too slow is the bench's to say.
settings.register_profile("gateway", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gateway")

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.support.certificates import Certificate
    from tests.support.workers import BokehWorker, RunRecord


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """A failed test shows the last lines of the processes that were running."""
    report = yield
    if report.failed and "tests.support.processes" in sys.modules:
        from tests.support.processes import Process

        for process in list(Process.living):
            if said := process.report():
                report.sections.append((f"output of {process.name}", said))
    return report


@pytest.fixture(scope="session")
def run_record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """Where the workers of `three_workers` note their runs."""
    from tests.support.workers import RunRecord

    return RunRecord(tmp_path_factory.mktemp("record") / "runs")


@pytest.fixture(scope="session")
def session_workers(tmp_path_factory: pytest.TempPathFactory, run_record: RunRecord) -> Iterator[list[BokehWorker]]:
    """Three `bokeh serve` of the recorder app over TCP, started once a test run."""
    from tests.support.workers import bokeh_workers

    with bokeh_workers(
        3, tmp_path_factory.mktemp("workers"), env=run_record.environment, arguments=["--use-xheaders"]
    ) as workers:
        yield workers


@pytest.fixture
def three_workers(session_workers: list[BokehWorker], run_record: RunRecord) -> list[BokehWorker]:
    """The three workers, with `run_record` counting from now."""
    for worker in session_workers:
        worker.require_running()
    run_record.mark()
    return session_workers


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """For localhost and 127.0.0.1, key not encrypted."""
    from tests.support.certificates import make_certificate

    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The system's Chromium, headless; every *.test name is this machine.

    One for a file: the driver's event loop runs in the test's thread, where no other loop can run until it has ended.
    """
    from playwright.sync_api import sync_playwright

    from tests.support.programs import requires_program

    program = requires_program("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--no-proxy-server",
                "--host-resolver-rules=MAP *.test 127.0.0.1",
            ],
        )
        yield browser
        browser.close()
