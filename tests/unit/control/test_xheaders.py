"""Which command lines are those of workers that take https for http."""

from __future__ import annotations

import pytest

from bokeh_gateway.control.xheaders import is_plain_serve


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        pytest.param(["/usr/bin/python3", "/env/bin/bokeh", "serve", "app.py"], True, id="bokeh"),
        pytest.param(["python", "-m", "panel", "serve", "app.py", "--port", "5007"], True, id="panel-module"),
        pytest.param(["python", "/env/bin/bokeh", "serve", "--use-xheaders", "app.py"], False, id="with-the-flag"),
        pytest.param(["python", "app.py"], False, id="a-server-of-its-own"),
        pytest.param(["python", "/srv/serve", "bokeh"], False, id="another-serve"),
        pytest.param(["git", "daemon", "serve"], False, id="another-program"),
        pytest.param([], False, id="kernel-thread"),
    ],
)
def test_a_worker_without_the_flag_is_known_by_its_command(command: list[str], expected: bool) -> None:
    assert is_plain_serve(command) is expected
