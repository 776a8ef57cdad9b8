"""What the file alone cannot show: files, folders, programs and ports of this machine.

Does I/O: it binds and closes the ports to be listened on, and connects once to every worker that should be running.
Nothing is created or changed.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
import socket
import stat
import sys
import tomllib
from collections.abc import Container, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from bokeh_gateway.config.address import Address
from bokeh_gateway.config.check_tls import certificate_warnings, check_tls, pairs
from bokeh_gateway.config.mistake import SECRET_KEYS, KeyMistake, key_text
from bokeh_gateway.config.origin_pattern import parse_origin_pattern
from bokeh_gateway.config.schema import Config, Pool
from bokeh_gateway.errors import ConfigError

UNIX_PATH_MAX: Final = 104
"""Bytes of `sockaddr_un.sun_path` with its NUL, the smallest of the systems in use (Linux has 108)."""
CONNECT_TIMEOUT: Final = 1.0
"""Seconds for one worker; they are asked side by side."""
SHORT_SECRET: Final = 32
"""Characters; `bokeh secret` makes 44."""


def check_environment(config: Config, *, bind: bool = True) -> list[ConfigError]:
    """Every mistake that shows only on this machine.

    `bind=False` leaves the ports alone: a gateway that runs with this file, or its service manager, holds them.
    """
    return [
        *(check_tls(config.tls) if config.tls else ()),
        *root_workers(config),
        *listen_problems(config, bind=bind),
        *folder_problems(config),
        *_programs(config),
        *(error for name, pool in config.pool.items() if pool.serve for error in _apps(name, pool)),
    ]


def root_workers(config: Config) -> list[ConfigError]:
    """Workers that would run as root, within reach of other machines, though nobody said that they may."""
    if not _by_root(config):
        return []
    tables = (config.gateway, config.tls)
    for address in (address for table in tables if table for address in table.listen):
        if not address.loopback:
            expected = (
                f"the user to run as: workers would run as root and be reached through {address}, and who makes an app "
                'err could do all that root may ("root" if it must be; `bokeh-gateway serve` has --user)'
            )
            return [KeyMistake("gateway.user", expected)]
    return []


def warnings(config: Config, path: Path | None = None) -> list[str]:
    """What works, and is probably not meant; one sentence each.  `path`: the file, to look at who can read it."""
    return [
        *_root_nearby(config),
        *_open_doors(config),
        *_readable_secrets(config, path),
        *_weak_secrets(config),
        *(certificate_warnings(config.tls) if config.tls else ()),
        *_unused_pools(config),
        *_unreachable(config),
    ]


def _by_root(config: Config) -> bool:
    """Whether workers would run as root without a word of the file's."""
    return config.gateway.user is None and os.geteuid() == 0 and any(pool.serve for pool in config.pool.values())


def _root_nearby(config: Config) -> Iterator[str]:
    if _by_root(config):
        yield "workers run as root, and whoever can make an app err may do all that root may: [gateway] user"


def find_program(name: str, path: str | None = None, python: str | None = None) -> str | None:
    """The program that `name` means: a path, or looked up beside `python` (this interpreter) and then on `path` (PATH).

    Beside the interpreter first, so that an environment need not be activated; `bokeh` and `panel` that are in neither
    place are modules of that interpreter.
    """
    interpreter = python or sys.executable
    found = shutil.which(name, path=os.path.dirname(interpreter) or os.defpath) or shutil.which(name, path=path)
    if found is None and name in ("bokeh", "panel") and (python or importlib.util.find_spec(name)):
        return interpreter
    return found


def listen_problems(config: Config, *, bind: bool = True, held: Container[str] = ()) -> Iterator[ConfigError]:
    """Addresses that cannot be listened on.  `held`: as text, those that the gateway has already."""
    for key, address in listen_addresses(config):
        if str(address) in held:
            continue
        problem = _unix_problem(address.unix) if address.unix else None
        if bind and not problem:
            problem = _taken(address.unix) if address.unix else _tcp_problem(address)
        if problem:
            yield ConfigError(key, str(address), problem)


