"""How a mistake in the file is said: the key as the file writes it, a value that is safe to show, the nearest name.

Secrets are never shown: neither those of the secret keys, nor what stands under a key that may be a misspelt one.
Pure: no I/O.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from bokeh_gateway.config.auth import Basic, Forward, Jwt, Oidc
from bokeh_gateway.config.schema import Certificate, Config, Pool, Route, ServerAddress, Table, Tls
from bokeh_gateway.errors import ConfigError

Path = tuple[str | int, ...]

SECRET_KEYS: Final = frozenset({"secret_key", "password", "previous_keys", "cookie_secret", "secret", "client_secret"})
_SECRET_WORDS: Final = ("secret", "pass", "pwd", "key", "token", "credential")
_PLAIN: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "string_type": lambda ctx: "a string",
    "tuple_type": lambda ctx: "a list",
    "dict_type": lambda ctx: "a table",
    "model_type": lambda ctx: "a table",
    "model_attributes_type": lambda ctx: "a table",
    "literal_error": lambda ctx: str(ctx["expected"]).replace("'", '"'),
    "greater_than_equal": lambda ctx: f"{ctx['ge']} or more",
    "less_than_equal": lambda ctx: f"{ctx['le']} or less",
    "too_short": lambda ctx: "at least one item",
    "value_error": lambda ctx: str(ctx["error"]),
}
MODELS: Final[Mapping[tuple[str, ...], type[Table]]] = {
    ("tls",): Tls,
    ("tls", "certificate", "*"): Certificate,
    ("pool", "*"): Pool,
    ("pool", "*", "servers", "*"): ServerAddress,
    ("route", "*"): Route,
    ("auth", "jwt"): Jwt,
    ("auth", "oidc"): Oidc,
    ("auth", "basic"): Basic,
    ("auth", "forward"): Forward,
}
"""The tables that do not stand in the file under the name of a field of Config whose type is the table."""


class KeyMistake(ConfigError):
    """A mistake with no value to show: something missing, unknown or unreadable."""

    def __init__(self, key: str, expected: str) -> None:
        super().__init__(key, None, expected)
        self.args = (key, expected)

    def __str__(self) -> str:
        return f"{self.key}: expected {self.expected}"


class Brief:
    """Stands for a table or a long list in a message."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def key_text(path: Path) -> str:
    """`("pool", "apps", "servers", 1)` is `pool.apps.servers[1]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def is_secret(path: Path) -> bool:
    """Whether what stands at `path` is for nobody's eyes."""
    # A pool may have any name, so that the names of keys count only where keys stand.
    keys = path[2:] if path[:1] == ("pool",) else path
    hashes = path[:3] == ("auth", "basic", "users")
    return hashes or any(part in SECRET_KEYS for part in keys) or keys[:1] == ("env",)


def shown(path: Path, value: object) -> object:
    """The value as a message may show it."""
    if is_secret(path):
        return "***"
    if isinstance(value, Mapping):
        return Brief("{...}")
    if isinstance(value, (list, tuple)) and any(isinstance(item, (Mapping, list)) for item in value):
        return Brief("[...]")
    return str(value) if isinstance(value, str) else value


def mistake(path: Path, value: object, expected: str) -> ConfigError:
    """A ConfigError that shows no secret."""
    return ConfigError(key_text(path), shown(path, value), expected)


def explain(error: ErrorDetails, root: Path, data: object) -> ConfigError:
    """What pydantic found below `root` of the whole file's `data`, in the file's words."""
    path = _path_in(data, (*root, *error["loc"]))
    kind = error["type"]
    if kind == "missing":
        return KeyMistake(key_text((*root, *error["loc"])), "a value, it is needed here")
    if kind == "extra_forbidden":
        return unknown_key(path, value_at(data, path))
    plain = _PLAIN.get(kind)
    expected = plain(error.get("ctx", {})) if plain else error["msg"]
    return mistake(path, value_at(data, path), expected)


def unknown_key(path: Path, value: object) -> ConfigError:
    """An unknown key, with the nearest known one; its value is shown only where it cannot be a secret."""
    name = str(path[-1])
    where = f"a key of [{key_text(path[:-1])}]" if len(path) > 1 else "a table of the file"
    near = nearest(name, path[:-1])
    expected = f"{where}; did you mean {near}?" if near else f"{where}: {', '.join(known_keys(path[:-1]))}"
    secret = any(word in f"{name} {near}".lower() for word in _SECRET_WORDS)
    if secret or isinstance(value, (str, Mapping, list, tuple)):
        return KeyMistake(key_text(path), expected)
    return ConfigError(key_text(path), value, expected)


def nearest(name: str, table: Path) -> str | None:
    """The known key that `name` was probably meant to be: of this table, else the same name in another one."""
    near = difflib.get_close_matches(name.lower(), known_keys(table), n=1, cutoff=0.6)
    if near:
        return near[0]
    for other, model in tables():
        if name in model.model_fields:
            return f"{name} in [{other}]"
    return None


def closest(name: str, names: Iterable[str]) -> str:
    """`; did you mean X?`, or nothing when no name is near."""
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""


def known_keys(table: Path) -> list[str]:
    """The keys that may stand in the table at this path."""
    return list(_model(table).model_fields)


def tables() -> Sequence[tuple[str, type[BaseModel]]]:
    """The tables of the file by the name that messages give them."""
    plain = [(name, type(field.default)) for name, field in Config.model_fields.items()]
    named = [(name, kind) for name, kind in plain if issubclass(kind, Table)]
    return [*named, ("tls", Tls), ("pool.<name>", Pool), ("[route]", Route)]


def value_at(data: object, path: Path) -> object:
    """What the file holds at `path`, None if nothing."""
    for part in path:
        if isinstance(data, Mapping):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            return None
    return data


def _path_in(data: object, path: Path) -> Path:
    """`path` cut where the file holds a plain value: the model's parts of it have no key of their own."""
    for depth, part in enumerate(path):
        if not isinstance(data, (Mapping, list)):
            return path[:depth]
        data = value_at(data, (part,))
    return path


def _model(table: Path) -> type[BaseModel]:
    """The model of the table at this path."""
    if not table:
        return Config
    for pattern, model in MODELS.items():
        if len(pattern) == len(table) and all(a in ("*", b) for a, b in zip(pattern, table, strict=True)):
            return model
    return type(Config.model_fields[str(table[0])].default)
