"""gw.toml to `Config`, with every mistake named at once."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from bokeh_gateway.config.cross import Parts, cross_check
from bokeh_gateway.config.expand import expand
from bokeh_gateway.config.fields import Context
from bokeh_gateway.config.mistake import KeyMistake, explain, mistake, unknown_key
from bokeh_gateway.config.mistake import Path as KeyPath
from bokeh_gateway.config.public_path import with_public_path
from bokeh_gateway.config.schema import Config, Pool, Route, Table, Tls
from bokeh_gateway.errors import ConfigError, ConfigErrors

MAX_FILE: Final = 4 * 1024 * 1024
"""Bytes of a file; a device or a log named by a slip must not fill the memory."""
TLS_ENVIRON: Final = {
    "certfile": "BOKEH_SSL_CERTFILE",
    "keyfile": "BOKEH_SSL_KEYFILE",
    "password": "BOKEH_SSL_PASSWORD",
}
"""Keys of a [tls] table that Bokeh's own variables fill in."""
_POSITION: Final = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)\Z")
T = TypeVar("T", bound=Table)


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """The configuration in the file at `path`.

    Raises:
        ConfigErrors: every mistake, also when the file cannot be read.
    """
    try:
        data = tomllib.loads(_read(path))
    except ConfigError as exc:
        raise ConfigErrors(str(path), [exc]) from None
    except tomllib.TOMLDecodeError as exc:
        raise ConfigErrors(str(path), [_syntax(exc)]) from None
    except RecursionError:
        raise ConfigErrors(str(path), [KeyMistake("file", "fewer brackets inside each other")]) from None
    return parse(data, path.absolute().parent, environ, str(path))


def parse(data: Mapping[str, Any], base: Path, environ: Mapping[str, str], source: str = "gw.toml") -> Config:
    """The configuration in `data`, shaped as TOML gives it; relative paths are relative to `base`.

    Raises:
        ConfigErrors: every mistake; `source` is the name of the file in them.
    """
    expanded, unset = expand(dict(data), environ)
    reader = _Reader(_with_environ(expanded, environ), Context(base.absolute()), unset)
    config = reader.read()
    if config is None:
        raise ConfigErrors(source, reader.mistakes)
    return config


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
        if len(content) > MAX_FILE:
            raise KeyMistake("file", "a TOML file of at most 4 MiB")
        return content.decode()
    except OSError as exc:
        raise KeyMistake("file", f"a file that can be read: {exc.strerror}") from None
    except UnicodeDecodeError as exc:
        line = content[: exc.start].count(b"\n") + 1
        raise KeyMistake(f"line {line}", "UTF-8, as TOML is") from None


def _syntax(exc: tomllib.TOMLDecodeError) -> ConfigError:
    """The parser's sentence with its place in front.  The line itself is not shown: it may hold a secret."""
    text = str(exc)
    position = _POSITION.search(text)
    if position is None:
        return KeyMistake("file", f"TOML: {text}")
    place = f"line {position[1]}, column {position[2]}" if position[1] else "end of file"
    return KeyMistake(place, f"TOML: {text[: position.start()]}")


