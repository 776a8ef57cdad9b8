"""Programs of the system that a test wants: absent is a skip on someone's laptop and a failure in CI."""

from __future__ import annotations

import os
import shutil

import pytest

PACKAGES = {
    "nginx": "nginx",
    "ip": "iproute2",
    "chromium": "chromium",
    "haproxy": "haproxy",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in {"true", "1", "yes"}


def requires_program(name: str) -> str:
    """Path of the program; otherwise the calling test or fixture skips, or fails where CI=true."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")
    if path:
        return path
    reason = f"the program {name} is missing (Debian package {PACKAGES.get(name, name)})"
    if in_ci():
        pytest.fail(f"{reason}; under CI=true nothing is skipped for want of a program")
    pytest.skip(reason)
