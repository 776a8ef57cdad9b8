"""A folder on disk: what is below it is served, and nothing else can be reached."""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bokeh_gateway.endpoint.file_slice import FileChanged, FileSlice
from bokeh_gateway.endpoint.representation import Answer, Get
from bokeh_gateway.endpoint.static_folder import ENTRIES, SMALL, StaticFolder, split_path

SECRET = b"root:x:0:0"
BIG = os.urandom(SMALL + 1000)


def get(**headers: str) -> Get:
    return {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}.get


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "etc" / "passwd", SECRET)
    root = tmp_path / "srv" / "files"
    write(root / "a.css", b"a {}")
    write(root / "docs" / "index.html", b"<p>docs")
    write(root / "docs" / "ein täg.txt", b"day")
    write(root / "bare" / "x.txt", b"x")
    write(root / "big.bin", BIG)
    write(root / "empty.txt", b"")
    for name in ("a.css", "big.bin"):  # so that a later write shows, however coarse the clock of the file system
        os.utime(root / name, (1_700_000_000, 1_700_000_000))
    return root


def ask(root: Path, path: bytes, method: bytes = b"GET", query: bytes = b"", **headers: str) -> Answer:
    return StaticFolder(root).lookup(method, path, query, get(**headers))


def whole(body: bytes | FileSlice) -> bytes:
    if isinstance(body, bytes):
        return body
    pieces = iter(lambda: body.read(65536), b"")
    return b"".join(pieces)


def header(answer: Answer, name: str) -> str | None:
    value = re.search(rf"^{name}: (.*)\r$", answer.headers.decode(), re.MULTILINE)
    return value and value[1]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param(b"a.css", b"a {}", id="file"),
        pytest.param(b"%61.css", b"a {}", id="escaped"),
        pytest.param("docs/ein%20täg.txt".encode(), b"day", id="utf-8"),
        pytest.param(b"docs/", b"<p>docs", id="index"),
        pytest.param(b"empty.txt", b"", id="SF03-empty"),
        pytest.param(b"big.bin", BIG, id="big"),
    ],
)
def test_files_are_served(root: Path, path: bytes, body: bytes) -> None:
    folder = StaticFolder(root)
    for _ in range(2):  # from disk, then from memory
        answer = folder.lookup(b"GET", path, b"", get())
        assert (answer.status, len(answer.body), whole(answer.body)) == (200, len(body), body)
        assert header(answer, "Cache-Control") == "public, max-age=0, must-revalidate"
        assert header(answer, "X-Content-Type-Options") == "nosniff"


TRAVERSALS = [
    pytest.param(b"../../etc/passwd", id="PT01"),
    pytest.param(b"%2e%2e/%2e%2e/etc/passwd", id="PT02"),
    pytest.param(b"..%2f..%2fetc/passwd", id="PT03"),
    pytest.param(b"%252e%252e%252fetc/passwd", id="PT04"),
    pytest.param(b"..%5c..%5cetc/passwd", id="PT05"),
    pytest.param(b"..\\..\\etc\\passwd", id="PT06"),
    pytest.param(b"%00/etc/passwd", id="PT07"),
    pytest.param(b"a.css%00.txt", id="PT07-end"),
    pytest.param(b"../etc/passwd", id="PT08"),
    pytest.param(b".%2e/.%2e/etc/passwd", id="PT10"),
    pytest.param(b"%c0%ae%c0%ae/etc/passwd", id="PT11"),
    pytest.param(b"docs/../a.css", id="dots-inside"),
    pytest.param(b"./a.css", id="dot"),
    pytest.param(b"//etc/passwd", id="absolute"),
    pytest.param(b"%2fetc/passwd", id="absolute-escaped"),
    pytest.param(b"%zz/a.css", id="broken-escape"),
    pytest.param(b"a.css%", id="cut-escape"),
    pytest.param(b"\xff\xfe", id="not-utf-8"),
    pytest.param(b"a.css/", id="file-as-folder"),
    pytest.param(b"a.css/x", id="below-a-file"),
    pytest.param(b"bare/", id="folder-without-index"),
    pytest.param(b"nope", id="missing"),
    pytest.param(b"a/" * 3000, id="SF08-path"),
    pytest.param(b"a" * 256, id="SF08-segment"),
    pytest.param(b"%C3%A4" * 200, id="SF08-segment-in-bytes"),
]


@pytest.mark.parametrize("path", TRAVERSALS)
def test_what_is_not_there_is_404(root: Path, path: bytes) -> None:
    answer = ask(root, path)
    assert answer.status == 404
    assert answer.body != SECRET


