"""The control socket, with real sockets."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from bokeh_gateway.control.control_socket import ControlSocket, ask
from bokeh_gateway.errors import ConfigError


async def echo(command: str, target: str, drain: float | None) -> dict[str, Any]:
    return {"ok": True, "heard": [command, target, drain]}


def test_a_command_is_answered_and_only_the_owner_may_give_one(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"

    async def main() -> None:
        control = ControlSocket(path, echo)
        await control.start()
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        answer = await asyncio.to_thread(ask, path, "drain", "apps/1", 10.0, 5.0)
        assert answer == {"ok": True, "heard": ["drain", "apps/1", 5.0]}
        control.close()
        assert not path.exists()

    asyncio.run(main())


@pytest.mark.parametrize(
    "line", [b"hello\n", b"[]\n", b"{}\n", b"\xff\n", b"7\n", b'{"command": "drain", "drain": NaN}\n']
)
def test_what_is_no_command_is_answered_with_what_is_one(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "control.sock"

    def talk() -> bytes:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(path))
            sock.sendall(line)
            return sock.recv(4096)

    async def main() -> None:
        control = ControlSocket(path, echo)
        await control.start()
        assert b'"ok": false' in await asyncio.to_thread(talk)
        control.close()

    asyncio.run(main())


def test_the_socket_of_a_gateway_that_was_killed_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))

    async def main() -> None:
        control = ControlSocket(path, echo)
        await control.start()
        assert (await asyncio.to_thread(ask, path, "status", "", 10.0))["ok"]
        control.close()

    asyncio.run(main())


def test_another_file_in_its_place_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("precious")
    with pytest.raises(ConfigError, match=r"gateway\.control"):
        asyncio.run(ControlSocket(path, echo).start())
    assert path.read_text() == "precious"
