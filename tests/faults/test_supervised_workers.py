"""Real `bokeh serve` under a supervisor: it comes up, comes back, is told about, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop
from pydantic import SecretStr

from bokeh_gateway.config.address import Address
from bokeh_gateway.config.schema import Limits, Pool, Sessions
from bokeh_gateway.control.command import Launch, worker_command
from bokeh_gateway.control.leash import CANNOT_RUN
from bokeh_gateway.control.probe import metadata
from bokeh_gateway.control.restart import RestartSettings
from bokeh_gateway.control.runtime_dir import RuntimeDir
from bokeh_gateway.control.worker_process import leashed
from bokeh_gateway.control.workers import EventKind, Supervisor, SupervisorSettings, WorkerEvent

DEADLINE = 60.0
"""Seconds; importing Bokeh takes about one on an idle core."""
SECRET = "a-key-that-nobody-may-see-in-a-list"
QUICK = SupervisorSettings(restart=RestartSettings(first_delay=0.05, max_delay=0.1, starts_per_minute=100))

GOOD_APP = "from bokeh.io import curdoc\nfrom bokeh.models import Div\ncurdoc().add_root(Div(text='hello'))\n"


@dataclass
class Watched:
    """A supervisor with all that it said."""

    folder: RuntimeDir
    supervisor: Supervisor
    events: list[WorkerEvent]
    lines: list[str]
    launches: list[Launch] = field(default_factory=list)

    def count(self, kind: EventKind, worker: str | None = None) -> int:
        return sum(event.kind is kind and worker in (None, event.worker) for event in self.events)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for `condition`, looked at every 20 ms."""
        try:
            async with asyncio.timeout(DEADLINE):
                while not condition():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail("not within the deadline; log:\n" + "\n".join(self.lines))


@pytest.fixture
def folder() -> Iterator[RuntimeDir]:
    folder = RuntimeDir()
    yield folder
    folder.remove()


def pool(tmp_path: Path, source: str = GOOD_APP, **settings: Any) -> Pool:
    (tmp_path / "myapp.py").write_text(source)
    return Pool(serve=("myapp.py",)).model_copy(update={"cwd": tmp_path, **settings})


def supervise(
    folder: RuntimeDir,
    pool: Pool,
    sessions: Sessions | None = None,
    workers: int = 1,
    settings: SupervisorSettings = QUICK,
) -> Watched:
    launches = [
        worker_command(
            pool, sessions or Sessions(), Limits(), folder.socket("demo", n), environ=os.environ, name="demo"
        )
        for n in range(1, workers + 1)
    ]
    events: list[WorkerEvent] = []
    lines: list[str] = []
    return Watched(folder, Supervisor("demo", launches, events.append, lines.append, settings), events, lines, launches)


def run(main: Awaitable[None], uv: bool = False) -> None:
    """Runs a test's coroutine on one of the loops."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if uv else None) as runner:
        runner.run(main)  # type: ignore[arg-type]


def gone(pid: int) -> bool:
    """Neither running nor a zombie that waits to be reaped by us."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE and psutil.Process(pid).ppid() != os.getpid()
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("uv", [pytest.param(False, id="asyncio"), pytest.param(True, id="uvloop")])
def test_two_workers_serve_one_is_killed_and_comes_back_and_nothing_is_left(tmp_path, folder, uv):
    async def main() -> None:
        sessions = Sessions().model_copy(update={"mode": "signed", "secret_key": SecretStr(SECRET)})
        watched = supervise(folder, pool(tmp_path, prefix="/bk"), sessions, workers=2)
        await watched.supervisor.start()
        assert await watched.supervisor.settled() == 2
        pids = {name: pid for name, pid in watched.supervisor.pids.items() if pid is not None}
        assert set(pids) == {"demo/1", "demo/2"}
        assert all(SECRET not in " ".join(psutil.Process(pid).cmdline()) for pid in pids.values())

        os.kill(pids["demo/1"], signal.SIGKILL)
        await watched.until(lambda: watched.count(EventKind.READY, "demo/1") == 2)
        (exited,) = [event for event in watched.events if event.kind is EventKind.EXITED]
        assert (exited.worker, exited.code, exited.signal) == ("demo/1", -9, "SIGKILL")
        assert "out of memory" in exited.detail
        assert watched.supervisor.pids["demo/2"] == pids["demo/2"]
        for launch in watched.launches:
            assert (await metadata(Address(unix=launch.socket), "/bk/myapp/metadata", 5.0)).status == 200

        pids_now = [pid for pid in watched.supervisor.pids.values() if pid is not None]
        await watched.supervisor.stop(grace=10.0)
        assert watched.supervisor.states == {"demo/1": "stopped", "demo/2": "stopped"}
        assert all(gone(pid) for pid in (*pids.values(), *pids_now))
        assert not list(folder.path.glob("*.sock"))
        assert watched.count(EventKind.EXITED) == 1

    run(main(), uv)


