"""What pools get of `public_url`'s path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bokeh_gateway.config.load import parse

SERVED = {"serve": ["app.py"]}


@pytest.mark.parametrize(
    ("url", "pool", "route", "prefix"),
    [
        pytest.param("https://h/u/", SERVED, {}, "/u", id="SP-13"),
        pytest.param("https://h/user/ada", SERVED, {}, "/user/ada", id="two-segments"),
        pytest.param("https://h", SERVED, {}, "", id="no-path"),
        pytest.param("https://h/u", SERVED | {"prefix": "/bk"}, {}, "/bk", id="its-own"),
        pytest.param("https://h/u", {"servers": ["127.0.0.1:5006"]}, {}, "", id="runs-already"),
        pytest.param("https://h/u", SERVED, {"path": "/u", "strip_prefix": True}, "", id="stripped"),
    ],
)
def test_workers_that_are_run_have_the_public_path(
    url: str, pool: dict[str, Any], route: dict[str, Any], prefix: str
) -> None:
    data = {"gateway": {"public_url": url}, "pool": {"a": pool}, "route": [{"pool": "a", **route}]}
    assert parse(data, Path("/srv"), {}).pool["a"].prefix == prefix
