"""A folder of the user's, served as it is: `[[route]] static = "/srv/files"`.

Only regular files below the folder are served, and none whose name says that it was not meant to be: no dotfiles
(but .well-known), editors' backups, or names that other systems read as devices.  A symlink may lead anywhere inside.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from bokeh_gateway.endpoint.file_slice import FileSlice
from bokeh_gateway.endpoint.representation import REVALIDATE, Answer, Get, Held, Representation, content_type

SMALL: Final = 256 * 1024
"""Bytes up to which a file is read whole and kept in memory; larger ones are sent in pieces from the disk."""
MEMORY: Final = 32 * 1024 * 1024
"""Bytes of small files kept."""
ENTRIES: Final = 4096
"""Small files kept."""

_ESCAPES = re.compile(rb"(?:[^%]|%[0-9A-Fa-f]{2})*")
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$)(?:\..*)?", re.IGNORECASE)
_PLAIN: Final = (
    b"Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n"
)

_TO_WALK: Final = getattr(os, "O_PATH", os.O_RDONLY)  # a folder may allow passing and not listing

_Stamp = tuple[int, int, int, int, int]


def _refusal(status: int, text: str, headers: bytes = b"") -> Answer:
    return Answer(status, _PLAIN + headers, text.encode())


NOT_FOUND: Final = _refusal(404, "Not found: there is no such file here.\n")
FORBIDDEN: Final = _refusal(403, "Forbidden: the gateway may not read this file.\n")
NOT_ALLOWED: Final = _refusal(405, "Files can only be read: use GET or HEAD.\n", b"Allow: GET, HEAD\r\n")
UNSTEADY: Final = _refusal(503, "The file is being written; try again.\n", b"Retry-After: 1\r\n")


class StaticFolder:
    """Files below `root`.  The folder may be a symlink that is moved from release to release."""

    def __init__(self, root: Path) -> None:
        self._root = os.fspath(root.absolute())
        self._held: dict[bytes, tuple[str, _Stamp, Held]] = {}
        self._bytes = 0

    def lookup(self, method: bytes, relative_path: bytes, query: bytes, get: Get) -> Answer:
        """The answer, 404 among them.  `relative_path`: what follows the route's path and its slash, undecoded.

        A body that is a FileSlice is the caller's to close.
        """
        if method != b"GET" and method != b"HEAD":
            return NOT_ALLOWED
        known = self._held.get(relative_path)
        if known is not None:
            path, stamp, held = known
            # Any other file at this address has another inode, so a moved symlink goes the long way.
            with contextlib.suppress(OSError):
                if _stamp(os.stat(path)) == stamp:
                    return _held_answer(method, held, get)
            self._drop(relative_path)
        names = split_path(relative_path)
        if names is None:
            return NOT_FOUND
        try:
            return self._open(method, relative_path, names, query, get)
        except ValueError:
            return NOT_FOUND  # a symlink to a name that is not UTF-8
        except OSError as exc:
            return FORBIDDEN if exc.errno in (errno.EACCES, errno.EPERM) else NOT_FOUND

    def _open(self, method: bytes, address: bytes, names: list[str], query: bytes, get: Get) -> Answer:
        root = os.path.realpath(self._root, strict=True)
        shown = os.path.join(self._root, *names)
        path = self._inside(root, shown)
        found = os.stat(path, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            if names and names[-1]:
                return _to_slash(names[-1], query)
            shown = os.path.join(shown, "index.html")
            path = self._inside(root, shown)
        elif not names or not names[-1]:
            return NOT_FOUND  # a file is no folder
        # Before the open too: opening a device can already do something.
        if not stat.S_ISREG(os.stat(path, follow_symlinks=False).st_mode):
            return NOT_FOUND
        fd = _open_below(root, os.path.relpath(path, root).split(os.sep))
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                return NOT_FOUND
            if found.st_size > SMALL:
                large = _large(method, fd, found, content_type(path), get)
                if isinstance(large.body, FileSlice):
                    fd = -1  # the slice's
                return large
            return self._small(method, address, shown, fd, content_type(path), get)
        finally:
            if fd >= 0:
                os.close(fd)

    def _inside(self, root: str, path: str) -> str:
        """`path` without symlinks.  FileNotFoundError: it is not there, or not below `root`."""
        real = os.path.realpath(path, strict=True)
        if real != root and not real.startswith(root.rstrip(os.sep) + os.sep):
            raise FileNotFoundError(errno.ENOENT, "outside of the folder", path)
        # A symlink must not give another name to what is not served under its own.
        if not all(_servable(name) for name in os.path.relpath(real, root).split(os.sep) if name != "."):
            raise FileNotFoundError(errno.ENOENT, "not served", path)
        return real

    def _small(self, method: bytes, address: bytes, path: str, fd: int, media_type: str, get: Get) -> Answer:
        for _ in range(3):
            before = _stamp(os.fstat(fd))
            body = os.pread(fd, SMALL + 1, 0)
            if _stamp(os.fstat(fd)) == before and len(body) == before[0]:
                break
        else:
            return UNSTEADY
        held = Held(body, etag=_etag(before), modified=before[1] / 1e9, media_type=media_type, caching=REVALIDATE)
        self._keep(address, path, before, held)
        return _held_answer(method, held, get)

    def _keep(self, address: bytes, path: str, stamp: _Stamp, held: Held) -> None:
        """Remember an address that exists; what does not exist is never remembered.  Oldest out."""
        self._drop(address)
        self._held[address] = path, stamp, held
        self._bytes += held.size
        while self._bytes > MEMORY or len(self._held) > ENTRIES:
            self._drop(next(iter(self._held)))

    def _drop(self, address: bytes) -> None:
        known = self._held.pop(address, None)
        if known is not None:
            self._bytes -= known[2].size


def split_path(path: bytes) -> list[str] | None:
    """The decoded names of a path, the last one "" for a folder; None: nothing that is served has such a path.

    Escapes are decoded once, and a name that then holds a separator is none: `..%2f` does not climb.
    """
    if len(path) > 4096 or not _ESCAPES.fullmatch(path):
        return None
    try:
        # UTF-8 as the standard has it: overlong forms of "." and "/" are errors.
        names = [unquote_to_bytes(name).decode("utf-8") for name in path.split(b"/")]
    except UnicodeDecodeError:
        return None
    return names if all(_servable(name) for name in names[:-1]) and (not names[-1] or _servable(names[-1])) else None


def _servable(name: str) -> bool:
    if not name or (name[0] == "." and name != ".well-known"):
        return False
    if name[-1] in "~. " or len(name.encode()) > 255 or _DEVICE.fullmatch(name):
        return False
    return name.isprintable() and "/" not in name and "\\" not in name


def _open_below(root: str, names: list[str]) -> int:
    """Open a path that has no symlinks, and fail if one has come meanwhile.  Never waits, not even for a FIFO."""
    folder = os.open(root, _TO_WALK | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for name in names[:-1]:
            below = os.open(name, _TO_WALK | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = below
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(names[-1], flags, dir_fd=folder)
    finally:
        os.close(folder)


def _large(method: bytes, fd: int, found: os.stat_result, media_type: str, get: Get) -> Answer:
    stamp = _stamp(found)
    whole = Representation(
        etag=_etag(stamp), modified=stamp[1] / 1e9, size=stamp[0], media_type=media_type, caching=REVALIDATE
    )
    wanted = get(b"range") if method == b"GET" else None
    part = (whole.select_range(wanted, get) if wanted is not None else None) or whole.select(get)
    if not part.length:
        return Answer(part.status, part.headers)
    return Answer(part.status, part.headers, FileSlice(fd, part.start, part.length, found))


def _held_answer(method: bytes, held: Held, get: Get) -> Answer:
    wanted = get(b"range") if method == b"GET" else None
    return (held.answer_range(wanted, get) if wanted is not None else None) or held.answer(get)


def _to_slash(name: str, query: bytes) -> Answer:
    # Relative, so that neither scheme, host nor a stripped prefix need be known; "./" since a name may hold a colon.
    where = f"./{quote(name, safe='')}/".encode() + (b"?" + query if query else b"")
    return Answer(308, _PLAIN + b"Location: %s\r\n" % where, b"The folder's address ends in a slash.\n")


def _stamp(found: os.stat_result) -> _Stamp:
    # ctime: a file whose mtime was set back, or that may no longer be read, is another file.
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns, found.st_dev


def _etag(stamp: _Stamp) -> str:
    """As strong as the clock of the file system: two writes within one tick that keep the size look alike."""
    return f"{stamp[1]:x}-{stamp[0]:x}-{stamp[2]:x}-{stamp[3]:x}"