def _with_environ(data: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """The file with what Bokeh's variables say where it is silent."""
    tls, sessions, gateway = data.get("tls"), data.get("sessions"), data.get("gateway", {})
    if isinstance(tls, dict):
        data = data | {"tls": _tls_defaults(environ) | tls}
        if isinstance(gateway, dict) and "listen" not in gateway:
            data["gateway"] = gateway | {"listen": []}
    if isinstance(sessions, dict) and sessions.get("mode") in ("signed", "external-signed"):
        secret = environ.get("BOKEH_SECRET_KEY")
        data = data | {"sessions": ({"secret_key": secret} if secret else {}) | sessions}
    auth = data.get("auth")
    if isinstance(auth, dict):
        data = data | {"auth": _auth_defaults(environ) | auth}
    return dict(with_public_path(data))


def _tls_defaults(environ: Mapping[str, str]) -> dict[str, str]:
    """The keys that are set in the environment; a path there is relative to where the command was given."""
    found = {key: environ[name] for key, name in TLS_ENVIRON.items() if environ.get(name)}
    return {key: value if key == "password" else os.path.abspath(value) for key, value in found.items()}


def _auth_defaults(environ: Mapping[str, str]) -> dict[str, Any]:
    secret, xsrf = environ.get("BOKEH_COOKIE_SECRET"), environ.get("BOKEH_XSRF_COOKIES", "")
    found: dict[str, Any] = {"cookie_secret": secret} if secret else {}
    return found | ({"xsrf": True} if xsrf.lower() in ("yes", "on", "true", "1") else {})


class _Reader:
    """Reads table by table, so that a mistake in one leaves the others to be checked."""

    def __init__(self, data: Mapping[str, Any], context: Context, unset: list[tuple[KeyPath, ConfigError]]) -> None:
        self.mistakes = [error for _, error in unset]
        self._data = data
        self._context = context
        self._unset = [path for path, _ in unset]

    def read(self) -> Config | None:
        """The configuration, or None when there are `mistakes`."""
        plain = {
            name: self._table((name,), type(field.default))
            for name, field in Config.model_fields.items()
            if isinstance(field.default, Table)
        }
        tls = self._table(("tls",), Tls) if "tls" in self._data else None
        pools = dict(self._pools())
        routes = dict(self._routes())
        self._unknown_tables()
        self._cross_check(plain, tls, pools, routes)
        if self.mistakes:
            return None
        route = tuple(routes.values()) or (Route(pool=next(iter(pools))),)
        return Config.model_validate({**plain, "tls": tls, "pool": pools, "route": route})

    def _table(self, path: KeyPath, model: type[T], value: object = None) -> T | None:
        """One table, or None when it holds mistakes."""
        value = self._data.get(str(path[0]), {}) if len(path) == 1 else value
        try:
            return model.model_validate(value, context=self._context)
        except ValidationError as exc:
            found = [e for e in exc.errors() if not self._is_unset((*path, *e["loc"]))]
            self.mistakes += [explain(error, path, self._data) for error in found]
            return None

    def _is_unset(self, path: KeyPath) -> bool:
        """Whether the value at `path` waits for a variable: then that is the mistake to tell."""
        return any(path[: len(unset)] == unset for unset in self._unset)

    def _pools(self) -> Iterator[tuple[str, Pool]]:
        pools = self._data.get("pool", {})
        if not isinstance(pools, dict):
            self.mistakes.append(mistake(("pool",), pools, "tables with a name: [pool.apps]"))
            return
        for name, value in pools.items():
            pool = self._named_pool(name, value)
            if pool is not None:
                yield name, pool

    def _named_pool(self, name: str, value: object) -> Pool | None:
        if not isinstance(value, dict) and name in Pool.model_fields:
            self.mistakes.append(KeyMistake(f"pool.{name}", f"a pool with a name: [pool.apps] with {name} in it"))
            return None
        return self._table(("pool", name), Pool, value)

    def _routes(self) -> Iterator[tuple[int, Route]]:
        routes = self._data.get("route", [])
        if not isinstance(routes, list):
            self.mistakes.append(KeyMistake("route", "a list of tables: [[route]] with two brackets"))
            return
        for index, value in enumerate(routes):
            route = self._table(("route", index), Route, value)
            if route is not None:
                yield index, route

    def _unknown_tables(self) -> None:
        for name, value in self._data.items():
            if name not in Config.model_fields:
                self.mistakes.append(unknown_key((name,), value))

    def _cross_check(
        self, plain: Mapping[str, Any], tls: Tls | None, pools: dict[str, Pool], routes: dict[int, Route]
    ) -> None:
        joined = {name: plain[name] for name in ("gateway", "sessions", "timeouts", "metrics", "auth")}
        told = {error.key for error in self.mistakes}
        found = cross_check(Parts(self._data, tls=tls, pools=pools, routes=routes, **joined))
        self.mistakes += [error for error in found if error.key not in told]
