"""Writes log lines without ever making the event loop wait.

The loop collects lines; a daemon thread writes them.  Between the two is a bounded queue: when the disk is full, the
pipe is closed or its reader is slow, lines are dropped and counted, and traffic goes on.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

from bokeh_gateway.errors import ConfigError

BATCH_SIZE: Final = 64 * 1024
"""Characters that are handed over at once, without waiting for the next flush."""
QUEUE_LENGTH: Final = 64
"""Batches that may wait for the thread: 4 MiB at most."""
WARNING_INTERVAL: Final = 60.0
"""Seconds between two warnings about dropped lines."""
_PIPE_BUF: Final = 4096
"""Bytes that one write puts into a pipe undivided (Linux), when other processes write to it too."""
_WRITABLE_WAIT: Final = 1000
"""Milliseconds between two looks at whether a full pipe is to be given up because the writer is closing."""

_REOPEN: Final = 1
_STOP: Final = 2


class LogWriter:
    """Lines to `path`, or to standard output ("-") or standard error ("stderr").

    `write`, `flush` and `reopen` belong to one thread, the event loop's; `write_now` is for any thread.
    `warn` is told, once a minute at most and from either thread, that lines were dropped.

    Raises:
        ConfigError: the file cannot be opened for appending.
    """

    def __init__(self, path: str, warn: Callable[[str], None] | None = None, key: str = "log.access") -> None:
        self._path = path
        self._warn = warn
        self._lines: list[str] = []
        self._size = 0
        self._queue: SimpleQueue[list[str] | int] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._torn = False
        # Two counts, each with one writer, because += is no atomic step.
        self._refused = 0
        self._failed = 0
        self._warned: float | None = None
        try:
            self._fd = _open(path)
        except OSError as exc:
            raise ConfigError(key, path, f"a file that can be appended to ({exc.strerror})") from exc

    @property
    def dropped(self) -> int:
        """Lines lost since the start."""
        return self._refused + self._failed

    def write(self, line: str) -> None:
        """Takes one line, without its newline.  Never waits."""
        self._lines.append(line)
        self._size += len(line)
        if self._size >= BATCH_SIZE:
            self.flush()

    def write_now(self, line: str) -> None:
        """Takes one line and hands it over at once.  Never waits; any thread may call it."""
        self._hand_over([line])

    def flush(self) -> None:
        """Hands what was collected to the thread.  Never waits; to be called about once a second."""
        if self._lines:
            lines, self._lines, self._size = self._lines, [], 0
            self._hand_over(lines)

    def reopen(self) -> None:
        """Opens the file by its name again, after a rotation moved it.  Keeps the old one when that fails."""
        self.flush()
        if self._path not in ("-", "stderr"):
            self._queue.put(_REOPEN)
            self._ensure_thread()

    def drain(self, deadline: float = 2.0) -> None:
        """Waits until what was handed over is written, for at most `deadline` seconds; it can go on then."""
        self.flush()
        thread, self._thread = self._thread, None
        if thread is not None and thread.is_alive():
            self._queue.put(_STOP)
            thread.join(deadline)

    def close(self, deadline: float = 2.0) -> None:
        """Writes what is left, for at most `deadline` seconds."""
        self.flush()
        self._closing = True
        thread = self._thread
        if thread is not None and thread.is_alive():
            self._queue.put(_STOP)
            thread.join(deadline)
            if thread.is_alive():  # it holds the descriptor: a write that never ends is left to the process's end
                return
        self._thread = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _hand_over(self, lines: list[str]) -> None:
        if self._queue.qsize() >= QUEUE_LENGTH or self._closing:
            self._refused += len(lines)
            self._complain("the reader is too slow")
            return
        self._queue.put(lines)
        self._ensure_thread()

    def _ensure_thread(self) -> None:
        # Started late, and again after a fork, which leaves the thread behind.
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name=f"log {self._path}", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while (item := self._queue.get()) != _STOP:
            if isinstance(item, list):
                self._write_lines(item)
            else:
                self._open_again()

    def _write_lines(self, lines: list[str]) -> None:
        written = 0
        try:
            for chunk, count in _chunks(lines, _PIPE_BUF) if self._divides() else [_together(lines)]:
                self._write_all(chunk)
                written += count
        except OSError as exc:
            self._failed += len(lines) - written
            self._complain(exc.strerror or str(exc))

    def _divides(self) -> bool:
        """Whether another process's lines could come between two halves of a long write."""
        return not stat.S_ISREG(os.fstat(self._fd).st_mode)

    def _write_all(self, data: bytes) -> None:
        if self._torn:  # half a line stands there already: what follows starts a line of its own
            data = b"\n" + data
        rest = memoryview(data)
        while rest:
            try:
                count = os.write(self._fd, rest)
            except BlockingIOError:
                self._wait_until_writable()
                continue
            rest = rest[count:]
            self._torn = rest.nbytes > 0

    def _wait_until_writable(self) -> None:
        """Waits in this thread; raises BlockingIOError when the writer closes meanwhile."""
        poller = select.poll()
        poller.register(self._fd, select.POLLOUT)
        while not poller.poll(_WRITABLE_WAIT):
            if self._closing:
                raise BlockingIOError(0, "the reader is too slow")

    def _open_again(self) -> None:
        try:
            fresh = _open(self._path)
        except OSError as exc:
            if self._warn is not None:
                self._warn(f"log {self._path} could not be opened again: {exc.strerror}")
            return
        old, self._fd, self._torn = self._fd, fresh, False
        with contextlib.suppress(OSError):
            os.close(old)

    def _complain(self, why: str) -> None:
        now = time.monotonic()
        if self._warn is None or (self._warned is not None and now - self._warned < WARNING_INTERVAL):
            return
        self._warned = now
        self._warn(f"log {self._path}: {self.dropped} lines dropped since the start: {why}")


def _open(path: str) -> int:
    if path in ("-", "stderr"):
        # A descriptor of our own, so that nobody's close of sys.stdout hands its number to a socket.
        try:
            return os.dup((sys.__stdout__ if path == "-" else sys.__stderr__).fileno())  # type: ignore[union-attr]
        except (OSError, AttributeError, ValueError):
            return -1
    # Not waiting: a FIFO that nobody reads is an error now, not a start that hangs.
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o640)


def _together(lines: list[str]) -> tuple[bytes, int]:
    """All lines as UTF-8, and their count."""
    return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace"), len(lines)


def _chunks(lines: list[str], size: int) -> list[tuple[bytes, int]]:
    """`lines` as UTF-8 in pieces of at most `size` bytes that end at a line's end, each with its count of lines."""
    chunks: list[tuple[bytes, int]] = []
    piece: list[bytes] = []
    length = 0
    for line in lines:
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        if piece and length + len(data) > size:
            chunks.append((b"".join(piece), len(piece)))
            piece, length = [], 0
        piece.append(data)
        length += len(data)
    chunks.append((b"".join(piece), len(piece)))
    return chunks
