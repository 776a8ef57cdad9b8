"""What only the machine can tell: real files, real ports."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bokeh_gateway.config.check import check_environment, find_program, root_workers, warnings
from bokeh_gateway.config.load import load, parse
from bokeh_gateway.config.schema import Config


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def config(base: Path, data: dict[str, Any]) -> Config:
    """A configuration that listens on any free port unless it says otherwise."""
    return parse({"gateway": {"listen": ["127.0.0.1:0"]}, "pool": {"a": {"servers": ["127.0.0.1:1"]}}} | data, base, {})


def mistakes(base: Path, data: dict[str, Any], **options: Any) -> list[str]:
    """What is said about this configuration."""
    return [str(error) for error in check_environment(config(base, data), **options)]


def test_nothing_to_say(tmp_path: Path) -> None:
    """A worker that is not there yet is no mistake."""
    assert mistakes(tmp_path, {}) == []


@pytest.mark.parametrize(
    ("gateway", "pool", "uid", "refused"),
    [
        ({"listen": ["0.0.0.0:0"]}, {"serve": ["app.py"]}, 0, True),
        ({"listen": ["127.0.0.1:0", "[::]:0"]}, {"serve": ["app.py"]}, 0, True),
        ({"listen": ["10.0.0.1:80"], "user": "root"}, {"serve": ["app.py"]}, 0, False),
        ({"listen": ["10.0.0.1:80"], "user": "bokeh"}, {"serve": ["app.py"]}, 0, False),
        ({"listen": ["127.0.0.1:0", "[::1]:0", "unix:/run/x"]}, {"serve": ["app.py"]}, 0, False),
        ({"listen": ["0.0.0.0:0"]}, {"serve": ["app.py"]}, 1000, False),
        ({"listen": ["0.0.0.0:0"]}, {"servers": ["127.0.0.1:1"]}, 0, False),
    ],
)
def test_root_runs_no_workers_for_other_machines(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gateway: dict[str, Any],
    pool: dict[str, Any],
    uid: int,
    refused: bool,
) -> None:
    """Unless it is told to, or becomes somebody else."""
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    (tmp_path / "app.py").touch()
    found = [str(mistake) for mistake in root_workers(config(tmp_path, {"gateway": gateway, "pool": {"a": pool}}))]
    assert [mistake.partition(":")[0] for mistake in found] == ["gateway.user"] * refused


def test_a_port_in_use(tmp_path: Path, taken: int) -> None:
    """Said before anything is started; a gateway that reloads holds the port itself."""
    data = {"gateway": {"listen": [f"127.0.0.1:{taken}"]}}
    assert mistakes(tmp_path, data) == [
        f"gateway.listen[0] = '127.0.0.1:{taken}': expected a free port: it is already in use"
    ]
    assert mistakes(tmp_path, data, bind=False) == []


def test_a_port_is_free_after_the_check(tmp_path: Path) -> None:
    """Checking twice finds the same."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    data = {"metrics": {"listen": [f"127.0.0.1:{port}"]}}
    assert mistakes(tmp_path, data) == mistakes(tmp_path, data) == []


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        pytest.param("192.0.2.1:0", "an address of this machine", id="another-machines"),
        pytest.param("unix:none/gw.sock", "a path in a folder that exists", id="no-folder"),
        pytest.param("unix:file", "the path of a socket: there is something else", id="a-file-is-there"),
        pytest.param("unix:" + "x" * 120, "a path shorter than 104 bytes", id="long"),
    ],
)
def test_addresses_that_cannot_be(tmp_path: Path, address: str, expected: str) -> None:
    """The reason is in the message."""
    (tmp_path / "file").touch()
    [line] = mistakes(tmp_path, {"gateway": {"listen": [address]}})
    assert f"expected {expected}" in line


def test_a_unix_socket_that_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stale one may be replaced, a living one not."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        server.listen()
        data = {"gateway": {"listen": [f"unix:{os.path.relpath('s')}"]}}
        [line] = mistakes(tmp_path, data)
        assert "another process serves this one" in line
    assert mistakes(tmp_path, data) == []


