"""The gateway's own log on standard error: one line a record, no control characters, no secrets, no waiting.

Tornado's, uvloop's and every other library's records come the same way, because the handler sits on the root logger.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Final

from bokeh_gateway.observe.log_writer import LogWriter
from bokeh_gateway.observe.redact import redact_message

_ESCAPES: Final = {c: f"\\x{c:02x}" for c in (*range(0x20), *range(0x7F, 0xA0))} | {
    0x0A: "\\n",
    0x0D: "\\r",
    0x09: "\\t",
    # Line and paragraph separators, and the marks that turn the direction of text round.
    **{c: f"\\u{c:04x}" for c in (0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))},
}
MESSAGE_LENGTH: Final = 8192
"""Characters of a record that are kept."""


class LineFormatter(logging.Formatter):
    """`2026-11-25T03:10:00Z WARNING bokeh_gateway.x message`; a traceback follows on the same line after ` | `."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line, redacted as a whole, so that arguments and tracebacks are too."""
        text = record.getMessage()
        if record.exc_info and record.exc_info[0] is not None:
            text += " | " + self.formatException(record.exc_info).replace("\n", " | ")
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        return f"{stamp} {record.levelname} {record.name} {one_line(text)}"


class WriterHandler(logging.Handler):
    """Hands records to a `LogWriter`, which never makes the event loop wait for whoever reads the log."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self.writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record; a record that cannot be formatted is said to be one, and nothing else."""
        try:
            line = self.format(record)
        except Exception as exc:  # noqa: BLE001  a log call must never break what it tells of
            line = f"ERROR {record.name} a log record could not be written: {type(exc).__name__}"
        self.writer.write_now(line)

    def close(self) -> None:
        """At exit: what is left is written, within the writer's deadline."""
        self.writer.close()
        super().close()


def configure(level: str, writer: LogWriter | None = None) -> WriterHandler:
    """Makes the root logger write to `writer` (standard error), from `level` ("debug" ... "critical") up.

    Called again, as a reload does, it changes the level, and the writer only if it is given another.
    """
    root = logging.getLogger()
    root.setLevel(level.upper())
    for old in root.handlers[:]:
        if isinstance(old, WriterHandler) and writer in (None, old.writer):
            return old
        root.removeHandler(old)
        if isinstance(old, WriterHandler):
            old.close()
    handler = WriterHandler(writer or LogWriter("stderr", key="log"))
    handler.setFormatter(LineFormatter())
    root.addHandler(handler)
    # The access log has these already; Tornado would say every 404 once more.
    logging.getLogger("tornado.access").setLevel(logging.CRITICAL)
    logging.captureWarnings(capture=True)
    sys.unraisablehook = _unraisable
    return handler


def set_level(level: str) -> None:
    """From `level` up, where `configure` set the log up; the log of an embedding program is its own."""
    root = logging.getLogger()
    if any(isinstance(handler, WriterHandler) for handler in root.handlers):
        root.setLevel(level.upper())


def one_line(text: str) -> str:
    """`text` without secrets, cut, and with what would move the cursor or start another line escaped."""
    text = redact_message(text)
    if len(text) > MESSAGE_LENGTH:
        text = text[:MESSAGE_LENGTH] + "..."
    return text if text.isprintable() else text.translate(_ESCAPES)


def _unraisable(found: sys.UnraisableHookArgs) -> None:
    # ssl gives a server name that is no ASCII to this hook: the browser's doing, so no more than a debug line.
    browsers = isinstance(found.exc_value, UnicodeDecodeError)
    logging.getLogger("bokeh_gateway").log(
        logging.DEBUG if browsers else logging.ERROR, "%s: %s", found.err_msg or "unraisable", found.exc_value
    )
