"""Tests of observe/logging_setup.py."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tornado.log

from bokeh_gateway.observe.log_writer import LogWriter
from bokeh_gateway.observe.logging_setup import WriterHandler, configure, one_line


@pytest.fixture
def log(tmp_path: Path) -> Iterator[tuple[WriterHandler, Path]]:
    """The root logger, writing to a file, and put back afterwards."""
    root = logging.getLogger()
    before, level, hook = root.handlers[:], root.level, sys.unraisablehook
    handler = configure("info", LogWriter(str(tmp_path / "log")))
    yield handler, tmp_path / "log"
    handler.close()
    root.handlers[:] = before
    root.setLevel(level)
    sys.unraisablehook = hook
    logging.captureWarnings(capture=False)


def read(log: tuple[WriterHandler, Path]) -> list[str]:
    """All lines written."""
    log[0].close()
    return log[1].read_text().splitlines()


def test_one_record_is_one_line(log: tuple[WriterHandler, Path]) -> None:
    """GW13: also with line ends, ANSI escapes and a traceback in it."""
    logging.getLogger("bokeh_gateway.x").warning("a\nb \x1b[31m %s", "c\r\u2028\u202ed")
    try:
        raise ValueError("no\nway")
    except ValueError:
        logging.getLogger("bokeh_gateway.x").exception("failed")
    lines = read(log)
    assert len(lines) == 2
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ WARNING bokeh_gateway\.x a\\nb \\x1b\[31m c\\r\\u2028\\u202ed", lines[0]
    )
    assert lines[1].endswith(" | ValueError: no | way")
    assert all(line.isprintable() for line in lines)


def test_tk16_no_secret_in_it(log: tuple[WriterHandler, Path]) -> None:
    """Neither in arguments nor in what Tornado says of a request."""
    tornado.log.app_log.error("Uncaught exception GET %s", "/app?bokeh-session-id=abc&x=1")
    tornado.log.gen_log.warning("headers: Cookie: secret=1")
    lines = read(log)
    assert lines[0].endswith("ERROR tornado.application Uncaught exception GET /app?bokeh-session-id=***&x=1")
    assert lines[1].endswith("WARNING tornado.general headers: Cookie: ***")


def test_the_level_holds_and_can_be_changed(log: tuple[WriterHandler, Path]) -> None:
    """A reload changes the level and keeps the writer."""
    logger = logging.getLogger("bokeh_gateway.x")
    logger.debug("no")
    assert configure("debug") is log[0]
    logger.debug("yes")
    tornado.log.access_log.warning("404 GET /x")
    assert [line.rpartition(" ")[2] for line in read(log)] == ["yes"]


def test_a_record_that_cannot_be_formatted_breaks_nothing(log: tuple[WriterHandler, Path]) -> None:
    """It says that it was one."""
    log[0].emit(logging.LogRecord("bokeh_gateway.x", logging.INFO, "", 0, "%d", ("no number",), None))
    assert read(log) == ["ERROR bokeh_gateway.x a log record could not be written: TypeError"]


def test_long_records_are_cut() -> None:
    """Nobody's header fills the disk."""
    assert len(one_line("x" * 100_000)) < 9000
