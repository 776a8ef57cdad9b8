"""The private folder that holds the sockets of supervised workers.

One gateway has it at a time: a lock that the kernel drops when the gateway dies says so.  What is left of one that was
killed can then be removed without guessing whether somebody still listens there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import Final

from bokeh_gateway.control.command import refuse_long_socket
from bokeh_gateway.errors import ConfigError

KEY: Final = "gateway.runtime_dir"
LOCK: Final = "gateway.lock"
PREFIX: Final = "bokeh-gateway-"
SETTLED: Final = 60.0
"""Seconds after which a lock that nobody holds is no longer one that somebody is about to take."""


class RuntimeDir:
    """Made and locked when constructed; `remove()` undoes both.

    Args:
        configured: `[gateway] runtime_dir`; None makes a private temporary folder.

    Raises:
        ConfigError: it cannot be made, is another user's, can be written by others, or another gateway has it.
    """

    def __init__(self, configured: Path | None = None) -> None:
        self._made = configured is None or not configured.exists()
        self.path: Final = self._make(configured)
        self._lock = self._take_lock()

    @classmethod
    def adopt(cls, path: str, lock: int, made: bool) -> RuntimeDir:
        """The folder that this process made and locked before it was executed anew."""
        folder = cls.__new__(cls)
        folder._made, folder._lock = made, lock
        folder.path = Path(path)  # type: ignore[misc]  # set once, here instead of in __init__
        return folder

    def state(self) -> tuple[str, int, bool]:
        """What `adopt` takes."""
        return str(self.path), self._lock, self._made

    def socket(self, pool: str, number: int, generation: int = 1) -> str:
        """Path of the socket of worker `number` (from 1) of `pool`; the same after each restart.

        Raises:
            ConfigError: it would be longer than the kernel allows.
        """
        mark = "" if generation == 1 else f".{generation}"
        path = str(self.path / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', pool)}-{number}{mark}.sock")
        refuse_long_socket(path)
        return path

    def remove(self) -> None:
        """Removes the lock, and the folder when it was made here; sockets are the supervisors' to remove."""
        if self._lock < 0:
            return
        (self.path / LOCK).unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = -1
        if self._made:
            shutil.rmtree(self.path, ignore_errors=True)

    @staticmethod
    def _make(configured: Path | None) -> Path:
        if configured is None:
            remove_abandoned(Path(tempfile.gettempdir()))
            return Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            configured.mkdir(mode=0o700, parents=True, exist_ok=True)
            state = configured.stat()
        except OSError as exc:
            raise ConfigError(KEY, str(configured), f"a folder that can be made ({exc.strerror})") from exc
        if state.st_uid != os.geteuid():
            raise ConfigError(KEY, str(configured), "a folder that belongs to the gateway's user")
        if state.st_mode & stat.S_IWOTH:
            raise ConfigError(KEY, str(configured), "a folder that others cannot write, such as mode 0700")
        return configured

    def _take_lock(self) -> int:
        descriptor = os.open(self.path / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise ConfigError(KEY, str(self.path), "a folder of its own: another gateway is using it") from None
        return descriptor


def remove_abandoned(parent: Path) -> None:
    """Removes what gateways of this user left among temporary files when they were killed."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another gateway removes it too, or it is another user's
            state = folder.lstat()
            if stat.S_ISDIR(state.st_mode) and state.st_uid == os.geteuid() and _is_abandoned(folder / LOCK):
                shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(lock: Path) -> bool:
    """Raises:
    OSError: it holds no lock: it is not such a folder, or is only being made; or the gateway lives.
    """
    descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return time.time() - os.fstat(descriptor).st_mtime > SETTLED
    finally:
        os.close(descriptor)


def remove_socket(path: str) -> None:
    """Removes the socket that a worker left; any other kind of file stays, and the worker's bind will name it."""
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