def listen_addresses(config: Config) -> list[tuple[str, Address]]:
    """Every address that the gateway listens on, with its key."""
    tables = (("gateway", config.gateway), ("tls", config.tls), ("metrics", config.metrics))
    return [(f"{n}.listen[{i}]", a) for n, table in tables if table for i, a in enumerate(table.listen)]


def _tcp_problem(address: Address) -> str | None:
    """Why the address cannot be bound, None if it can."""
    try:
        found = socket.getaddrinfo(address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, place = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except socket.gaierror:
        return "an address of this machine: the name has none"
    except OSError as exc:
        return _bind_problem(exc, address)
    return None


def _bind_problem(exc: OSError, address: Address) -> str:
    if exc.errno == errno.EADDRINUSE:
        return "a free port: it is already in use"
    if exc.errno == errno.EADDRNOTAVAIL:
        return "an address of this machine"
    if exc.errno in (errno.EACCES, errno.EPERM) and address.port < 1024:
        return "a port from 1024, or the right to take a lower one (CAP_NET_BIND_SERVICE)"
    return f"an address that can be listened on: {exc.strerror}"


def _unix_problem(path: str) -> str | None:
    """Why no socket can be made at `path`, None if it can.  A stale socket may be replaced."""
    if len(os.fsencode(path)) >= UNIX_PATH_MAX:
        return f"a path shorter than {UNIX_PATH_MAX} bytes: the system takes no longer one for a socket"
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        return f"a path in a folder that exists: there is no {folder}"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"a path in a folder that can be written: {folder} cannot"
    if os.path.lexists(path) and not stat.S_ISSOCK(os.lstat(path).st_mode):
        return "the path of a socket: there is something else"
    return None


def _taken(path: str) -> str | None:
    """Whether somebody serves the socket at `path`."""
    served = os.path.lexists(path) and connect_problem(Address(unix=path)) is None
    return "a socket of its own: another process serves this one" if served else None


def folder_problems(config: Config) -> Iterator[ConfigError]:
    """Folders and files that are not there, or cannot be written."""
    for index, route in enumerate(config.route):
        if route.static and not route.static.is_dir():
            yield ConfigError(f"route[{index}].static", str(route.static), "a folder that exists")
    for key, folder in (
        ("gateway.runtime_dir", config.gateway.runtime_dir),
        ("static.cache_dir", config.static.cache_dir),
    ):
        if folder and not _can_be_made(folder):
            yield ConfigError(key, str(folder), "a folder that can be written, or made")
    access = config.log.access
    if access not in ("-", "off") and not _can_be_written(Path(access)):
        yield ConfigError("log.access", access, "a file that can be written, in a folder that exists")


def _can_be_made(folder: Path) -> bool:
    """Whether the folder is there to be written, or its nearest parent is."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _can_be_written(path: Path) -> bool:
    """A file, a pipe or a terminal to append to, or a place to make one."""
    if path.exists():
        return not path.is_dir() and os.access(path, os.W_OK)
    return path.parent.is_dir() and os.access(path.parent, os.W_OK | os.X_OK)


def _programs(config: Config) -> Iterator[ConfigError]:
    if config.static.python and find_program(config.static.python) is None:
        yield _no_program("static.python", config.static.python)
    for name, pool in config.pool.items():
        path = pool.env.get("PATH")
        if pool.python and find_program(pool.python, path) is None:
            yield _no_program(f"pool.{name}.python", pool.python)
        if pool.serve and find_program(pool.command[0], path, pool.python) is None:
            yield _no_program(f"pool.{name}.command[0]", pool.command[0])


def _no_program(key: str, program: str) -> ConfigError:
    return ConfigError(key, program, "a program that can be run, on PATH or by its path")


def _apps(name: str, pool: Pool) -> Iterator[ConfigError]:
    """The apps of a pool, up to the first option: what follows may be the option's value."""
    if not pool.cwd.is_dir():
        yield ConfigError(f"pool.{name}.cwd", str(pool.cwd), "a folder that exists")
        return
    for index, app in enumerate(pool.serve):
        if app.startswith("-"):
            return
        if not (pool.cwd / app).exists() and not _is_glob(app, pool):
            yield ConfigError(f"pool.{name}.serve[{index}]", app, f"an app that exists, relative to {pool.cwd}")


def _is_glob(app: str, pool: Pool) -> bool:
    """Whether `--glob` makes this a pattern, and something fits."""
    return "--glob" in (*pool.serve, *pool.args) and not os.path.isabs(app) and any(pool.cwd.glob(app))


def _open_doors(config: Config) -> Iterator[str]:
    public = [address for key, address in listen_addresses(config) if not address.loopback and key[:7] != "metrics"]
    open_patterns = [text for text in config.origins.allow if parse_origin_pattern(text).anything]
    if open_patterns and public:
        yield (
            f'[origins] allow has "{open_patterns[0]}" and {public[0]} is public: ANY web site can use the apps through'
            " the browser of anyone who can reach them; list the hosts of the embedding pages instead"
        )
    for network in config.gateway.trusted_proxies:
        if not isinstance(network, str) and network.prefixlen == 0:
            yield f"gateway.trusted_proxies has {network}: anyone can say which address, host and scheme a request has"


def _readable_secrets(config: Config, path: Path | None) -> Iterator[str]:
    for pair in pairs(config.tls) if config.tls else ():
        if _world_readable(pair.keyfile):
            yield f"{pair.keyfile_key}: {pair.keyfile} can be read by everyone on this machine (chmod o-r)"
    if path and _world_readable(path):
        for key in _written_secrets(path):
            yield f"{key} stands in {path}, which everyone on this machine can read (chmod o-r, or ${{NAME}} instead)"


def _world_readable(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def _written_secrets(path: Path) -> Iterator[str]:
    """The keys whose secrets are in the file itself and not in the environment."""
    try:
        data = tomllib.loads(path.read_text())
    except (OSError, ValueError):
        return
    yield from (key_text(key) for key, text in _strings(data) if _is_written_secret(key) and "${" not in text)


def _is_written_secret(key: tuple[str | int, ...]) -> bool:
    return bool(SECRET_KEYS & set(key)) or key[:3] == ("auth", "basic", "users")


def _strings(data: Any, key: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every string of the file with its key."""
    if isinstance(data, str):
        yield key, data
    items = data.items() if isinstance(data, Mapping) else enumerate(data) if isinstance(data, list) else ()
    for part, value in items:
        yield from _strings(value, (*key, part))


def _weak_secrets(config: Config) -> Iterator[str]:
    sessions = config.sessions
    if sessions.mode == "unsigned" and sessions.secrets:
        yield 'sessions.mode is "unsigned": secret_key and previous_keys are not used'
    elif sessions.secret_key and len(sessions.secret_key.get_secret_value()) < SHORT_SECRET:
        yield f"sessions.secret_key has fewer than {SHORT_SECRET} characters: make one with `bokeh secret`"


def _unused_pools(config: Config) -> Iterator[str]:
    used = {route.pool for route in config.route}
    yield from (f"pool.{name}: no route leads to it" for name in config.pool if name not in used)


def _unreachable(config: Config) -> Iterator[str]:
    """Workers that do not answer now; they may come later, so that this is no mistake."""
    servers = [
        (f"pool.{name}.servers[{index}]", server.address)
        for name, pool in config.pool.items()
        for index, server in enumerate(pool.servers)
        if isinstance(server.address, Address)
    ]
    if not servers:
        return
    with ThreadPoolExecutor(max_workers=16) as threads:
        reasons = threads.map(connect_problem, [address for _, address in servers])
    for (key, address), reason in zip(servers, reasons, strict=True):
        if reason:
            yield f"{key}: {address} cannot be reached now: {reason}"


def connect_problem(address: Address) -> str | None:
    """Why nothing can be reached there now, None if it can."""
    try:
        if address.unix:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(CONNECT_TIMEOUT)
                probe.connect(address.unix)
        else:
            socket.create_connection((address.host, address.port), CONNECT_TIMEOUT).close()
    except OSError as exc:
        return exc.strerror or str(exc) or type(exc).__name__
    return None
