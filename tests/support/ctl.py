"""`bokeh-gateway ctl` as an operator calls it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from bokeh_gateway.cli import main
from bokeh_gateway.control.control_path import path_from_file
from bokeh_gateway.control.control_socket import ask
from tests.support.waiting import GENEROUS


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


def ctl(config: Path, *words: str) -> Ended:
    """The command, without the start of a program."""
    ended = CliRunner().invoke(main, ["ctl", "--config", str(config), *words])
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return Ended(ended.exit_code, ended.stdout, ended.stderr)


def ctl_socket(socket: Path, *words: str) -> Ended:
    """The same, for a gateway whose socket is known."""
    ended = CliRunner().invoke(main, ["ctl", "--socket", str(socket), *words])
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return Ended(ended.exit_code, ended.stdout, ended.stderr)


def ctl_program(config: Path, *words: str) -> Ended:
    """The command as a program of its own."""
    command = [sys.executable, "-m", "bokeh_gateway.cli", "ctl", "--config", str(config), *words]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=3 * GENEROUS, check=False)
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def done(config: Path, *words: str) -> str:
    """Its output; it has to end with 0."""
    ended = ctl(config, *words)
    assert ended.returncode == 0, (ended.returncode, ended.stdout, ended.stderr)
    return ended.stdout


def refused(config: Path, *words: str) -> str:
    """Why it was refused; it has to end with 1."""
    ended = ctl(config, *words)
    assert ended.returncode == 1, (ended.returncode, ended.stdout, ended.stderr)
    assert ended.stderr.strip()
    return ended.stderr


def status(config: Path) -> dict[str, Any]:
    """As `ctl status --json`."""
    return asked(config, "status")


def asked(config: Path, *words: str) -> dict[str, Any]:
    """The answer to a command, without the start of a program."""
    path = path_from_file(config, os.environ)
    assert path is not None
    return ask(path, *words)


def workers(config: Path) -> dict[str, dict[str, Any]]:
    """Of all pools, by name."""
    return {worker["name"]: worker for pool in status(config)["pools"] for worker in pool["workers"]}
