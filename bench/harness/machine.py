"""What a record must say of the machine it was made on: no host name, no path, no address."""

from __future__ import annotations

import os
import platform
import ssl
import time
from importlib import metadata
from pathlib import Path

PACKAGES = ("bokeh", "tornado", "uvloop", "httptools", "brotli", "websockets")


def facts() -> dict[str, object]:
    """CPU model, cores, memory, kernel, interpreter, libraries; values a reader needs to judge the figures."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "interpreter_us": interpreter_us(),
        "openssl": ssl.OPENSSL_VERSION,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def interpreter_us() -> float:
    """Microseconds for 1,000 calls of a small function: builds of one version differ by half in it.

    A distribution's build, made with profiles of its own use, is quicker than one that was just compiled.
    """

    def small(table: dict[str, int], key: str) -> int:
        return table.get(key, 0) + 1

    table = {"a": 1}
    best = float("inf")
    for _ in range(50):
        began = time.perf_counter()
        for _ in range(1000):
            small(table, "a")
        best = min(best, time.perf_counter() - began)
    return round(best * 1e6, 1)


def load() -> float:
    """The one-minute load average; well above the cores in use means that others share the machine."""
    return round(os.getloadavg()[0], 2)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
