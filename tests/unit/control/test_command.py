"""What a worker is started with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from bokeh_gateway.config.schema import Limits, Pool, Sessions
from bokeh_gateway.control.command import (
    Launch,
    app_files,
    find_program,
    metadata_paths,
    refuse_owned_flags,
    worker_command,
)
from bokeh_gateway.errors import ConfigError

SECRET = "a-key-that-nobody-may-see"


def launch(
    sessions: Sessions | None = None,
    environ: dict[str, str] | None = None,
    limits: Limits | None = None,
    **pool: Any,
) -> Launch:
    pool.setdefault("serve", ("myapp.py",))
    return worker_command(
        Pool.model_construct(**{**Pool(serve=("x.py",)).model_dump(), "cwd": Path("/srv"), **pool}),
        sessions or Sessions(),
        limits or Limits(),
        "/run/gw/demo-1.sock",
        environ=environ or {},
        name="demo",
    )


def signed() -> Sessions:
    return Sessions.model_construct(**{**Sessions().__dict__, "mode": "signed", "secret_key": SecretStr(SECRET)})


def test_the_gateways_flags_stand_before_what_the_operator_wrote():
    """Both `serve` and `args` may end in something that takes every word after it."""
    assert launch(args=("--args", "--fast"), prefix="/bk").argv == (
        *("bokeh", "serve", "--unix-socket", "/run/gw/demo-1.sock", "--use-xheaders", "--session-ids", "unsigned"),
        *("--prefix", "/bk", "--session-token-expiration", "300", "--unused-session-lifetime", "60000"),
        *("--check-unused-sessions", "17000", "--websocket-max-message-size", "20971520"),
        *("myapp.py", "--args", "--fast"),
    )


@pytest.mark.parametrize(
    ("limit", "flags"),
    [
        pytest.param(200_000_000, ["--websocket-max-message-size", "200000000"], id="SZ-02-one-place"),
        pytest.param(None, [], id="the-worker's-own"),
    ],
)
def test_the_size_of_a_message_is_the_gateways_setting(limit: int | None, flags: list[str]):
    argv = list(launch(limits=Limits.model_construct(max_message=limit)).argv)
    at = argv.index("--check-unused-sessions") + 2
    assert argv[at:] == [*flags, "myapp.py"]


def test_the_secret_is_in_the_environment_only():
    made = launch(signed())
    assert made.env["BOKEH_SECRET_KEY"] == SECRET
    assert made.env["BOKEH_SIGN_SESSIONS"] == "yes"
    assert not any(SECRET in word for word in made.argv)


@pytest.mark.parametrize(
    ("environ", "extra", "expected"),
    [
        pytest.param({"HOME": "/h"}, {}, {"HOME": "/h", "PYTHONUNBUFFERED": "1"}, id="inherited"),
        pytest.param({"BOKEH_SSL_CERTFILE": "c"}, {}, {"PYTHONUNBUFFERED": "1"}, id="no-tls-on-a-unix-socket"),
        pytest.param({"BOKEH_ALLOW_WS_ORIGIN": "a"}, {}, {"PYTHONUNBUFFERED": "1"}, id="no-second-origin-list"),
        pytest.param({"BOKEH_SIGN_SESSIONS": "no"}, {}, {"PYTHONUNBUFFERED": "1"}, id="any-text-would-be-true"),
        pytest.param({"A": "1"}, {"A": "2"}, {"A": "2", "PYTHONUNBUFFERED": "1"}, id="the-pool-has-the-last-word"),
    ],
)
def test_environment(environ, extra, expected):
    assert launch(environ=environ, env=extra).env == expected


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        pytest.param(("--port", "5006"), "--port", id="port"),
        pytest.param(("--address=0.0.0.0",), "--address", id="with-equals"),
        pytest.param(("--ssl-certfile", "c.pem"), "--ssl-certfile", id="tls"),
        pytest.param(("--num-procs", "4"), "workers = N", id="forks"),
        pytest.param(("--session-ids", "signed"), "[sessions] mode", id="session-ids"),
    ],
)
def test_flags_that_the_gateway_sets_are_refused(arguments, word):
    with pytest.raises(ConfigError) as caught:
        refuse_owned_flags(arguments, "pool.demo.args")
    assert word in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("--allow-websocket-origin", "a.example"), id="harmless"),
        pytest.param(("--args", "--port", "1"), id="the-apps-own"),
        pytest.param((), id="none"),
    ],
)
def test_other_flags_pass(arguments):
    refuse_owned_flags(arguments, "pool.demo.args")


def test_a_socket_path_that_the_kernel_refuses_is_refused_first():
    with pytest.raises(ConfigError, match="a shorter folder"):
        worker_command(
            Pool(serve=("a.py",)), Sessions(), Limits(), "/" + "d" * 103 + "/a.sock", environ={}, name="demo"
        )


@pytest.mark.parametrize(
    ("arguments", "prefix", "expected"),
    [
        pytest.param(["myapp.py"], "", ["/myapp/metadata"], id="script"),
        pytest.param(["apps/one.py", "apps/two/", "three.ipynb"], "", ["one", "two", "three"], id="several"),
        pytest.param(["."], "", ["/srv/metadata"], id="this-folder"),
        pytest.param(["my.app"], "", ["/my.app/metadata"], id="folder-with-a-dot"),
        pytest.param(["myapp.py"], "/a/b", ["/a/b/myapp/metadata"], id="prefix"),
        pytest.param(["a.py", "--dev", "b.py"], "", ["/a/metadata"], id="watched-file-is-no-app"),
        pytest.param(["--auth-module", "auth.py", "a.py"], "", ["/a/metadata"], id="value-of-a-flag"),
        pytest.param(["--exclude-headers", "A", "B", "--use-xheaders", "a.py"], "", ["/a/metadata"], id="many-values"),
        pytest.param(["--index=i.html", "a.py"], "", ["/a/metadata"], id="equals"),
        pytest.param(["a.py", "--args", "b.py"], "", ["/a/metadata"], id="arguments-of-the-app"),
        pytest.param(["my app.py"], "", ["/my%20app/metadata"], id="escaped"),
        pytest.param([], "", [], id="nothing"),
    ],
)
def test_metadata_paths(arguments, prefix, expected):
    """An app's route is the name of its file or folder."""
    wanted = [path if path.startswith("/") else f"/{path}/metadata" for path in expected]
    assert metadata_paths(arguments, prefix, "/srv") == wanted