def test_an_app_that_cannot_be_compiled_is_a_crash_loop_with_its_last_words(tmp_path, folder):
    async def main() -> None:
        watched = supervise(folder, pool(tmp_path, "this is no python\n"))
        await watched.supervisor.start()
        assert await watched.supervisor.settled() == 0
        await watched.until(lambda: watched.count(EventKind.CRASH_LOOP) == 1)
        event = next(event for event in watched.events if event.kind is EventKind.CRASH_LOOP)
        assert (event.code, event.signal) == (1, None)
        assert any("Invalid syntax" in line for line in event.last_lines)
        assert "[pool.demo] serve" in event.detail
        assert watched.count(EventKind.EXITED) == 5

        (tmp_path / "myapp.py").write_text(GOOD_APP)  # the restarts go on, so that a mended file is enough
        await watched.until(lambda: watched.count(EventKind.READY) == 1)
        await watched.supervisor.stop(grace=10.0)

    run(main())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        pytest.param({"command": ("no-such-program", "serve")}, "cannot run no-such-program", id="no-program"),
        pytest.param({"cwd": Path("/nonexistent")}, "could not be started", id="no-folder"),
    ],
)
def test_a_command_that_cannot_run_is_told(tmp_path, folder, settings, said):
    async def main() -> None:
        watched = supervise(folder, pool(tmp_path, **settings))
        await watched.supervisor.start()
        assert await watched.supervisor.settled() == 0
        await watched.supervisor.stop(grace=10.0)
        assert any(said in line for line in watched.lines)
        code = next(event.code for event in watched.events if event.kind is EventKind.EXITED)
        assert code in (None, CANNOT_RUN)

    run(main())


def script_pool(tmp_path: Path, source: str) -> Pool:
    """A pool whose worker is no Bokeh but `source`, where only processes matter."""
    script = tmp_path / "worker.py"
    script.write_text(source)
    return pool(tmp_path, command=(sys.executable, "-u", str(script)))


STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
time.sleep(600)
"""


def child_pid(lines: list[str]) -> int | None:
    return next((int(line.split()[-1]) for line in lines if " child " in line), None)


def test_a_worker_that_ignores_sigterm_is_killed_with_its_children(tmp_path, folder):
    async def main() -> None:
        watched = supervise(folder, script_pool(tmp_path, STUBBORN))
        await watched.supervisor.start()
        await watched.until(lambda: child_pid(watched.lines) is not None)
        began = time.monotonic()
        await watched.supervisor.stop(grace=0.2)
        assert time.monotonic() - began < 5.0
        child = child_pid(watched.lines)
        assert child is not None
        await watched.until(lambda: gone(child))

    run(main())


def test_a_second_stop_does_not_wait_for_the_grace(tmp_path, folder):
    async def main() -> None:
        watched = supervise(folder, script_pool(tmp_path, STUBBORN))
        await watched.supervisor.start()
        await watched.until(lambda: child_pid(watched.lines) is not None)
        began = time.monotonic()
        first = asyncio.ensure_future(watched.supervisor.stop(grace=600.0))
        await asyncio.sleep(0)  # lets the first call say SIGTERM
        await watched.supervisor.stop(grace=600.0)
        await first
        assert time.monotonic() - began < 10.0

    run(main())


def test_a_worker_that_never_answers_is_ended_at_the_deadline(tmp_path, folder):
    async def main() -> None:
        settings = SupervisorSettings(start_timeout=0.5, restart=QUICK.restart)
        watched = supervise(folder, script_pool(tmp_path, "import time; time.sleep(600)"), settings=settings)
        await watched.supervisor.start()
        assert await watched.supervisor.settled() == 0
        assert "did not answer within 0.5 s" in watched.events[1].detail
        await watched.supervisor.stop(grace=5.0)

    run(main())


def test_output_is_named_and_redacted_and_a_flood_is_cut(tmp_path, folder):
    source = """
import sys, time
print("200 GET /app?bokeh-session-id=secret-one&x=1")
sys.stderr.write("on stderr\\n")
for number in range(200_000):
    print("flood", number)