@pytest.mark.parametrize(
    "name", [".git/config", ".env", "a.css~", "CON", "con.txt", "lpt1", "a.", "a ", "docs/.hidden", "sub~/x"]
)
def test_sf07_names_that_were_not_meant_to_be_served(root: Path, name: str) -> None:
    write(root / name, b"secret")
    assert ask(root, name.replace(" ", "%20").encode()).status == 404


def test_well_known_is_served(root: Path) -> None:
    write(root / ".well-known" / "acme-challenge" / "token", b"proof")
    assert ask(root, b".well-known/acme-challenge/token").body == b"proof"


def test_sf01_symlinks_may_lead_inside_and_not_outside(root: Path) -> None:
    (root / "in.css").symlink_to(root / "a.css")
    (root / "alias").symlink_to(root / "docs")
    (root / "out").symlink_to(root.parent.parent / "etc" / "passwd")
    (root / "out-folder").symlink_to(root.parent.parent / "etc")
    (root / "sibling").symlink_to(write(root.parent / "files-2" / "x", SECRET))
    (root / "loop").symlink_to(root / "loop")
    (root / "broken").symlink_to(root / "nope")
    (root / "back.txt").symlink_to(write(root / ".git" / "config", SECRET))
    assert ask(root, b"in.css").body == b"a {}"
    assert ask(root, b"alias/").body == b"<p>docs"
    for path in (b"out", b"out-folder/passwd", b"sibling", b"loop", b"broken", b"back.txt"):
        assert ask(root, path).status == 404, path


def test_sf01_file_in_memory_that_becomes_a_symlink_out(root: Path) -> None:
    folder = StaticFolder(root)
    assert folder.lookup(b"GET", b"a.css", b"", get()).status == 200
    (root / "a.css").unlink()
    (root / "a.css").symlink_to(root.parent.parent / "etc" / "passwd")
    assert folder.lookup(b"GET", b"a.css", b"", get()).status == 404


