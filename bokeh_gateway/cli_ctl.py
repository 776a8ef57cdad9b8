"""`bokeh-gateway ctl`: speaks to a running gateway through its control socket.

Exit status: 0 done, 1 refused or failed (why is on standard error), 2 wrong usage.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from bokeh_gateway.control.control_path import path_from_file
from bokeh_gateway.control.control_socket import Answer, ask
from bokeh_gateway.units import parse_duration

LOOK_AGAIN: Final = 0.3
"""Seconds between two looks at a drain, or for the program after an upgrade."""
UPGRADE_TIME: Final = 60.0
"""Seconds for that program to answer."""


class Remote:
    """The gateway at the other end, and how to tell what it says."""

    def __init__(self, path: Path, as_json: bool) -> None:
        self.path = path
        self.as_json = as_json

    def ask(self, command: str, target: str = "", drain: float | None = None) -> Answer:
        """What it answers; ends the program where there is none."""
        try:
            return ask(self.path, command, target, drain=drain)
        except OSError as error:
            fail(self._nobody(error))

    def _nobody(self, error: OSError) -> str:
        why = error.strerror or str(error)
        if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
            return f"no gateway answers at {self.path} ({why}); is it running, with this file, as this user?"
        return f"the gateway at {self.path}: {why}"

    def tell(self, answer: Answer) -> None:
        """Prints a plain answer, and ends the program."""
        if self.as_json:
            click.echo(json.dumps(answer))
        elif answer["ok"]:
            click.echo(answer["said"])
        if not answer["ok"]:
            fail(answer["error"])


def fail(why: str) -> NoReturn:
    """Says why, and ends with status 1."""
    click.echo(why, err=True)
    sys.exit(1)


def _seconds(_context: click.Context, _option: click.Parameter, text: str | None) -> float | None:
    try:
        return None if text is None else parse_duration(text)
    except ValueError as expected:
        raise click.BadParameter(f"Expected {expected}.") from None


_drain_option = click.option(
    "--drain", "limit", metavar="TIME", callback=_seconds, help="Time for open sessions to end, such as '5 min'."
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")


@click.group()
@click.option(
    "--config",
    "-c",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file that the gateway runs with: its socket is found from it.",
)
@click.option("--socket", "socket_path", type=click.Path(path_type=Path), help="The socket, [gateway] control.")
@_json_option
@click.pass_context
def ctl(context: click.Context, config_path: Path | None, socket_path: Path | None, as_json: bool) -> None:
    """Command a gateway that runs.

    Exit status 0: done; 1: refused or failed, and why is on standard error.
    """
    config_path = config_path or context.obj
    if (config_path is None) == (socket_path is None):
        raise click.UsageError("Name the gateway by --config or by --socket, one of them.", context)
    path = socket_path
    if path is None:
        assert config_path is not None
        try:
            path = path_from_file(config_path, os.environ)
        except OSError as error:
            raise click.UsageError(f"{config_path}: {error.strerror}", context) from None
        assert path is not None
    context.obj = Remote(path, as_json)


def _remote(context: click.Context, as_json: bool) -> Remote:
    remote: Remote = context.obj
    remote.as_json = remote.as_json or as_json
    return remote


@ctl.command()
@_json_option
@click.pass_context
def status(context: click.Context, as_json: bool) -> None:
    """List pools and workers."""
    remote = _remote(context, as_json)
    answer = remote.ask("status")
    if remote.as_json or not answer["ok"]:
        answer.setdefault("said", "")
        remote.tell(answer)
    else:
        click.echo("\n".join(status_lines(answer)))


@ctl.command()
@click.argument("worker")
@click.option("--wait", is_flag=True, help="Return when nothing is open there any more.")
@_drain_option
@_json_option
@click.pass_context
def drain(context: click.Context, worker: str, wait: bool, limit: float | None, as_json: bool) -> None:
    """Give WORKER no new sessions; after [timeouts] drain its pages connect again and come to others."""
    remote = _remote(context, as_json)
    remote.tell(remote.ask("drain", worker, limit))
    while wait:
        found = _find(remote.ask("status"), worker)
        if found is None or not found["draining"]:
            fail(f"{worker} does not drain any more")
        elif found["drained"]:
            return
        time.sleep(LOOK_AGAIN)


@ctl.command()
@click.argument("worker")
@_json_option
@click.pass_context
def undrain(context: click.Context, worker: str, as_json: bool) -> None:
    """Give WORKER new sessions again."""
    remote = _remote(context, as_json)
    remote.tell(remote.ask("undrain", worker))


@ctl.command()
@_json_option
@click.pass_context
def reload(context: click.Context, as_json: bool) -> None:
    """Read the configuration and the certificates again; a mistake changes nothing and is told."""
    remote = _remote(context, as_json)
    remote.tell(remote.ask("reload"))


@ctl.command()
@click.argument("pool")
@_drain_option
@_json_option
@click.pass_context
def deploy(context: click.Context, pool: str, limit: float | None, as_json: bool) -> None:
    """Start new workers for POOL, which get the new sessions once all are ready.

    When one does not get ready they are ended again, and nothing was changed.  The old workers end with their sessions,
    or after [timeouts] reload_linger.
    """
    remote = _remote(context, as_json)
    remote.tell(remote.ask("deploy", pool, limit))


@ctl.command()
@_json_option
@click.pass_context
def upgrade(context: click.Context, as_json: bool) -> None:
    """Execute the program as it is on disk now; workers, sessions and WebSockets stay."""
    remote = _remote(context, as_json)
    before = remote.ask("status")
    try:
        remote.tell(ask(remote.path, "upgrade"))
    except OSError:
        remote.tell(_after_upgrade(remote, before["upgrades"]))


def _after_upgrade(remote: Remote, earlier: int) -> Answer:
    """What the next program answers: the one that was asked is no more."""
    deadline = time.monotonic() + UPGRADE_TIME
    while time.monotonic() < deadline:
        try:
            found = ask(remote.path, "status", timeout=UPGRADE_TIME)
        except OSError:
            time.sleep(LOOK_AGAIN)
            continue
        if found["upgrades"] > earlier:
            return {"ok": True, "said": f"version {found['version']} runs, in process {found['pid']}"}
        time.sleep(LOOK_AGAIN)
    return {"ok": False, "error": f"the new program did not answer within {UPGRADE_TIME:g} s"}


def _find(answer: Answer, name: str) -> Any:
    workers = [worker for pool in answer["pools"] for worker in pool["workers"]]
    return next((worker for worker in workers if worker["name"] == name), None)


# Words.

_COLUMNS: Final = ("worker", "state", "pid", "WebSockets", "pages", "requests", "load", "address")


def status_lines(answer: Answer) -> list[str]:
    """The answer to `status` for a reader."""
    upgrades = answer["upgrades"]
    lines = [
        f"bokeh-gateway {answer['version']}, process {answer['pid']}, up {_span(answer['uptime'])}"
        + (f", {upgrades} upgrade{'s' * (upgrades > 1)}" if upgrades else ""),
        f"at {' '.join(answer['urls'])}",
        _processes(answer),
        _last_reload(answer["last_reload"]),
    ]
    for pool in answer["pools"]:
        generation = f", generation {pool['generation']}" if pool["kind"] == "bokeh" else ""
        lines += ["", f"pool {pool['name']} ({pool['kind']}{generation})"]
        rows = [_COLUMNS, *(_row(worker) for worker in pool["workers"])]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines += ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return lines


def _span(seconds: float) -> str:
    """`2 d 3 h`, `3 h 5 min`, `12 s`."""
    for large, worth, small, rest in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= worth:
            return f"{seconds // worth:.0f} {large} {seconds % worth // rest:.0f} {small}"
    return f"{seconds:.0f} s"


def _processes(answer: Answer) -> str:
    leaving = len(answer["processes_leaving"])
    more = f", {leaving} more until their WebSockets end" if leaving else ""
    return f"gateway processes: {' '.join(map(str, answer['processes']))}{more}"


def _last_reload(found: Answer | None) -> str:
    if found is None:
        return "last reload: none"
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found["at"]))
    return f"last reload: {at}, " + ("in force" if found["ok"] else f"nothing was changed: {found['error']}")


def _row(worker: Answer) -> tuple[str, ...]:
    state = worker["state"]
    if worker["drain_left"]:
        state += f" ({worker['drain_left']:.0f} s left)"
    counts = (str(worker[key]) for key in ("tunnels", "pages", "requests", "load"))
    return (worker["name"], state, str(worker["pid"] or "-"), *counts, worker["address"])
