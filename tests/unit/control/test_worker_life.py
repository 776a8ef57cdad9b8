"""What a worker has used up."""

from __future__ import annotations

import os
import subprocess
import sys

from bokeh_gateway.control.worker_life import descendants, memory

MIB = 1024 * 1024
CHILD = "import sys; kept = b'x' * 50_000_000; print('ready', flush=True); sys.stdin.read()"
PARENT = f"""
import subprocess, sys, threading
def start():
    global child
    child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdin=subprocess.PIPE)
thread = threading.Thread(target=start)
thread.start(); thread.join()
sys.stdin.read()
child.communicate()
"""


def test_memory_is_that_of_a_process_and_of_its_children() -> None:
    """Whatever thread started them."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        assert 50 * MIB * 0.9 < memory(parent.pid) < 150 * MIB
        assert parent.pid in descendants(os.getpid())
        assert len(list(descendants(parent.pid))) == 1
        parent.stdin.close()
        parent.wait()
        assert memory(parent.pid) == 0
