"""Who is in [auth.basic], and with which hash: from the configuration, and from its file, which may change any time."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bokeh_gateway.errors import ConfigError
from bokeh_gateway.policy.identity import valid_user
from bokeh_gateway.policy.password import BadHash, check_form

if TYPE_CHECKING:
    from bokeh_gateway.config.auth import Basic

log = logging.getLogger(__name__)

LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the file, and that only when somebody signs in."""

Stamp = tuple[int, int, int]


class Users:
    """All users.

    Raises:
        ConfigError: a hash or a line is no good; shows no hash.
    """

    def __init__(self, settings: Basic) -> None:
        self._written = {name: hashed.get_secret_value() for name, hashed in settings.users.items()}
        for name, hashed in self._written.items():
            _check(f"auth.basic.users.{name}", hashed)
        self._file = settings.file
        self._stamp = _stamp(self._file)
        self._looked = 0.0
        self.hashes = self._read()
        """Hash by name."""

    def refresh(self, now: float) -> bool:
        """Whether the users are others than before, as the file has changed; `now` on any clock in seconds."""
        if self._file is None or now - self._looked < LOOK_EVERY:
            return False
        self._looked = now
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            hashes = self._read()
        except ConfigError as error:
            log.error("the users stay as they were: %s", error)
            return False
        if hashes == self.hashes:
            return False
        self.hashes = hashes
        log.info("auth.basic.file: %s was read again: %d users", self._file, len(hashes))
        return True

    def _read(self) -> dict[str, str]:
        return self._written if self._file is None else self._written | _read_file(self._file)


def _stamp(path: Path | None) -> Stamp | None:
    if path is None:
        return None
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read_file(path: Path) -> dict[str, str]:
    users: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError("auth.basic.file", str(path), f"a text file that can be read: {exc}") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, hashed = line.strip().partition(":")
        key = f"auth.basic.file line {number}"
        if not colon or valid_user(name) is None:
            raise ConfigError(key, "***", "name:hash")
        _check(key, hashed)
        users[name] = hashed
    return users


def _check(key: str, hashed: str) -> None:
    try:
        check_form(hashed)
    except BadHash as bad:
        raise ConfigError(key, "***", str(bad)) from None
