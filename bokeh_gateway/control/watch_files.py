"""Which files belong to the apps of a pool, and whether they changed.  Reads folders; knows no pools that run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Final

from bokeh_gateway.control.command import app_files

KINDS: Final = frozenset(
    {
        *(".py", ".ipynb", ".md"),
        *(".html", ".css", ".js", ".mjs", ".ts", ".jinja", ".jinja2", ".svg"),
        *(".yaml", ".yml", ".toml"),
    }
)
"""What apps are made of; not what they write, such as .csv, .json and .log."""
SKIPPED: Final = frozenset({"__pycache__", "node_modules", "site-packages"})
"""Folders, beside hidden ones and virtual environments."""
MOST_FILES: Final = 20_000
"""A home folder named by a slip must not be read twice a second."""

Snapshot = dict[str, tuple[int, int]]
"""Modification time in nanoseconds and size, by path."""


def folders(arguments: Sequence[str], cwd: str) -> list[str]:
    """The folders of the apps among the words after `bokeh serve`: a folder itself, a file's own, none twice."""
    found: list[str] = []
    for app in app_files(arguments):
        path = os.path.abspath(os.path.join(cwd, app))
        found.append(path if os.path.isdir(path) else os.path.dirname(path))
    unique = sorted(set(found))
    return [one for one in unique if not any(one.startswith(other.rstrip("/") + "/") for other in unique)]


def snapshot(roots: Sequence[str], most: int = MOST_FILES) -> tuple[Snapshot, bool]:
    """The files of `roots` as they are now, and whether these are all of them."""
    found: Snapshot = {}
    for path, at in _files(roots):
        if len(found) >= most:
            return found, False
        found[path] = at
    return found, True


def _files(roots: Sequence[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    waiting = list(reversed(roots))
    while waiting:
        try:
            entries = sorted(os.scandir(waiting.pop()), key=lambda entry: entry.name)
        except OSError:
            continue  # gone meanwhile, or nobody may read it: there is nothing to see
        if any(entry.name == "pyvenv.cfg" for entry in entries):
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in SKIPPED:
                        waiting.append(entry.path)
                elif os.path.splitext(entry.name)[1].lower() in KINDS:
                    state = entry.stat()
                    yield entry.path, (state.st_mtime_ns, state.st_size)
            except OSError:
                continue  # gone between the two looks


def changed(before: Snapshot, after: Snapshot) -> list[str]:
    """Paths that are new, gone, or another file."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
