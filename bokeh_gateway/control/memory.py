"""Memory that processes share through a descriptor; nothing of it is left in any file system."""

from __future__ import annotations

import os
import sys
import tempfile


def shared_memory(size: int) -> int:
    """A descriptor of `size` zero bytes, closed on exec."""
    if sys.platform == "linux":
        fd = os.memfd_create("bokeh-gateway-board", os.MFD_CLOEXEC)
    else:
        fd, path = tempfile.mkstemp(prefix="bokeh-gateway-board-")
        os.unlink(path)
    os.ftruncate(fd, size)
    return fd
