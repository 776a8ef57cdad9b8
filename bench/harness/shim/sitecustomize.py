"""Counts the calls of a gateway process's Python code in the file BENCH_PYTHON_CALLS; found first on PYTHONPATH.

The master, which moves no bytes, is not counted.  It begins with the first socket, so that starting is not slowed.
"""

import mmap
import os
import sys

if "bokeh_gateway.process" in sys.orig_argv and (path := os.environ.pop("BENCH_PYTHON_CALLS", "")):
    with open(path, "r+b") as file:
        counter = memoryview(mmap.mmap(file.fileno(), 8)).cast("Q")
    begun: list[bool] = []

    def _count(frame: object, event: str, argument: object, calls: tuple[str, str] = ("call", "c_call")) -> None:
        if event in calls:
            counter[0] += 1

    def _audit(event: str, arguments: object) -> None:
        if event == "socket.__new__" and not begun:
            begun.append(True)
            sys.setprofile(_count)

    sys.addaudithook(_audit)
