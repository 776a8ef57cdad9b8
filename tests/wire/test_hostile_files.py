"""A static folder in which not everything is to be served, through a running gateway."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway import MIB, GatewayProcess
from tests.support.raw import RawClient, raw_exchange
from tests.support.recording import RecordingWorker

SIZE = 64 * MIB


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.txt").write_text("secret")
    root = tmp_path_factory.mktemp("root")
    (root / "page.txt").write_text("page")
    (root / "sub").mkdir()
    (root / "sub" / "inner.txt").write_text("inner")
    (root / "inside.txt").symlink_to(root / "page.txt")
    (root / "outside.txt").symlink_to(outside / "secret.txt")
    (root / "outside").symlink_to(outside)
    (root / "loop").symlink_to(root / "loop")
    (root / "passwd").symlink_to("/etc/passwd")
    os.mkfifo(root / "fifo")
    (root / "empty.txt").touch()
    (root / "device").symlink_to("/dev/zero")
    for name in (".env", ".git/config", "page.txt~", "page.txt.", "CON", "nul.txt", "#page.txt#", ".page.txt.swp"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("secret")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "socket"))
        yield root


@pytest.fixture(scope="module")
def gateway(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with RecordingWorker() as worker:
        text = (
            f'[gateway]\nlisten = ["127.0.0.1:0"]\n[pool.site]\nkind = "http"\nservers = ["{worker.address}"]\n'
            f'[[route]]\npath = "/files"\nstatic = "{folder}"\n[[route]]\npath = "/"\npool = "site"\n'
        )
        with GatewayProcess(text, tmp_path_factory.mktemp("files")) as running:
            yield running


def get(path: str) -> bytes:
    return f"GET /files/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("path", "statuses"),
    [
        pytest.param("inside.txt", {200}, id="SF01-inside"),
        pytest.param("outside.txt", {403, 404}, id="SF01-outside"),
        pytest.param("outside/secret.txt", {403, 404}, id="SF01-folder-outside"),
        pytest.param("passwd", {403, 404}, id="SF01-passwd"),
        pytest.param("loop", {403, 404}, id="SF01-loop"),
        pytest.param("fifo", {403, 404}, id="SF03-fifo"),
        pytest.param("socket", {403, 404}, id="SF03-socket"),
        pytest.param("device", {403, 404}, id="SF03-device"),
        pytest.param("sub", {301, 308, 403, 404}, id="SF03-folder"),
        pytest.param("sub/", {403, 404}, id="SF03-folder-slash"),
        pytest.param("page.txt/", {403, 404}, id="SF03-file-slash"),
        pytest.param("page.txt/x", {403, 404}, id="SF03-below-a-file"),
        pytest.param("empty.txt", {200}, id="SF03-empty"),
        pytest.param(".env", {404}, id="SF07-env"),
        pytest.param("%2eenv", {400, 404}, id="SF07-env-encoded"),
        pytest.param(".git/config", {404}, id="SF07-git"),
        pytest.param("sub/../.git/config", {400, 404}, id="SF07-git-dots"),
        pytest.param("page.txt~", {404}, id="SF07-backup"),
        pytest.param("page.txt%7E", {404}, id="SF07-backup-encoded"),
        pytest.param("page.txt.", {404}, id="SF07-dot-at-the-end"),
        pytest.param("CON", {404}, id="SF07-con"),
        pytest.param("nul.txt", {404}, id="SF07-nul"),
        pytest.param("a" * 256, {404}, id="SF08-segment"),
        pytest.param("a/" * 2100, {404, 414}, id="SF08-path"),
        pytest.param("%F0%9F%98%80" * 64, {404}, id="SF08-segment-in-bytes"),
    ],
)
def test_what_a_folder_holds_and_nobody_is_to_have(path: str, statuses: set[int], gateway: GatewayProcess) -> None:
    """At once: a FIFO without a writer would keep whoever opens it waiting, and with it the whole process."""
    began = time.monotonic()
    got = raw_exchange(gateway.port, get(path), quiet=0)
    assert got.status in statuses
    assert b"secret" not in got.answers[0].body
    assert b"root:" not in got.answers[0].body
    assert raw_exchange(gateway.port, get("page.txt"), quiet=0).answers[0].body == b"page"
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("change", ["truncated", "rewritten-shorter"])
def test_sf04_a_file_that_shrinks_while_it_is_sent_breaks_off(
    change: str, gateway: GatewayProcess, folder: Path
) -> None:
    """Never filled up to the length that was promised; and the next one gets what is there then."""
    file = folder / f"{change}.bin"
    with file.open("wb") as writing:
        writing.truncate(SIZE)
    with RawClient(gateway.port, receive_buffer=4096) as client:
        client.send(get(file.name))
        client.read_until(rb"\r\n\r\n")
        if change == "truncated":
            os.truncate(file, 1000)
        else:
            file.write_bytes(b"y" * 1000)
        assert client.ends(40)
        assert len(client.received) < SIZE
    assert len(raw_exchange(gateway.port, get(file.name), quiet=0).answers[0].body) == 1000


def test_sf04_a_file_that_is_replaced_is_sent_as_it_was(gateway: GatewayProcess, folder: Path) -> None:
    file = folder / "replaced.bin"
    file.write_bytes(b"a" * 8 * MIB)
    with RawClient(gateway.port, receive_buffer=4096) as client:
        client.send(get(file.name))
        client.read_until(rb"\r\n\r\n")
        beside = folder / "replaced.new"
        beside.write_bytes(b"b" * 8 * MIB)
        os.replace(beside, file)
        assert set(client.read_exactly(8 * MIB)) == {ord("a")}
    assert set(raw_exchange(gateway.port, get(file.name), quiet=0).answers[0].body) == {ord("b")}
