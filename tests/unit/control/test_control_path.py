"""The control socket is found from the file alone, also from a broken one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from bokeh_gateway.config.load import load
from bokeh_gateway.config.schema import Gateway
from bokeh_gateway.control.control_path import control_path, make_folder, path_from_file
from bokeh_gateway.errors import ConfigError

POOL = '\n[pool.apps]\nservers = ["127.0.0.1:1"]\n'


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "gw.toml"
    path.write_text(text + POOL)
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param('[gateway]\ncontrol = "a.sock"', "a.sock", id="relative-to-the-file"),
        pytest.param('[gateway]\nruntime_dir = "run"', "run/control.sock", id="in-the-runtime-dir"),
        pytest.param('[gateway]\nruntime_dir = "run"\ncontrol = "${WHERE}/c.sock"', "here/c.sock", id="environment"),
    ],
)
def test_the_gateway_and_ctl_agree(text: str, expected: str, tmp_path: Path) -> None:
    file, environ = written(tmp_path, text), {"WHERE": "here"}
    assert control_path(load(file, environ).gateway, file) == tmp_path / expected
    assert path_from_file(file, environ) == tmp_path / expected


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param('[gateway]\nlisten = "nowhere"\nspelling = 1\ncontrol = "a.sock"', id="mistakes"),
        pytest.param('[gateway]\ncontrol = "a.sock"   # where\nprocesses = = 2', id="no-toml"),
        pytest.param("[gateway]\ncontrol = 'a.sock'\n[tls", id="no-toml-either"),
    ],
)
def test_a_file_that_was_broken_since_still_tells(broken: str, tmp_path: Path) -> None:
    """Else a reload could not be asked for, nor say what is wrong."""
    assert path_from_file(written(tmp_path, broken), {}) == tmp_path / "a.sock"


def test_without_a_word_it_is_among_temporary_files_and_each_file_has_its_own(tmp_path: Path) -> None:
    file = written(tmp_path, "")
    found = path_from_file(file, {})
    assert found == control_path(Gateway(), file)
    assert found is not None
    assert found.parent == Path(tempfile.gettempdir()) / f"bokeh-gateway-{os.geteuid()}"
    (tmp_path / "other").mkdir()
    assert path_from_file(written(tmp_path / "other", ""), {}) != found
    link = tmp_path / "link.toml"
    link.symlink_to(file)
    assert path_from_file(link, {}) == found, "by whatever name"


def test_without_a_file_there_is_none() -> None:
    assert control_path(Gateway(), None) is None


def test_a_folder_that_others_can_write_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was there first could listen in the gateway's place."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = control_path(Gateway(), tmp_path / "gw.toml")
    assert path is not None
    make_folder(path)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.parent.chmod(0o777)
    with pytest.raises(ConfigError, match=r"gateway\.control"):
        make_folder(path)
    path.parent.rmdir()
    path.parent.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"gateway\.control"):
        make_folder(path)
