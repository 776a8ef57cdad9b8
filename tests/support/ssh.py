"""An SSH server of the test's own, on a high port with its own keys and configuration, and tunnels through it."""

from __future__ import annotations

import getpass
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.ports import free_port
from tests.support.processes import Process, wait_port
from tests.support.programs import requires_program


def _key(path: Path) -> Path:
    subprocess.run(
        [requires_program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=60
    )
    return path


class SshServer(Process):
    """`sshd` that lets this user in with one key, and only forwards."""

    def __init__(self, folder: Path) -> None:
        program = requires_program("sshd")
        self.port = free_port()
        self.host_key = _key(folder / "host_key")
        self.user_key = _key(folder / "user_key")
        authorized = folder / "authorized_keys"
        authorized.write_text(self.user_key.with_suffix(".pub").read_text())
        config = folder / "sshd_config"
        config.write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {self.host_key}\nAuthorizedKeysFile {authorized}\n"
            "PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "PermitRootLogin prohibit-password\nAllowTcpForwarding yes\n"
        )
        super().__init__("sshd", [program, "-D", "-e", "-f", str(config)], folder)

    def launch(self) -> None:
        # Run by root, it wants the folder in which it locks its children up; Debian makes it at boot.
        if getpass.getuser() == "root":
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        super().launch()

    def wait_ready(self) -> None:
        wait_port(self.port, self)


@contextmanager
def ssh_tunnel(server: SshServer, way: str, port: int, target: str) -> Iterator[Process]:
    """`ssh -N -L` or `-R`: 127.0.0.1:`port` leads to `target`."""
    known = server.folder / "known_hosts"
    known.write_text(f"[127.0.0.1]:{server.port} {server.host_key.with_suffix('.pub').read_text()}")
    client = Process(
        f"ssh{way}",
        [
            requires_program("ssh"), "-N", "-F", "none", "-i", str(server.user_key), "-p", str(server.port),
            "-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes",
            "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", way, f"127.0.0.1:{port}:{target}",
            f"{getpass.getuser()}@127.0.0.1",
        ],
        server.folder,
    )  # fmt: skip
    with client:
        wait_port(port, client)
        yield client
