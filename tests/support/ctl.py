"""`bokeh-gateway ctl` as an operator calls it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bokeh_gateway.control.control_path import path_from_file
from bokeh_gateway.control.control_socket import ask
from tests.support.waiting import GENEROUS


def ctl(config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The finished command."""
    command = [sys.executable, "-m", "bokeh_gateway.cli", "ctl", "--config", str(config), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=3 * GENEROUS, check=False)


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
