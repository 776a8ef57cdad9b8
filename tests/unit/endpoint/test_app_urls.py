"""Where browsers find the apps: by listeners, certificates, routes and prefixes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bokeh_gateway.config.load import parse
from bokeh_gateway.config.schema import Config
from bokeh_gateway.endpoint.app_urls import app_urls, with_name

HTTP = "http://127.0.0.1:8080"
HTTPS = "https://dash.test"
RUN = {"serve": ["one.py", "two.py"]}
BESIDE = {"servers": ["127.0.0.1:5100"]}


def config(pool: dict[str, Any], *route: dict[str, Any]) -> Config:
    return parse({"pool": pool, "route": list(route)}, Path("/srv"), {}, "gw.toml")


@pytest.mark.parametrize(
    ("pool", "routes", "urls"),
    [
        pytest.param({"a": RUN}, [], [f"{HTTP}/one", f"{HTTP}/two"], id="the-only-pool"),
        pytest.param({"a": BESIDE}, [], [], id="apps-unknown-and-no-path"),
        pytest.param({"a": BESIDE}, [{"path": "/x", "pool": "a"}], [f"{HTTP}/x/"], id="apps-unknown"),
        pytest.param({"a": {**BESIDE, "prefix": "/x/y"}}, [{"path": "/x", "pool": "a"}], [f"{HTTP}/x/y/"], id="prefix"),
        pytest.param(
            {"a": RUN},
            [{"path": "/x/", "pool": "a", "strip_prefix": True}],
            [f"{HTTP}/x/one", f"{HTTP}/x/two"],
            id="stripped",
        ),
        pytest.param({"a": RUN}, [{"path": "/one", "pool": "a"}], [f"{HTTP}/one"], id="one-app-has-a-route"),
        pytest.param(
            {"a": RUN, "b": BESIDE},
            [{"pool": "a"}, {"path": "/two", "pool": "b"}],
            [f"{HTTP}/one", f"{HTTP}/two/"],
            id="a-longer-route-takes-it",
        ),
        pytest.param(
            {"a": RUN},
            [{"host": "dash.test", "path": "/one", "pool": "a"}, {"host": "*.test", "pool": "a"}],
            ["http://dash.test:8080/one"],
            id="hosts",
        ),
        pytest.param({"a": {**BESIDE, "kind": "http"}}, [{"path": "/x", "pool": "a"}], [], id="no-apps"),
        pytest.param({"a": BESIDE}, [{"path": "/x", "redirect": "/y"}], [], id="a-redirect"),
    ],
)
def test_each_app_has_its_address(pool: dict[str, Any], routes: list[dict[str, Any]], urls: list[str]) -> None:
    assert app_urls(config(pool, *routes), [HTTP], {"a": ["/one", "/two"]} if pool["a"] is RUN else {}) == urls


def test_each_listener_has_its_addresses() -> None:
    assert app_urls(config({"a": RUN}), [HTTPS, HTTP], {"a": ["/one"]}) == [f"{HTTPS}/one", f"{HTTP}/one"]


@pytest.mark.parametrize(
    ("url", "names", "named"),
    [
        pytest.param("https://127.0.0.1:8443", ["*.dash.test", "dash.test"], "https://dash.test:8443", id="port"),
        pytest.param("https://127.0.0.1", ["dash.test"], "https://dash.test", id="usual-port"),
        pytest.param("https://b.test", ["a.test", "b.test"], "https://b.test", id="its-own-is-among-them"),
        pytest.param("https://127.0.0.1", ["*.dash.test"], "https://127.0.0.1", id="a-wildcard-is-no-name"),
        pytest.param("https://[::1]:8443", [], "https://[::1]:8443", id="no-names"),
    ],
)
def test_a_tls_listener_is_called_by_a_name_of_its_certificate(url: str, names: list[str], named: str) -> None:
    assert with_name(url, names) == named