def test_globs_are_expanded_in_the_pools_folder(tmp_path):
    for name in ("b.py", "a.py", "c.txt"):
        (tmp_path / name).touch()
    assert metadata_paths(["--glob", "*.py"], "", str(tmp_path)) == ["/a/metadata", "/b/metadata"]


def test_panels_dev_flag_takes_no_value():
    assert list(app_files(["--dev", "a.py"], dev_takes_values=False)) == ["a.py"]
    assert metadata_paths(["--dev", "a.py"], "", "/srv", ["/opt/bin/panel", "serve"]) == ["/a/metadata"]


class TestFindProgram:
    """A venv works without being activated."""

    def test_beside_the_interpreter_first(self, tmp_path):
        for folder in ("venv", "path"):
            (tmp_path / folder).mkdir()
            program = tmp_path / folder / "bokeh"
            program.touch()
            program.chmod(0o755)
        found = find_program(["bokeh", "serve"], str(tmp_path / "venv/python"), str(tmp_path / "path"))
        assert found == (str(tmp_path / "venv/bokeh"), "serve")

    def test_then_the_search_path(self):
        assert find_program(["sh", "-c"], "/nowhere/python", "/bin")[0] == "/bin/sh"

    def test_then_as_a_module(self):
        assert find_program(["panel", "serve"], "/nowhere/python", "/none") == (
            *("/nowhere/python", "-m", "panel", "serve"),
        )

    def test_unknown_stays(self):
        assert find_program(["nosuch"], sys.executable, "/none") == ("nosuch",)
