"""The worker's stand-in behind the gateway of a file; a file whose worker says something of its own has its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.recording import RecordingWorker


@pytest.fixture(scope="module")
def recording() -> Iterator[RecordingWorker]:
    with RecordingWorker() as running:
        yield running


@pytest.fixture
def worker(recording: RecordingWorker) -> RecordingWorker:
    recording.forget()
    return recording
