"""The examples in conf/ are loaded as they stand, and say the truth about defaults."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from bokeh_gateway.config.auth import Basic, Forward, Jwt, Oidc
from bokeh_gateway.config.load import load
from bokeh_gateway.config.schema import Certificate, Config, Health, Pool, Route, RouteHeaders, ServerAddress, Tls

CONF = Path(__file__).parents[3] / "conf"
EXAMPLES = sorted(CONF.glob("*.toml"))
FULL = CONF / "full.toml"
ENVIRON = {"BOKEH_SECRET_KEY": "x" * 44, "BOKEH_COOKIE_SECRET": "y" * 44, "OIDC_SECRET": "z" * 44}
AUTH = {"jwt": Jwt, "oidc": Oidc, "basic": Basic, "forward": Forward}
TABLES: dict[str, type[BaseModel]] = {
    "tls": Tls,
    "tls.certificate": Certificate,
    "route": Route,
    "route.headers": RouteHeaders,
    **{f"auth.{name}": model for name, model in AUTH.items()},
    "pool": Pool,
    "pool.health": Health,
} | {name: type(field.default) for name, field in Config.model_fields.items() if isinstance(field.default, BaseModel)}


def table_of(header: str) -> type[BaseModel]:
    """The model of `[tls]`, `[[route]]` or `[pool.apps]`."""
    return TABLES[kind_of(header)]


def kind_of(header: str) -> str:
    """`pool` for `pool.apps`, `pool.health` for `pool.apps.health`."""
    first, _, rest = header.partition(".")
    return ".".join((first, *rest.split(".")[1:])) if first == "pool" else header


def commented_lines() -> list[tuple[str, str, bool]]:
    """Table, key, and whether the comment says `default`, of every key in full.toml."""
    found, header = [], ""
    for line in FULL.read_text().splitlines():
        if match := re.match(r"\[+([\w.]+)\]+", line):
            header = match[1]
        elif match := re.match(r"(\w+) = ", line):
            says = re.search(r"#\s*default\b", line) is not None
            found.append((header, match[1], says))
    return found


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_loads(path: Path) -> None:
    """With the variables that it names, and nothing else."""
    assert load(path, ENVIRON).route


def test_there_is_an_example_for_each_deployment() -> None:
    """A file that was moved would otherwise leave the test empty."""
    assert {path.stem for path in EXAMPLES} >= {
        "minimal",
        "supervised",
        "tls",
        "embed",
        "signed-sessions",
        "prefix",
        "unix-sockets",
        "flask-parent",
        "sign-in",
        "never-down",
        "full",
    }


def test_full_has_every_key() -> None:
    """A new key of the schema needs its line."""
    shown: dict[str, set[str]] = {}
    for header, key, _ in commented_lines():
        shown.setdefault(kind_of(header), set()).add(key)
    expected = {name: set(model.model_fields) for name, model in TABLES.items()}
    expected["tls"] -= {"certificate"}
    expected["route"] -= {"headers"}
    expected["auth"] -= set(AUTH)
    expected["pool"] -= {"health"}
    assert shown == expected
    assert set(ServerAddress.model_fields) == {"address", "weight", "backup", "slow_start"}


@pytest.mark.parametrize(
    ("header", "key"), [pytest.param(h, k, id=f"{h}.{k}") for h, k, says in commented_lines() if says]
)
def test_a_default_in_full_is_the_default(header: str, key: str) -> None:
    """The value in the file is the schema's, read as the file's."""
    value: Any = tomllib.loads(FULL.read_text())
    for part in header.split("."):
        value = value[part] if isinstance(value, dict) else value[0][part]
    value = value[0] if isinstance(value, list) else value
    model = table_of(header)
    assert getattr(model.model_construct(), key) == read_alone(model, key, value[key])


def read_alone(model: type[BaseModel], key: str, value: object) -> object:
    """The one value as the schema reads it; `.` stays relative here, as the default does."""
    needed = {name: "http://x" for name, field in model.model_fields.items() if field.is_required()}
    return getattr(model.model_validate({**needed, key: value}), key)


def test_what_full_says_of_absence_is_so() -> None:
    """`without:` is the other half of the defaults."""
    gateway = Config().gateway
    assert [str(address) for address in gateway.listen] == ["127.0.0.1:8080"]
    assert (Config().sessions.mode, Config().origins.allow, Config().metrics.listen) == ("unsigned", (), ())
