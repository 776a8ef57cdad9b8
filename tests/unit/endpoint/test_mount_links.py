"""Links of a worker's page that are led below the mount."""

from __future__ import annotations

import pytest

from bokeh_gateway.endpoint.mount_links import below, without_lines


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        pytest.param(b'<a class="x" href="/app">', b'<a class="x" href="/dask/app">', id="from-the-root"),
        pytest.param(b"<form method=post action='/login'>", b"<form method=post action='/dask/login'>", id="form"),
        pytest.param(b'<a href="/dask/app">', b'<a href="/dask/app">', id="already-below"),
        pytest.param(b'<a href="/dasks">', b'<a href="/dask/dasks">', id="only-looks-below"),
        pytest.param(b'<a href="//bokeh.org">', b'<a href="//bokeh.org">', id="another-host"),
        pytest.param(b'<a href="https://bokeh.org/x">', b'<a href="https://bokeh.org/x">', id="absolute"),
        pytest.param(b'<a href="./app">', b'<a href="./app">', id="relative"),
        pytest.param(b'<p>href="/app"</p>', b'<p>href="/app"</p>', id="text"),
    ],
)
def test_only_links_from_the_root_of_the_host_are_led(page: bytes, expected: bytes) -> None:
    assert below(b"/dask", page) == expected
    assert below(b"/dask", below(b"/dask", page)) == expected


def test_lines_are_dropped_by_name() -> None:
    plain = [b"Etag", b": ", b"1", b"\r\n", b"X", b": ", b"2", b"\r\n"]
    assert without_lines(plain, (b"etag",)) == [b"X", b": ", b"2", b"\r\n"]
