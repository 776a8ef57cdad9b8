"""Which files the browser's side of Bokeh consists of, by address.  Listed once: what is not listed does not exist."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bokeh_gateway.bokeh.assets import Assets
from bokeh_gateway.endpoint.representation import Held, content_type

MIB: Final = 1024 * 1024
LARGEST: Final = 8 * MIB
"""Bytes; a larger file is left to the workers: only source maps come near it."""

_MAIN: Final = tuple(f"js/bokeh{part}.min.js" for part in ("", "-widgets", "-tables", "-gl", "-mathjax", "-api"))


class AssetFile:
    """One address: where its file lies, and what of it is in memory."""

    __slots__ = ("checked", "content", "digest", "hashed", "keep", "listed", "media_type", "other", "path", "queries",
                 "size", "stamp", "steady", "variants")  # fmt: skip

    def __init__(self, path: str, queries: frozenset[bytes], *, hashed: bool, steady: bool, keep: bool) -> None:
        self.path = path
        self.media_type = content_type(os.path.basename(path))
        self.hashed = hashed
        """Bokeh's own: the right `?v=` is the content's SHA-512 (tornado's get_content_version)."""
        self.queries = queries
        """Query strings that name this content."""
        self.steady = steady
        self.keep = keep
        self.listed = stamp(os.stat(path))
        self.stamp = self.listed
        self.other: AssetFile | None = None
        """The same address in another environment's packages."""
        self.content: bytes | None = None
        self.digest = ""
        self.checked = 0.0
        """Seconds of the monotonic clock when memory was last compared with the disk."""
        self.size = 0
        """Bytes held, all codings together."""
        self.variants: dict[str, tuple[Held, Held]] = {}
        """By coding: (without version, with the right one)."""


def stamp(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ino


def list_assets(assets: Assets) -> Iterator[tuple[bytes, AssetFile]]:
    """(what follows /static/, file) of all that one environment has for browsers."""
    if assets.bokeh is not None:
        for name, path in _walk(assets.bokeh):
            yield name.encode(), AssetFile(path, frozenset(), hashed=True, steady=True, keep=name in _MAIN)
    for extension in assets.extensions:
        queries = frozenset(f"v={version}".encode() for version in extension.versions)
        for name, path in _walk(extension.folder):
            keep = name == extension.main
            file = AssetFile(path, queries, hashed=False, steady=extension.steady, keep=keep)
            yield f"extensions/{extension.name}/{name}".encode(), file


def _walk(root: Path) -> Iterator[tuple[str, str]]:
    """(name below `root`, path) of what a browser may ask for."""
    top = os.path.realpath(root)
    for folder, folders, files in os.walk(top):
        folders[:] = [name for name in folders if not name.startswith((".", "__pycache__"))]
        for name in files:
            path = os.path.join(folder, name)
            # Type declarations are for editors; Python files are for nobody.
            if name.startswith(".") or name.endswith(("~", ".py", ".pyc", ".d.ts")):
                continue
            with contextlib.suppress(OSError, UnicodeEncodeError):
                path.encode("utf-8")
                found = os.stat(path)
                inside = not os.path.islink(path) or os.path.realpath(path).startswith(top + os.sep)
                if stat.S_ISREG(found.st_mode) and found.st_size <= LARGEST and inside:
                    yield os.path.relpath(path, top), path