print("the end of the flood", flush=True)
"""

    async def main() -> None:
        watched = supervise(folder, script_pool(tmp_path, source))
        await watched.supervisor.start()
        assert await watched.supervisor.settled() == 0
        await watched.supervisor.stop(grace=5.0)
        own = [line for line in watched.lines if line.startswith("[demo/1] ")]
        assert own[0].startswith("[demo/1] 200 GET /app?bokeh-session-id=")
        assert not any("secret-one" in line for line in watched.lines)
        assert "[demo/1] on stderr" in own
        assert any("lines left out" in line for line in own)
        assert len(own) < 20_000
        exited = next(event for event in watched.events if event.kind is EventKind.EXITED)
        assert exited.last_lines[-1] == "the end of the flood"

    run(main())


GATEWAY = """
import asyncio, json, os, sys
from pathlib import Path
from bokeh_gateway.config.schema import Limits, Pool, Sessions
from bokeh_gateway.control.command import worker_command
from bokeh_gateway.control.workers import Supervisor

async def main():
    pool = Pool(serve=("myapp.py",)).model_copy(update={"cwd": Path(sys.argv[1])})
    launches = [worker_command(pool, Sessions(), Limits(), f"{sys.argv[2]}/{n}.sock", environ=os.environ, name="demo")
                for n in (1, 2)]
    supervisor = Supervisor("demo", launches, lambda event: None, lambda line: print(line, file=sys.stderr))
    await supervisor.start()
    await supervisor.settled()
    print(json.dumps(supervisor.pids), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_workers_end_with_a_gateway_that_was_killed(tmp_path, folder):
    """Nobody is left to stop them: the kernel has to."""
    (tmp_path / "myapp.py").write_text(GOOD_APP)
    gateway = subprocess.Popen(
        [sys.executable, "-c", GATEWAY, str(tmp_path), str(folder.path)], stdout=subprocess.PIPE, text=True
    )
    with gateway:
        assert gateway.stdout is not None
        pids = list(json.loads(gateway.stdout.readline()).values())
        assert len(pids) == 2
        assert not any(gone(pid) for pid in pids)
        gateway.kill()
    deadline = time.monotonic() + 5.0
    while not all(gone(pid) for pid in pids):
        assert time.monotonic() < deadline, "workers outlived their gateway"
        time.sleep(0.02)


def test_the_portable_leash_ends_the_group_when_the_pipe_ends():
    """What is used where the kernel does not offer a signal at the parent's death."""
    command = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"]
    leash = subprocess.Popen(
        leashed(command, pipe=True), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    with leash:
        assert leash.stdin is not None
        assert leash.stdout is not None
        worker = int(leash.stdout.readline())
        leash.stdin.close()
        assert leash.wait(DEADLINE) == -signal.SIGKILL
    deadline = time.monotonic() + 5.0
    while not gone(worker):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("source", "code"),
    [
        pytest.param("raise SystemExit(7)", 7, id="status"),
        pytest.param("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -15, id="signal"),
        pytest.param("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9, id="kill"),
    ],
)
@pytest.mark.parametrize("pipe", [pytest.param(False, id="kernel"), pytest.param(True, id="pipe")])
def test_the_leash_ends_as_the_worker_did(source, code, pipe):
    command = leashed([sys.executable, "-c", source], pipe=pipe)
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as leash:
        assert leash.wait(DEADLINE) == code


def test_a_leash_whose_gateway_is_gone_already_starts_nothing(tmp_path):
    command = list(leashed(["touch", str(tmp_path / "started")], pipe=False))
    command[command.index("--") - 1] = "999999999"
    assert subprocess.run(command, check=False).returncode == 1
    assert not (tmp_path / "started").exists()


def test_the_demo_app_is_served(folder):
    demo = Path(__file__).parents[2] / "bokeh_gateway" / "demo_app"

    async def main() -> None:
        demo_pool = Pool(serve=(str(demo),))
        watched = supervise(folder, demo_pool)
        await watched.supervisor.start()
        assert await watched.supervisor.settled() == 1
        socket_path = watched.launches[0].socket
        reader, writer = await asyncio.open_unix_connection(socket_path, limit=1 << 20)
        writer.write(b"GET /demo_app HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        page = await reader.read()
        writer.close()
        await watched.supervisor.stop(grace=10.0)
        assert b"200 OK" in page[:20]
        assert b"<title>bokeh-gateway demo</title>" in page
        assert not any("error" in line.lower() for line in watched.lines), watched.lines

    run(main())


@pytest.mark.skipif(
    shutil.which("panel", path=os.path.dirname(sys.executable)) is None, reason="panel is not installed"
)
def test_panel_serve_takes_the_same_flags(tmp_path, folder):
    source = "import panel as pn\npn.Row(pn.widgets.IntSlider(name='n')).servable()\n"

    async def main() -> None:
        watched = supervise(folder, pool(tmp_path, source, command=("panel", "serve"), args=("--reuse-sessions",)))
        await watched.supervisor.start()
        assert await watched.supervisor.settled() == 1, watched.lines
        await watched.supervisor.stop(grace=10.0)
        assert not any("is up, but" in line for line in watched.lines), watched.lines

    run(main())
