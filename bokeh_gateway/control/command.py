"""The command line and environment of one supervised worker.  Pure but for `find_program` and a `--glob`.

What `bokeh serve` accepts beside `--unix-socket` was read from bokeh/command/subcommands/serve.py (3.9): `--port`,
`--address` and the TLS files end it at once, also when the TLS files come from the environment.  `panel serve` (1.9)
takes every flag of `bokeh serve` and hands them on, except that its `--dev` takes no value.

The secret key travels in the environment: everybody on the machine can read a command line.
"""

from __future__ import annotations

import glob
import math
import os.path
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from bokeh_gateway.config.schema import Limits, Pool, Sessions
from bokeh_gateway.errors import ConfigError

MAX_SOCKET_PATH: Final = 103
"""Bytes: `sockaddr_un.sun_path` holds 104 on macOS and the BSDs (108 on Linux), the closing zero included."""

DROPPED_ENV: Final = frozenset(
    {
        "BOKEH_ALLOW_WS_ORIGIN",  # the gateway has vouched for the origin and sends none
        "BOKEH_SSL_CERTFILE",  # with a unix socket these end the worker at once
        "BOKEH_SSL_KEYFILE",
        "BOKEH_SSL_PASSWORD",
        "BOKEH_SECRET_KEY",  # set from [sessions], or absent
        "BOKEH_SIGN_SESSIONS",
        "NOTIFY_SOCKET",  # systemd's: they speak of the gateway, not of a worker
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    }
)

OWNED_FLAGS: Final[Mapping[str, str]] = {
    "--unix-socket": "no --unix-socket: the gateway chooses the workers' sockets in [gateway] runtime_dir",
    "--port": "no --port: workers listen on unix sockets; [gateway] listen is the port",
    "--address": "no --address: workers listen on unix sockets; [gateway] listen is the address",
    "--ssl-certfile": "no --ssl-certfile: TLS ends at the gateway, see [tls] certfile",
    "--ssl-keyfile": "no --ssl-keyfile: TLS ends at the gateway, see [tls] keyfile",
    "--num-procs": "no --num-procs: set workers = N, so that every process is supervised and can be chosen",
    "--session-ids": "no --session-ids: set [sessions] mode, which workers and gateway must agree on",
    "--prefix": "no --prefix: set prefix, which the gateway has to know too",
    "--unused-session-lifetime": "no --unused-session-lifetime: set unused_session_lifetime, "
    "which the gateway has to know too",
    "--show": "no --show: open the gateway's address, not a worker's socket",
}

UNUSED_LIFETIME: Final = 60.0
"""Seconds that a supervised worker keeps a session to which nobody is connected.

BokehJS makes 5 tries, 0, 2, 4, 8 and 16 s after the one before (bokehjs 3.9, client/connection:
MAX_RECONNECTION_ATTEMPTS = 5, RECONNECT_BASE_DELAY = 1000, doubled for each try but the first): 30 s, and the time that
each try takes.
"""

