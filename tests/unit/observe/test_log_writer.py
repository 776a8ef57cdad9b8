"""Tests of observe/log_writer.py, with real files, pipes and full disks."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bokeh_gateway.errors import ConfigError
from bokeh_gateway.observe.log_writer import BATCH_SIZE, QUEUE_LENGTH, LogWriter


def test_lines_arrive_in_order(tmp_path: Path) -> None:
    """What was flushed and what was not."""
    writer = LogWriter(str(tmp_path / "access.log"))
    for n in range(10):
        writer.write(f"line {n}")
        if n == 5:
            writer.flush()
    writer.close()
    assert (tmp_path / "access.log").read_text().splitlines() == [f"line {n}" for n in range(10)]
    assert writer.dropped == 0


def test_a_file_that_cannot_be_opened_is_a_configuration_error(tmp_path: Path) -> None:
    """Found at the start, not at the first request."""
    with pytest.raises(ConfigError, match=r"log\.access = .*: expected a file that can be appended to"):
        LogWriter(str(tmp_path / "none" / "access.log"))


def test_rotation(tmp_path: Path) -> None:
    """Lines before `reopen` are in the moved file, those after it in the new one."""
    path = tmp_path / "access.log"
    writer = LogWriter(str(path))
    writer.write("before")
    path.rename(tmp_path / "access.log.1")
    writer.reopen()
    writer.write("after")
    writer.close()
    assert (tmp_path / "access.log.1").read_text() == "before\n"
    assert path.read_text() == "after\n"


def test_reopen_that_fails_keeps_the_old_file(tmp_path: Path) -> None:
    """And says so."""
    folder = tmp_path / "logs"
    folder.mkdir()
    warnings: list[str] = []
    writer = LogWriter(str(folder / "access.log"), warnings.append)
    folder.rename(tmp_path / "moved")
    writer.reopen()
    writer.write("still here")
    writer.close()
    assert (tmp_path / "moved" / "access.log").read_text() == "still here\n"
    assert "could not be opened again" in warnings[0]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_gw06_a_full_disk_drops_counts_and_warns_once() -> None:
    """Traffic goes on."""
    warnings: list[str] = []
    writer = LogWriter("/dev/full", warnings.append)
    for _ in range(3):
        writer.write("x")
        writer.write("y")
        writer.flush()
    writer.close()
    assert writer.dropped == 6
    assert len(warnings) == 1
    assert "lines dropped since the start: No space left on device" in warnings[0]


def test_gw06_a_closed_pipe_drops_and_counts(tmp_path: Path) -> None:
    """The reader went away."""
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writer = LogWriter(str(fifo))
    os.close(reader)
    writer.write("x")
    writer.close()
    assert writer.dropped == 1


def test_gw06_a_slow_reader_never_holds_the_loop(tmp_path: Path) -> None:
    """Nobody reads: the queue fills, the rest is dropped, and nothing waits; what arrives is whole lines."""
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writer = LogWriter(str(fifo))
    line = "x" * 1000
    count = (QUEUE_LENGTH + 20) * (BATCH_SIZE // 1000 + 1)
    start = time.perf_counter()
    for _ in range(count):
        writer.write(line)
    assert time.perf_counter() - start < 1.0
    writer.close(deadline=0.05)
    assert 0 < writer.dropped < count
    assert {len(part) for part in os.read(reader, 1 << 20).split(b"\n")[:-1]} == {1000}
    os.close(reader)


def test_a_fifo_without_a_reader_is_an_error_not_a_hang(tmp_path: Path) -> None:
    """At the start."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError):
        LogWriter(str(tmp_path / "pipe"))


def test_many_lines_do_not_wait_for_the_flush(tmp_path: Path) -> None:
    """64 KiB are handed over at once."""
    writer = LogWriter(str(tmp_path / "log"))
    writer.write("x" * BATCH_SIZE)
    assert writer._lines == []
    writer.close()
    assert (tmp_path / "log").stat().st_size == BATCH_SIZE + 1


def test_text_that_is_no_utf_8_is_written_all_the_same(tmp_path: Path) -> None:
    """Lone surrogates come from file names and environment."""
    writer = LogWriter(str(tmp_path / "log"))
    writer.write_now("a\udcffb")
    writer.close()
    assert (tmp_path / "log").read_text() == "a\\udcffb\n"


def test_writing_after_close_is_dropped_and_closing_twice_is_fine(tmp_path: Path) -> None:
    """Late lines at exit raise nothing."""
    writer = LogWriter(str(tmp_path / "log"))
    writer.close()
    writer.write("late")
    writer.flush()
    writer.close()
    assert writer.dropped == 1


def test_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    """`-` as in the configuration."""
    writer = LogWriter("-")
    writer.write("hello")
    writer.close()
    assert capfd.readouterr().out in ("hello\n", "")  # pytest may have put sys.__stdout__ elsewhere
