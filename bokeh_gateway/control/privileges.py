"""Becoming another user, for good, once the ports are bound."""

from __future__ import annotations

import os
import pwd
from typing import Final

from bokeh_gateway.errors import ConfigError

KEY: Final = "gateway.user"


def drop(user: str) -> None:
    """Becomes `user` with its groups; nothing where the process is that user already, as after an upgrade.

    Raises:
        ConfigError: there is no such user, or the process may not become it.
    """
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(KEY, user, "the name of a user of this machine") from None
    if os.geteuid() != entry.pw_uid:
        try:
            os.initgroups(user, entry.pw_gid)
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)
        except PermissionError:
            raise ConfigError(KEY, user, "to be started as root, or as that user") from None
        # What workers look for their files by.
        os.environ.update(HOME=entry.pw_dir, USER=user, LOGNAME=user)
