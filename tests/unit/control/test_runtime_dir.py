"""The folder of the workers' sockets."""

from __future__ import annotations

import os
import socket
import tempfile

import pytest

from bokeh_gateway.control.runtime_dir import LOCK, RuntimeDir, remove_socket
from bokeh_gateway.errors import ConfigError


def test_a_temporary_folder_is_private_and_removed():
    folder = RuntimeDir()
    assert folder.path.stat().st_mode & 0o777 == 0o700
    folder.remove()
    folder.remove()
    assert not folder.path.exists()


def test_what_killed_gateways_left_is_removed_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    living = RuntimeDir()
    killed = tmp_path / "bokeh-gateway-killed"
    begun = tmp_path / "bokeh-gateway-begun"
    strange = tmp_path / "bokeh-gateway-strange"
    other = tmp_path / "else"
    for folder in (killed, begun, strange, other):
        folder.mkdir()
    for folder in (killed, begun, other):
        (folder / LOCK).touch()
    for folder in (living.path, killed, other):
        os.utime(folder / LOCK, (0, 0))
    (tmp_path / "bokeh-gateway-link").symlink_to(other)
    RuntimeDir().remove()
    assert not killed.exists()
    assert all(folder.is_dir() for folder in (living.path, begun, strange, other))
    living.remove()


def test_a_configured_folder_that_was_there_stays(tmp_path):
    RuntimeDir(tmp_path).remove()
    assert list(tmp_path.iterdir()) == []


def test_one_gateway_at_a_time(tmp_path):
    first = RuntimeDir(tmp_path)
    with pytest.raises(ConfigError, match="another gateway"):
        RuntimeDir(tmp_path)
    first.remove()
    RuntimeDir(tmp_path).remove()


def test_a_folder_that_others_can_write_is_refused(tmp_path):
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigError, match="0700"):
        RuntimeDir(tmp_path)


def test_sockets_are_named_after_pool_and_number(tmp_path, monkeypatch):
    folder = RuntimeDir()
    assert folder.socket("my/pool", 3) == str(folder.path / "my_pool-3.sock")
    folder.remove()


def test_too_long_a_path_is_refused(tmp_path):
    folder = RuntimeDir(tmp_path / ("d" * 100))
    with pytest.raises(ConfigError, match="shorter"):
        folder.socket("demo", 1)
    folder.remove()


def test_only_sockets_are_removed(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "s"))
    for name in ("file", "s", "absent"):
        remove_socket(str(tmp_path / name))
    assert list(tmp_path.iterdir()) == [file]
