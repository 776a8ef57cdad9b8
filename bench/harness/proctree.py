"""CPU time and memory of a process and everything below it, from the kernel's own accounting.

Source: proc(5).  `/proc/PID/task/TID/schedstat` counts nanoseconds on a CPU; `/proc/PID/stat` counts ticks of 10 ms.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU time so far: nanoseconds of every live thread, and the processes' ticks, which keep ended threads too."""

    threads: dict[tuple[int, int], int]
    ticks_ns: int

    def since(self, before: Usage) -> int:
        """Nanoseconds used since `before`.

        A thread that ended took its schedstat with it; the coarser ticks are used then.
        """
        if before.threads.keys() <= self.threads.keys():
            return sum(self.threads.values()) - sum(before.threads.values())
        return self.ticks_ns - before.ticks_ns


def tree(pids: Iterable[int]) -> list[int]:
    """`pids` and all that descend from them, those that have ended left out."""
    found: dict[int, None] = {}
    for pid in pids:
        try:
            process = psutil.Process(pid)
            below = process.children(recursive=True)
        except psutil.NoSuchProcess:
            continue
        found.update(dict.fromkeys([pid, *(child.pid for child in below)]))
    return list(found)


def usage(pids: Iterable[int]) -> Usage:
    """CPU time of these processes (not of their children: see `tree`)."""
    threads: dict[tuple[int, int], int] = {}
    ticks = 0
    for pid in pids:
        try:
            ticks += _ticks(Path(f"/proc/{pid}/stat").read_text())
            for task in Path(f"/proc/{pid}/task").iterdir():
                threads[pid, int(task.name)] = int((task / "schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return Usage(threads, ticks * TICK_NS)


def _ticks(stat: str) -> int:
    """utime + stime + those of waited-for children: fields 14 to 17, counted after the name in brackets."""
    fields = stat.rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15])


def memory_bytes(pids: Iterable[int]) -> int:
    """Proportional set size: pages shared between these processes count once.  Socket buffers are the kernel's."""
    total = 0
    for pid in pids:
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


def core_busy_ns(cores: set[int]) -> int:
    """Time that these cores were not idle, in ticks of 10 ms.  Field 4 is idle, 5 waits for a disk."""
    total = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            total += sum(int(field) for i, field in enumerate(fields[:8]) if i not in (3, 4))
    return total * TICK_NS
