"""The master executes itself anew: the new version has the same process id, sockets, board and children.

Nobody has to be adopted by a stranger: workers and gateway processes stay children of this very process, so they still
end when it is killed, and a service manager sees the same main process.  What the new program needs to know goes
through memory that survives `exec`, as plain values only: the two programs may be of different versions.

A trial run of the new program on the same configuration comes first; one that fails changes nothing.  It does all that
the start does and that can be undone: after `exec` there is no way back, and what does not start ends every worker.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import signal
import sys
from collections.abc import Iterable, MutableMapping
from typing import Any, Final

from bokeh_gateway.control.memory import shared_memory

log = logging.getLogger(__name__)

State = dict[str, Any]
Held = dict[str, Any]
"""What a gateway that runs has and its next program need not get: `listen`, addresses as text, and `control`, the path
of its socket or None."""

STATE: Final = "BOKEH_GATEWAY_STATE"
"""Environment variable: the descriptor of the state, for the program that is executed."""
TRIAL: Final = "BOKEH_GATEWAY_TRIAL"
"""Environment variable: only say whether the gateway could run.  Its value is what `tried` reads."""
FORMAT: Final = 1
"""Of the state; a program that does not know it starts afresh, and loses nothing but sessions."""
TRIAL_TIME: Final = 60.0
HELD_BACK: Final = (signal.SIGTERM, signal.SIGINT)
"""Wait until the new program handles them."""
IGNORED: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Would end a program that does not handle them yet."""


def command() -> list[str]:
    """How this program was started, with the interpreter's full path."""
    return [sys.executable, *sys.orig_argv[1:]]


async def trial(held: Held) -> str | None:
    """Whether the program, as it is on disk now, could run; else why not."""
    env = {**os.environ, TRIAL: json.dumps(held)}
    try:
        process = await asyncio.create_subprocess_exec(
            *command(),
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        return str(error)
    try:
        async with asyncio.timeout(TRIAL_TIME):
            _, said = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return f"its trial did not end within {TRIAL_TIME:g} s"
    if process.returncode == 0:
        return None
    last = said.decode("utf-8", "replace").strip().splitlines()[-3:]
    return f"its trial ended with status {process.returncode}: {' | '.join(last)}"


def tried(environ: MutableMapping[str, str]) -> Held | None:
    """What the gateway holds that asks for a trial; None: this is no trial."""
    text = environ.pop(TRIAL, "")
    if not text:
        return None
    found = json.loads(text)
    return found if isinstance(found, dict) else {}  # an earlier version says "1"


def execute(state: State, descriptors: Iterable[int]) -> None:
    """Becomes the new program; does not return.

    Raises:
        OSError: the interpreter cannot be executed; everything is as before.
    """
    data = pickle.dumps({"format": FORMAT, **state})
    memory = shared_memory(len(data))
    os.pwrite(memory, data, 0)
    kept = [memory, *descriptors]
    for fd in kept:
        os.set_inheritable(fd, True)
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    try:
        os.execve(sys.executable, command(), {**os.environ, STATE: str(memory)})
    finally:  # only when it failed
        for fd in kept:
            os.set_inheritable(fd, False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)
        os.close(memory)


def inherited(environ: MutableMapping[str, str]) -> State | None:
    """What the program before this one left; None after an ordinary start."""
    text = environ.pop(STATE, "")
    if not text.isdigit():
        return None
    fd = int(text)
    try:
        state: State = pickle.loads(os.pread(fd, os.fstat(fd).st_size, 0))
    finally:
        os.close(fd)
    if state.get("format") != FORMAT:
        log.error("upgrade: what the earlier version left cannot be read; its sessions are lost")
        return None
    for kept in state["descriptors"]:
        os.set_inheritable(kept, False)
    return state


def handle_again() -> None:
    """Signals that were held back are delivered now, to whoever handles them."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)
