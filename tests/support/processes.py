"""A process that a test starts, with its output in files, which is gone when the test is."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from tests.support.waiting import GENEROUS, wait_until

ROOT = Path(__file__).resolve().parents[2]


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment less what would change Bokeh or redirect requests; the repository is importable."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("BOKEH_") and not name.lower().endswith("_proxy")
    }
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    kept["PYTHONUNBUFFERED"] = "1"
    return kept | dict(extra or {})


class Process:
    """A child in its own process group; standard output and error each go to a file."""

    living: ClassVar[weakref.WeakSet[Process]] = weakref.WeakSet()
    """For the report of a failed test: what these said last."""

    def __init__(self, name: str, command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.command = list(command)
        self.folder = folder
        self.env = clean_environment(env)
        self.stdout_path = folder / f"{name}.stdout"
        self.stderr_path = folder / f"{name}.stderr"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
        else:
            self.kill()

    def launch(self) -> None:
        """Starts it and does not wait."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.stdout_path.open("wb") as out, self.stderr_path.open("wb") as err:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=self.env, start_new_session=True
            )
        Process.living.add(self)

    def start(self) -> None:
        """Starts it and waits until it is ready."""
        self.launch()
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise

    def wait_ready(self) -> None:
        """Returns when the process does its work; override."""

    def stop(self) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} was not started"
        return self.process.pid

    @property
    def exit_status(self) -> int | None:
        return self.process.poll() if self.process else None

    @property
    def stdout(self) -> str:
        return self.stdout_path.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return self.stderr_path.read_text(errors="replace")

    def require_running(self) -> None:
        if self.exit_status is not None:
            raise AssertionError(f"{self.name} ended by itself with status {self.exit_status}\n{self.report()}")

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait_exit(self, within: float = GENEROUS) -> int:
        assert self.process is not None
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {within} s\n{self.report()}") from None

    def kill(self) -> None:
        """Ends the whole process group at once; harmless when it is gone."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        Process.living.discard(self)

    def wait_for_output(self, text: str, within: float = GENEROUS) -> str:
        """The first line of standard error, then output, which holds `text`."""

        def found() -> str | None:
            return next((line for line in (self.stderr + self.stdout).splitlines() if text in line), None)

        try:
            return wait_until(found, f"{text!r} in the output of {self.name}", within)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.report()}") from None

    def report(self, lines: int = 60) -> str:
        """The last lines of both outputs, for people."""
        parts = []
        for label, path in (("stderr", self.stderr_path), ("stdout", self.stdout_path)):
            if path.exists() and (text := path.read_text(errors="replace").strip()):
                parts.append(f"--- {label} of {self.name}\n" + "\n".join(text.splitlines()[-lines:]))
        return "\n".join(parts)


def wait_port(port: int, process: Process, within: float = GENEROUS) -> None:
    """Returns when something accepts on 127.0.0.1:port; fails at once when `process` ended."""

    def accepts() -> bool:
        process.require_running()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    wait_until(accepts, f"{process.name} listens on port {port}", within)
