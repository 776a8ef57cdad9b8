"""What a path stands for."""

from __future__ import annotations

import pytest

from bokeh_gateway.bokeh import paths
from bokeh_gateway.bokeh.paths import AppPath, Kind


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param(b"/", AppPath(b"/", Kind.PAGE), id="root"),
        pytest.param(b"/ws", AppPath(b"/", Kind.WEBSOCKET), id="root-ws"),
        pytest.param(b"/autoload.js", AppPath(b"/", Kind.AUTOLOAD), id="root-autoload"),
        pytest.param(b"/metadata", AppPath(b"/", Kind.METADATA), id="root-metadata"),
        pytest.param(b"/app", AppPath(b"/app", Kind.PAGE), id="app"),
        pytest.param(b"/app/", AppPath(b"/app", Kind.PAGE), id="app-slash"),
        pytest.param(b"/app/ws", AppPath(b"/app", Kind.WEBSOCKET), id="ws"),
        pytest.param(b"/p/q/app/autoload.js", AppPath(b"/p/q/app", Kind.AUTOLOAD), id="autoload-below-a-prefix"),
        pytest.param(b"/app/metadata", AppPath(b"/app", Kind.METADATA), id="metadata"),
        pytest.param(b"/p/static/js/bokeh.min.js", AppPath(b"/p", Kind.STATIC), id="static"),
        pytest.param(b"/static/ws", AppPath(b"/", Kind.STATIC), id="static-file-called-ws"),
        pytest.param(b"/news", AppPath(b"/news", Kind.PAGE), id="ends-in-ws-only"),
        pytest.param(b"/app/ws/", AppPath(b"/app/ws", Kind.PAGE), id="ws-slash-is-none"),
        pytest.param(b"/app/%77s", AppPath(b"/app/%77s", Kind.PAGE), id="percent-is-not-decoded"),
        pytest.param(b"/statics", AppPath(b"/statics", Kind.PAGE), id="not-static"),
        pytest.param(b"", AppPath(b"/", Kind.PAGE), id="empty"),
    ],
)
def test_a_path_is_an_app_and_what_is_asked_of_it(path: bytes, expected: AppPath) -> None:
    """As `bokeh.server.urls` lays them out; the predicates agree with it."""
    assert paths.split(path) == expected
    assert paths.app_path(path) == expected.app
    assert paths.is_static(path) is (expected.kind is Kind.STATIC)
    if expected.kind is not Kind.STATIC:
        assert paths.is_autoload(path) is (expected.kind is Kind.AUTOLOAD)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param(b"/static/js/bokeh.js", b"js/bokeh.js", id="root"),
        pytest.param(b"/a/b/static/extensions/panel/x.js", b"extensions/panel/x.js", id="prefix"),
        pytest.param(b"/static/a/static/b", b"a/static/b", id="the-first-one-counts"),
        pytest.param(b"/static/", b"", id="nothing-behind"),
        pytest.param(b"/static", None, id="no-slash"),
        pytest.param(b"/app", None, id="page"),
    ],
)
def test_the_name_of_a_static_file_is_what_follows(path: bytes, expected: bytes | None) -> None:
    """Of a path below any prefix."""
    assert paths.static_tail(path) == expected
