"""What is compressed once is kept, and what was kept is served only if it is still what was made."""

from __future__ import annotations

import gzip
import os
import stat
import threading
import time
from pathlib import Path

import brotli
import pytest

from bokeh_gateway.endpoint.compression import KEEP, Compressor, default_cache_dir

CONTENT = b"function plot() { return 1 }\n" * 100


def kept(folder: Path, coding: str) -> Path:
    [path] = folder.glob(f"*.{coding}")
    return path


@pytest.mark.parametrize(("coding", "decode"), [("gzip", gzip.decompress), ("br", brotli.decompress)])
def test_made_once_and_kept_for_us_alone(tmp_path: Path, coding: str, decode: object) -> None:
    folder = tmp_path / "a" / "cache"
    data = Compressor(folder).compress(CONTENT, coding)
    assert data is not None
    assert callable(decode)
    assert decode(data) == CONTENT
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    file = kept(folder, coding)
    before = file.stat().st_ino
    assert Compressor(folder).compress(CONTENT, coding) == data
    assert file.stat().st_ino == before


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[:-5], id="truncated"),
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: brotli.compress(b"alert('not ours')"), id="poisoned"),
        pytest.param(lambda data: b"x" * 100_000, id="too-long"),
    ],
)
def test_damaged_file_is_made_again(tmp_path: Path, damage: object) -> None:
    good = Compressor(tmp_path / "c").compress(CONTENT, "br")
    file = kept(tmp_path / "c", "br")
    assert callable(damage)
    file.write_bytes(damage(file.read_bytes()))
    assert Compressor(tmp_path / "c").compress(CONTENT, "br") == good
    assert file.read_bytes() == good


def test_symlink_and_fifo_in_the_folder_are_not_read(tmp_path: Path) -> None:
    good = Compressor(tmp_path / "c").compress(CONTENT, "br")
    file = kept(tmp_path / "c", "br")
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert Compressor(tmp_path / "c").compress(CONTENT, "br") == good
    assert not file.is_symlink()
    file.unlink()
    os.mkfifo(file)
    assert Compressor(tmp_path / "c").compress(CONTENT, "br") == good
    assert file.is_file()


def test_folder_that_others_may_write_to_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c").chmod(0o777)
    compressor = Compressor(tmp_path / "c")
    assert compressor.folder != tmp_path / "c"
    assert stat.S_IMODE(compressor.folder.stat().st_mode) == 0o700
    compressor.folder.rmdir()


def test_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("")
    compressor = Compressor(tmp_path / "c")
    assert compressor.compress(CONTENT, "gzip") is not None
    for path in compressor.folder.iterdir():
        path.unlink()
    compressor.folder.rmdir()


def test_what_does_not_shrink_is_left(tmp_path: Path) -> None:
    assert Compressor(tmp_path / "c").compress(os.urandom(2000), "br") is None


def test_old_files_go_and_others_stay(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    folder.mkdir(mode=0o700)
    for name in ("old.br", "young.br", "old.txt"):
        (folder / name).write_text("")
    past = time.time() - KEEP - 60
    os.utime(folder / "old.br", (past, past))
    os.utime(folder / "old.txt", (past, past))
    assert sorted(path.name for path in Compressor(folder).folder.iterdir()) == ["old.txt", "young.br"]


def test_lower_ranks_go_first(tmp_path: Path) -> None:
    compressor, order, gate, done = Compressor(tmp_path / "c"), [], threading.Event(), threading.Event()

    def hold(_: Compressor) -> None:
        gate.wait(5)

    compressor.submit(hold, 0)
    for rank in (2, 0, 1):
        compressor.submit(lambda _, rank=rank: order.append(rank), rank)  # type: ignore[misc]
    compressor.submit(lambda _: done.set(), 3)
    gate.set()
    assert done.wait(5)
    assert order == [0, 1, 2]


def test_default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/me")
    assert default_cache_dir() == Path("/var/cache/me/bokeh-gateway")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_cache_dir() == Path("/home/me/.cache/bokeh-gateway")