def test_sf01_symlink_put_there_after_the_check(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check has passed; then a folder on the way is swapped for a symlink that leads out."""
    monkeypatch.setattr(os.path, "relpath", swap := _Swap(root))
    assert ask(root, b"docs/passwd").status == 404
    assert swap.done


class _Swap:
    def __init__(self, root: Path) -> None:
        self.root, self.done, self.relpath = root, False, os.path.relpath
        write(root / "docs" / "passwd", b"harmless")
        self.calls = 0

    def __call__(self, path: str, start: str) -> str:
        self.calls += 1
        if self.calls == 2:  # the first is part of the check, the second of the opening
            shutil.rmtree(self.root / "docs")
            (self.root / "docs").symlink_to(self.root.parent.parent / "etc")
            self.done = True
        return self.relpath(path, start)


def test_root_that_is_a_symlink_moved_to_the_next_release(root: Path) -> None:
    write(root.parent / "next" / "a.css", b"b {}")
    current = root.parent / "current"
    current.symlink_to(root)
    folder = StaticFolder(current)
    assert folder.lookup(b"GET", b"a.css", b"", get()).body == b"a {}"
    current.unlink()
    current.symlink_to(root.parent / "next")
    assert folder.lookup(b"GET", b"a.css", b"", get()).body == b"b {}"


def test_root_that_is_missing(tmp_path: Path) -> None:
    assert ask(tmp_path / "nope", b"a.css").status == 404


def test_sf03_what_is_no_regular_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answered at once: a test that hangs here has opened a FIFO."""
    os.mkfifo(root / "fifo")
    (root / "device").symlink_to("/dev/zero")
    monkeypatch.chdir(root)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        for path in (b"fifo", b"device", b"socket"):
            assert ask(root, path).status == 404, path


@pytest.fixture
def open_root() -> Iterator[Path]:
    """A folder that an unprivileged user reaches, for tests that drop root."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_sf03_unreadable_file_is_403(open_root: Path) -> None:
    write(open_root / "a.css", b"a {}").chmod(0)
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        assert ask(open_root, b"a.css").status == 403
    finally:
        os.seteuid(was)


def test_file_in_memory_that_may_no_longer_be_read(open_root: Path) -> None:
    file = write(open_root / "a.css", b"a {}")
    file.chmod(0o644)
    folder, was = StaticFolder(open_root), os.geteuid()
    assert folder.lookup(b"GET", b"a.css", b"", get()).status == 200
    file.chmod(0)
    if was == 0:
        os.seteuid(65534)
    try:
        assert folder.lookup(b"GET", b"a.css", b"", get()).status == 403
    finally:
        os.seteuid(was)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda path: os.truncate(path, 1000), id="truncated"),
        pytest.param(lambda path: os.truncate(path, 0), id="emptied"),
        pytest.param(lambda path: path.write_bytes(b"x" * len(BIG)), id="rewritten-same-size"),
    ],
)
def test_sf04_file_changed_while_sent_breaks_off(root: Path, change: object) -> None:
    body = ask(root, b"big.bin").body
    assert isinstance(body, FileSlice)
    assert body.read(1000) == BIG[:1000]
    assert callable(change)
    change(root / "big.bin")
    with pytest.raises(FileChanged):
        whole(body)
    body.close()


def test_sf04_file_replaced_by_rename_is_sent_to_its_end(root: Path) -> None:
    body = ask(root, b"big.bin").body
    assert isinstance(body, FileSlice)
    first = body.read(1000)
    os.replace(write(root / "new", b"new"), root / "big.bin")
    assert first + whole(body) == BIG
    body.close()


def test_changed_file_is_served_anew_with_another_tag(root: Path) -> None:
    folder = StaticFolder(root)
    before = folder.lookup(b"GET", b"a.css", b"", get())
    write(root / "a.css", b"b {}")
    after = folder.lookup(b"GET", b"a.css", b"", get(if_none_match=header(before, "ETag") or ""))
    assert (after.status, after.body) == (200, b"b {}")


@pytest.mark.parametrize("name", ["a.css", "big.bin"])
def test_conditions_ranges_and_head(root: Path, name: str) -> None:
    path, content = name.encode(), (root / name).read_bytes()
    tag = header(ask(root, path), "ETag") or ""
    unchanged = ask(root, path, if_none_match=tag)
    assert (unchanged.status, unchanged.body) == (304, b"")
    part = ask(root, path, range="bytes=1-2")
    assert (part.status, whole(part.body)) == (206, content[1:3])
    assert ask(root, path, range="bytes=9999999-").status == 416
    assert ask(root, path, range="bytes=1-2", if_range='"other"').status == 200
    head = ask(root, path, b"HEAD", range="bytes=1-2")
    assert (head.status, len(head.body), head.headers) == (200, len(content), ask(root, path).headers)


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE"])
def test_other_methods_are_405(root: Path, method: bytes) -> None:
    answer = ask(root, b"a.css", method)
    assert (answer.status, header(answer, "Allow")) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("path", "query", "where"),
    [
        pytest.param(b"docs", b"", "./docs/", id="plain"),
        pytest.param(b"docs", b"x=1", "./docs/?x=1", id="SP-09-query-kept"),
        pytest.param(b"docs/a%3ab%0D", b"", None, id="no-header-injection"),
        pytest.param(b"a:b%20c", b"", "./a%3Ab%20c/", id="name-with-colon"),
    ],
)
def test_folder_without_slash_is_sent_to_the_slash(root: Path, path: bytes, query: bytes, where: str | None) -> None:
    (root / "a:b c").mkdir()
    answer = ask(root, path, query=query)
    assert (answer.status, header(answer, "Location")) == ((308, where) if where else (404, None))


def test_memory_is_bounded_and_not_filled_by_what_is_missing(root: Path) -> None:
    folder = StaticFolder(root)
    for n in range(500):
        folder.lookup(b"GET", f"nope{n}".encode(), b"", get())
    assert not folder._held
    for n in range(300):  # one file under many spellings
        spelling = b"".join(b"%%%02x" % c if n >> i & 1 else bytes([c]) for i, c in enumerate(b"empty.txt"))
        assert folder.lookup(b"GET", spelling, b"", get()).status == 200
    assert len(folder._held) <= ENTRIES
    assert folder._bytes == 0


def test_no_descriptor_is_left_open(root: Path) -> None:
    before = len(os.listdir("/dev/fd"))
    for path in (b"a.css", b"big.bin", b"nope", b"docs", b"docs/", b"a.css/x", b"bare/") * 3:
        ask(root, path)
        ask(root, path, b"HEAD", if_none_match="*")
    # The test runner itself opens and closes a file now and then.
    assert len(os.listdir("/dev/fd")) < before + 3


def test_a_path_is_decoded_once() -> None:
    assert split_path(b"%25%32%65") == ["%2e"]
    assert split_path(b"a/b/") == ["a", "b", ""]
    assert split_path(b"") == [""]
