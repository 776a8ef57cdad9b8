"""Compresses static files once, apart from the event loop, and keeps the results on disk for the next start.

One thread of low priority; zlib and brotli let go of the interpreter lock while they work, so the loop stays
responsive.  BokehJS at brotli 11 takes 3 s and saves a third of the bytes that gzip leaves.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import itertools
import os
import queue
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import brotli

CODINGS = ("gzip", "br")
"""In the order of making: gzip is ready within 0.1 s."""
KEEP = 90 * 86400.0
"""Seconds after its last use that a file stays in the cache folder: past releases of Bokeh go by themselves."""

Job = Callable[["Compressor"], None]


class Compressor:
    """A queue, its thread and the folder.  The thread starts with the first job and ends with the process."""

    def __init__(self, cache_dir: Path | None = None) -> None:
        self._wanted_dir = cache_dir
        self._folder: Path | None = None
        self._jobs: queue.PriorityQueue[tuple[int, int, Job]] = queue.PriorityQueue()
        self._order = itertools.count()
        self._thread: threading.Thread | None = None
        self._pid = 0

    def submit(self, job: Job, rank: int) -> None:
        """Run `job` in the thread, lower ranks first.  Never waits; the job itself says when it is done."""
        if self._pid != os.getpid():
            # First use, or a child of a fork: threads do not come along, and the queue's lock may have been held.
            self._pid, self._thread, self._jobs = os.getpid(), None, queue.PriorityQueue()
        self._jobs.put((rank, next(self._order), job))
        if self._thread is None or not self._thread.is_alive():
            # A daemon: leaving the gateway must not wait for the seconds that brotli takes.
            self._thread = threading.Thread(target=self._run, name="compress", daemon=True)
            self._thread.start()

    def compress(self, content: bytes, coding: str) -> bytes | None:
        """`content` in `coding`, from the folder or made now; None: it gains less than 5 %.  Slow: for jobs only."""
        path = self.folder / f"{hashlib.sha256(content).hexdigest()}.{coding}"
        data = _read(path, content, coding)
        if data is None:
            # Several gateway processes start together: one works, the others find its file.
            with _locked(self.folder / "lock") if coding == "br" else contextlib.nullcontext():
                data = _read(path, content, coding) or _write(path, _encode(content, coding))
        return data if len(data) < len(content) * 0.95 else None

    @property
    def folder(self) -> Path:
        """The cache folder: ours alone, or a private temporary one when the wanted one cannot be had."""
        if self._folder is None:
            wanted = self._wanted_dir or default_cache_dir()
            try:
                self._folder = _private(wanted)
                _prune(self._folder, time.time() - KEEP)
            except OSError:
                self._folder = Path(tempfile.mkdtemp(prefix="bokeh-gateway-"))
        return self._folder

    def _run(self) -> None:
        if sys.platform == "linux":
            # On Linux the priority is the thread's, so that the event loop keeps its own.
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 15)
        jobs = self._jobs
        while True:
            jobs.get()[2](self)


def default_cache_dir() -> Path:
    """`$XDG_CACHE_HOME/bokeh-gateway`, else `~/.cache/bokeh-gateway`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # A relative XDG_CACHE_HOME is to be ignored, says its specification.
    return (Path(base) if os.path.isabs(base) else Path(os.path.expanduser("~"), ".cache")) / "bokeh-gateway"


def _encode(content: bytes, coding: str) -> bytes:
    if coding == "gzip":
        return gzip.compress(content, 9, mtime=0)
    return bytes(brotli.compress(content, quality=11, lgwin=22))


def _decode(data: bytes, coding: str) -> bytes:
    return gzip.decompress(data) if coding == "gzip" else bytes(brotli.decompress(data))


def _read(path: Path, content: bytes, coding: str) -> bytes | None:
    """What the folder has, if it decodes to `content`: nobody's else, half-written or altered file is ever served."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with open(fd, "rb") as file:
        # gzip of a small file may be a little longer than the file; more is not ours and is not even decoded.
        if not stat.S_ISREG(os.fstat(fd).st_mode) or os.fstat(fd).st_size > len(content) + 1024:
            return None
        data = file.read()
    try:
        if _decode(data, coding) != content:
            return None
    except (OSError, EOFError, ValueError, brotli.error):
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return data


def _write(path: Path, data: bytes) -> bytes:
    """Put `data` there in one step; a full disk is no reason not to serve it."""
    name = ""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix="new-", delete=False) as file:
            name = file.name
            file.write(data)
        os.replace(name, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(name)
    return data


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        yield  # the same work is done twice, no more
        return
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _private(folder: Path) -> Path:
    """The folder, made if need be.  OSError: not ours, open to others' writing, or not writable."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(f"{folder}: expected a folder of this user that nobody else may write to")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder}: not writable")
    return folder


def _prune(folder: Path, before: float) -> None:
    for entry in folder.iterdir():
        if entry.name.endswith(CODINGS) or entry.name.startswith("new-"):
            with contextlib.suppress(OSError):
                if entry.lstat().st_mtime < before:
                    entry.unlink()
