"""Finds an entry among those of one size that stand side by side in shared memory."""

from __future__ import annotations

from mmap import mmap


def find_entry(memory: mmap, begins: bytes, start: int, end: int, size: int) -> int:
    """Where the first entry from `start` to `end` stands that begins with these bytes; -1: there is none.

    `start` is where an entry begins.
    """
    at = memory.find(begins, start, end)
    while at >= 0 and (at - start) % size:  # the bytes are there by chance, across two fields
        at = memory.find(begins, at + 1, end)
    return at
