"""Tests of endpoint/auth_users.py: a real file that changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bokeh_gateway.config.auth import Basic
from bokeh_gateway.endpoint.auth_users import Users
from bokeh_gateway.errors import ConfigError
from bokeh_gateway.policy.password import scrypt_hash

ADA, GRACE = (scrypt_hash(password, b"s" * 16, 4) for password in ("one", "two"))


def users(file: Path) -> Users:
    return Users(Basic(users={"ada": ADA}, file=file))


def write(file: Path, text: str) -> None:
    """In another inode, as editors and `mv` do."""
    beside = file.with_suffix(".new")
    beside.write_text(text)
    os.replace(beside, file)


def test_the_file_is_read_again_when_it_changed_and_not_more_than_once_a_second(tmp_path: Path) -> None:
    write(tmp_path / "users", f"grace:{GRACE}\n")
    known = users(tmp_path / "users")
    assert set(known.hashes) == {"ada", "grace"}
    write(tmp_path / "users", f"# nobody else\nalan:{GRACE}\n")
    assert known.refresh(10.0)
    assert set(known.hashes) == {"ada", "alan"}
    write(tmp_path / "users", "")
    assert not known.refresh(10.5)
    assert known.refresh(11.5)
    assert set(known.hashes) == {"ada"}
    assert not known.refresh(20.0), "it is as it was"


@pytest.mark.parametrize("text", ["broken\n", "grace:nonsense\n", None])
def test_a_file_that_cannot_be_used_changes_nothing_and_is_said_once(
    text: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "users"
    write(file, f"grace:{GRACE}\n")
    known = users(file)
    if text is None:
        file.unlink()
    else:
        write(file, text)
    assert not known.refresh(10.0)
    assert not known.refresh(20.0)
    assert set(known.hashes) == {"ada", "grace"}
    assert len(caplog.records) == 1
    assert "auth.basic.file" in caplog.text
    assert "nonsense" not in caplog.text
    write(file, f"alan:{GRACE}\n")
    assert known.refresh(30.0)
    assert set(known.hashes) == {"ada", "alan"}


def test_at_the_start_it_is_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"auth\.basic\.file"):
        users(tmp_path / "absent")
