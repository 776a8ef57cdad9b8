"""A stretch of an open file that is sent in pieces, and never with bytes that are not of the file as it was opened."""

from __future__ import annotations

import contextlib
import os

from bokeh_gateway.errors import GatewayError, Side


class FileChanged(GatewayError):
    """The file was cut short or written to while it was sent: close the connection, since its length was promised."""

    status, side = 500, Side.GATEWAY


class FileSlice:
    """`length` bytes at `offset` of a regular file; owns the descriptor.  `len()` is what Content-Length says."""

    __slots__ = ("_fd", "_left", "_offset", "_stamp", "length")

    def __init__(self, fd: int, offset: int, length: int, opened: os.stat_result | None = None) -> None:
        """`opened`: the file as it was when its headers were made; None: as it is now."""
        self._fd = fd
        self._offset = offset
        self._left = self.length = length
        self._stamp = _stamp(opened or os.fstat(fd))

    def __len__(self) -> int:
        return self.length

    def read(self, size: int) -> bytes:
        """The next piece, at most `size` bytes; b"" at the end.

        Raises:
            FileChanged: the file is shorter than promised, or no longer the one whose ETag was sent.
        """
        if self._left == 0:
            return b""
        piece = os.pread(self._fd, min(size, self._left), self._offset)
        if not piece or _stamp(os.fstat(self._fd)) != self._stamp:
            raise FileChanged(f"{self._left} of {self.length} bytes were still to send when the file changed")
        self._offset += len(piece)
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        """Give the descriptor back; may be called again."""
        fd, self._fd, self._left = self._fd, -1, 0
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        # A HEAD, or an exchange that ended early: the descriptor must not outlive its answer.
        with contextlib.suppress(OSError, AttributeError):
            self.close()


def _stamp(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns
