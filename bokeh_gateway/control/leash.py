"""Runs a worker that cannot outlive the gateway, not even one that was killed with SIGKILL.

    python -I -S leash.py [--pipe] PARENT -- PROGRAM ARGUMENT...

Linux: asks the kernel for SIGKILL when the parent is gone, then becomes PROGRAM (the request survives exec).  SIGKILL,
because a worker whose loop is blocked by an app would not act on SIGTERM, and nobody would be left to insist.
Elsewhere (`--pipe`): stays as PROGRAM's parent and holds standard input, a pipe whose end of file means that the
gateway is gone; then the whole process group is killed.

Run by path and isolated: it imports no package, so that it costs a worker's start some 15 ms.
"""

from __future__ import annotations

import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
CANNOT_RUN = 127  # what a shell says of a command it did not find


def main(argv: list[str]) -> int:
    """Does not return on Linux, unless PROGRAM cannot be run or the gateway is gone already."""
    pipe = argv[:1] == ["--pipe"]
    parent, separator, *command = argv[1:] if pipe else argv
    if separator != "--" or not command:
        print(__doc__, file=sys.stderr)
        return 2
    _reset_signals()
    if pipe:
        return _guard(command)
    _die_with_parent()
    if os.getppid() != int(parent):  # it died before the kernel was asked, and no signal will come
        return 1
    return _become(command)


def _reset_signals() -> None:
    """The gateway may have ignored or blocked what a worker has to hear."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _die_with_parent() -> None:
    import ctypes  # Linux only, and not needed elsewhere

    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        print(f"cannot tie the worker to the gateway: {os.strerror(ctypes.get_errno())}", file=sys.stderr)


def _become(command: list[str]) -> int:
    try:
        os.execvp(command[0], command)
    except OSError as exc:
        print(f"cannot run {command[0]}: {exc.strerror}", file=sys.stderr)
    return CANNOT_RUN


def _guard(command: list[str]) -> int:
    """Waits for PROGRAM and for the pipe, whichever ends first."""
    import threading  # not needed on Linux

    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os._exit(_become(command))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # sent to the whole group: PROGRAM acts on it, and this waits for PROGRAM
    threading.Thread(target=_kill_group_at_eof, daemon=True).start()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:  # end as PROGRAM did, so that the gateway can name the signal
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def _kill_group_at_eof() -> None:
    while os.read(0, 1):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