@pytest.mark.parametrize(
    ("data", "key"),
    [
        pytest.param({"route": [{"static": "none"}]}, "route[0].static", id="static"),
        pytest.param({"log": {"access": "none/access.log"}}, "log.access", id="log"),
        pytest.param({"log": {"access": "."}}, "log.access", id="log-is-a-folder"),
        pytest.param({"static": {"cache_dir": "file/x"}}, "static.cache_dir", id="below-a-file"),
        pytest.param({"static": {"python": "./none"}}, "static.python", id="python"),
        pytest.param({"pool": {"a": {"serve": ["none.py"]}}}, "pool.a.serve[0]", id="app"),
        pytest.param({"pool": {"a": {"serve": ["."], "cwd": "none"}}}, "pool.a.cwd", id="cwd"),
        pytest.param({"pool": {"a": {"serve": ["."], "command": ["nonesuch"]}}}, "pool.a.command[0]", id="command"),
        pytest.param({"pool": {"a": {"serve": ["*.rb", "--glob"]}}}, "pool.a.serve[0]", id="glob-fits-nothing"),
    ],
)
def test_what_is_not_there(tmp_path: Path, data: dict[str, Any], key: str) -> None:
    """One mistake, with its key."""
    (tmp_path / "file").touch()
    assert [line.split(" = ")[0] for line in mistakes(tmp_path, data)] == [key]


def test_what_is_there(tmp_path: Path) -> None:
    """Nothing is made by checking."""
    for name in ("app.py", "b1.py"):
        (tmp_path / name).touch()
    (tmp_path / "files").mkdir()
    data: dict[str, Any] = {
        "gateway": {"listen": ["unix:gw.sock"], "runtime_dir": "run/deep"},
        "pool": {"a": {"serve": ["app.py", "b*.py", "--glob", "--title", "none.py"]}},
        "route": [{"pool": "a"}, {"path": "/f", "static": "files"}],
        "log": {"access": "access.log"},
        "static": {"python": sys.executable, "cache_dir": "cache"},
    }
    assert mistakes(tmp_path, data) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app.py", "b1.py", "files"]


def test_bokeh_is_found_beside_the_interpreter() -> None:
    """An environment need not be activated; what is no program is not found."""
    assert find_program("bokeh", path="/nowhere") is not None
    assert find_program("nonesuch") is None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param({"gateway": {"listen": [":0"]}, "origins": {"allow": ["a.com", "*"]}}, "ANY web site", id="star"),
        pytest.param({"gateway": {"trusted_proxies": ["0.0.0.0/0"]}}, "anyone can say", id="everybody-trusted"),
        pytest.param({"sessions": {"secret_key": "x"}}, "are not used", id="unused-secret"),
        pytest.param({"sessions": {"secret_key": "x", "mode": "signed"}}, "fewer than 32", id="short-secret"),
        pytest.param({"route": [{"static": "."}]}, "pool.a: no route leads to it", id="unused-pool"),
    ],
)
def test_cf03_what_is_probably_not_meant(tmp_path: Path, data: dict[str, Any], expected: str) -> None:
    """A warning each; the worker that is not there is another."""
    said = warnings(config(tmp_path, data))
    assert [expected in line for line in said if "cannot be reached" not in line] == [True]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({"origins": {"allow": ["*"]}}, id="star-on-loopback"),
        pytest.param({"gateway": {"listen": [":0"]}, "origins": {"allow": ["*.a.com", "*:81"]}}, id="narrower"),
    ],
)
def test_star_is_only_said_where_it_opens_a_door(tmp_path: Path, data: dict[str, Any]) -> None:
    """A warning that is always there is not read."""
    assert not [line for line in warnings(config(tmp_path, data)) if "ANY" in line]


def test_workers_that_do_not_answer(tmp_path: Path, taken: int) -> None:
    """Warned of, as they may come later."""
    servers = [f"127.0.0.1:{taken}", "127.0.0.1:1", "unix:none.sock"]
    said = warnings(config(tmp_path, {"pool": {"a": {"servers": servers}}}))
    assert [line.split(": ")[0] for line in said] == ["pool.a.servers[1]", "pool.a.servers[2]"]


def test_cf06_secrets_that_everybody_can_read(tmp_path: Path, taken: int) -> None:
    """In the file itself; what comes from the environment is not there to be read."""
    file = tmp_path / "gw.toml"
    file.write_text(
        f'[pool.a]\nservers = ["127.0.0.1:{taken}"]\n[sessions]\nmode = "signed"\n'
        f'secret_key = "{"x" * 40}"\nprevious_keys = ["${{OLD}}"]\n'
    )
    file.chmod(0o644)
    configuration = load(file, {"OLD": "y" * 40})
    [line] = warnings(configuration, file)
    assert line.startswith(f"sessions.secret_key stands in {file}, which everyone")
    file.chmod(0o640)
    assert warnings(configuration, file) == []