_NO_VALUE: Final = frozenset(
    {
        "--use-xheaders",
        "--enable-xsrf-cookies",
        "--disable-index",
        "--disable-index-redirect",
        "--glob",
        "--oauth-refresh-tokens",
        "--oauth-optional",
        "--rest-session-info",
        "--warm",
        "--admin",
        "--autoreload",
        "--liveness",
        "--global-loading-spinner",
    }
)
_MANY_VALUES: Final = frozenset(
    {
        "--exclude-headers",
        "--exclude-cookies",
        "--include-headers",
        "--include-cookies",
        "--index-titles",
        "--static-dirs",
        "--oauth-guest-endpoints",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """All that it takes to start one worker and to tell when it is ready."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    """The whole environment, not an addition to the gateway's."""
    cwd: str | None
    python: str | None
    """Interpreter beside which the program is looked up first; None: the gateway's own."""
    socket: str
    """Path of the unix socket that the worker will listen on; also its address for the data plane."""
    probe_paths: tuple[str, ...]
    """`<prefix>/<app>/metadata` of each app; empty when the apps cannot be told from the command."""
    setting: str
    """Where an operator changes this command: `[pool.demo] serve`."""


def worker_command(
    pool: Pool,
    sessions: Sessions,
    limits: Limits,
    socket_path: str,
    *,
    environ: Mapping[str, str],
    name: str,
) -> Launch:
    """The worker of pool `name` that listens on `socket_path`; `environ` is the gateway's own environment.

    Raises:
        ConfigError: a flag in `serve` or `args` is the gateway's to set, or the socket's path is too long.
    """
    refuse_owned_flags(pool.serve, f"pool.{name}.serve")
    refuse_owned_flags(pool.args, f"pool.{name}.args")
    refuse_long_socket(socket_path)
    cwd = str(pool.cwd)
    return Launch(
        # Ours stand first and each takes a known number of values: what the operator wrote may end in `--args ...`,
        # or in a flag that takes all that follows.
        argv=(
            *pool.command,
            *_own_flags(pool, sessions, limits, socket_path),
            *pool.serve,
            *pool.args,
        ),
        env=worker_environment(environ, pool.env, sessions),
        cwd=cwd,
        python=None if pool.python is None else str(pool.python),
        socket=socket_path,
        probe_paths=tuple(metadata_paths((*pool.serve, *pool.args), pool.prefix, cwd, pool.command)),
        setting=f"[pool.{name}] serve, args, command, env",
    )


def _own_flags(
    pool: Pool,
    sessions: Sessions,
    limits: Limits,
    socket_path: str,
) -> Iterator[str]:
    yield from ("--unix-socket", socket_path, "--use-xheaders", "--session-ids", sessions.mode)
    if prefix := pool.prefix.strip("/"):
        yield from ("--prefix", f"/{prefix}")
    yield from ("--session-token-expiration", str(max(1, math.ceil(sessions.token_expiration))))
    keeps = unused_lifetime(pool)
    yield from ("--unused-session-lifetime", str(math.ceil(keeps * 1000)))
    # A worker that looks too seldom keeps sessions for longer, which is memory; Bokeh's own 17 s is the most.
    yield from ("--check-unused-sessions", str(math.ceil(min(17.0, max(keeps / 2, 0.1)) * 1000)))
    if limits.max_message is not None:
        yield from ("--websocket-max-message-size", str(limits.max_message))


def unused_lifetime(pool: Pool) -> float:
    """Seconds that a supervised worker of `pool` keeps a session to which nobody is connected."""
    return UNUSED_LIFETIME if pool.unused_session_lifetime is None else pool.unused_session_lifetime


def worker_environment(environ: Mapping[str, str], extra: Mapping[str, str], sessions: Sessions) -> dict[str, str]:
    """The gateway's environment without what would harm a worker, and with the secret; `extra` has the last word."""
    env = {key: value for key, value in environ.items() if key not in DROPPED_ENV}
    env.setdefault("PYTHONUNBUFFERED", "1")  # else the last words of a worker that crashes are lost
    if sessions.secret_key is not None:
        env["BOKEH_SECRET_KEY"] = sessions.secret_key.get_secret_value()
    if sessions.mode != "unsigned":
        env["BOKEH_SIGN_SESSIONS"] = "yes"  # for apps that mint session ids themselves; any text counts as true
    env.update(extra)
    return env


def refuse_owned_flags(arguments: Sequence[str], key: str) -> None:
    """Raises ConfigError for the first flag that the gateway sets itself; what follows `--args` is the app's own."""
    for argument in _before_app_args(arguments):
        flag = argument.partition("=")[0]
        if flag in OWNED_FLAGS:
            raise ConfigError(key, list(arguments), OWNED_FLAGS[flag])


def refuse_long_socket(path: str) -> None:
    """Raises ConfigError when the kernel could not bind `path`."""
    length = len(os.fsencode(path))
    if length > MAX_SOCKET_PATH:
        raise ConfigError(
            "gateway.runtime_dir",
            os.path.dirname(path),
            f"a shorter folder: {path} has {length} bytes, and a unix socket's path at most {MAX_SOCKET_PATH}",
        )


def metadata_paths(
    arguments: Sequence[str],
    prefix: str,
    cwd: str | None,
    command: Sequence[str] = ("bokeh", "serve"),
    expand: Callable[[str, str | None], Sequence[str]] | None = None,
) -> list[str]:
    """`<prefix>/<app>/metadata` for each app in `arguments`, the words after `bokeh serve`.

    An app's route is its file's name without extension, or its folder's name (bokeh/application/handlers/code.py).
    """
    files = list(app_files(arguments, dev_takes_values=not _is_panel(command)))
    if "--glob" in _before_app_args(arguments):
        expand = expand or _glob
        files = [match for pattern in files for match in expand(pattern, cwd)]
    start = f"/{stripped}" if (stripped := prefix.strip("/")) else ""
    return [f"{start}{quote(app_route(file, cwd))}/metadata" for file in files]


def app_route(file: str, cwd: str | None) -> str:
    """`/myapp` for `apps/myapp.py`, `apps/myapp/` and `myapp.ipynb`; `.` is named after the folder it is."""
    name = os.path.basename(os.path.abspath(os.path.join(cwd or "", file)))
    stem, extension = os.path.splitext(name)
    return "/" + (stem if extension in {".py", ".ipynb", ".md"} else name)


def app_files(arguments: Sequence[str], *, dev_takes_values: bool = True) -> Iterator[str]:
    """The words of `arguments` that are apps: neither flags nor values of flags, read as argparse would."""
    many = _MANY_VALUES | {"--dev"} if dev_takes_values else _MANY_VALUES
    none = _NO_VALUE if dev_takes_values else _NO_VALUE | {"--dev"}
    values_left = 0.0
    for word in _before_app_args(arguments):
        if word.startswith("-"):
            values_left = 0 if "=" in word or word in none else float("inf") if word in many else 1
        elif values_left > 0:
            values_left -= 1
        else:
            yield word


def find_program(command: Sequence[str], python: str, search_path: str) -> tuple[str, ...]:
    """`command` with its first word made a path: beside `python` first, so that a venv need not be activated.

    `bokeh` and `panel` that are in neither place are run as modules of `python`.  Anything else is returned as it is,
    and its start will say that there is no such program.
    """
    program, *rest = command
    found = shutil.which(program, path=os.pathsep.join((os.path.dirname(python), search_path)))
    if found is not None:
        return (found, *rest)
    if program in {"bokeh", "panel"}:
        return (python, "-m", program, *rest)
    return tuple(command)


def _before_app_args(arguments: Sequence[str]) -> Sequence[str]:
    return arguments[: arguments.index("--args")] if "--args" in arguments else arguments


def _is_panel(command: Sequence[str]) -> bool:
    return any(os.path.basename(word) == "panel" for word in command)


def _glob(pattern: str, cwd: str | None) -> Sequence[str]:
    return sorted(glob.glob(pattern, root_dir=cwd))
