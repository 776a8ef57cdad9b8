"""A trial of the start, for an upgrade: all that the start does, but with nothing served and nothing left behind.

It runs in a process of its own, of the new version, while the earlier version holds the ports.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from bokeh_gateway.balance.shared import Shared
from bokeh_gateway.config.check import folder_problems, listen_problems, root_workers
from bokeh_gateway.config.schema import Config
from bokeh_gateway.control.control_path import control_path
from bokeh_gateway.control.control_socket import ControlSocket
from bokeh_gateway.control.privileges import drop
from bokeh_gateway.control.upgrade import Held
from bokeh_gateway.dataplane import DataPlane
from bokeh_gateway.errors import ConfigErrors


async def try_start(config: Config, config_file: Path | None, held: Held) -> None:
    """Returns when the gateway could start with `config`.  Becomes the user of `[gateway] user`.

    Raises:
        ConfigErrors: what the configuration names cannot be used.
        GatewayError: the certificates cannot be used.
    """
    problems = root_workers(config)
    if "listen" in held:  # else an earlier version, that does not say what it holds
        problems += listen_problems(config, held=held["listen"])
    if config.gateway.user is not None:
        drop(config.gateway.user)
    problems += folder_problems(config)
    if problems:
        raise ConfigErrors(str(config_file or "configuration"), problems)
    path = control_path(config.gateway, config_file)
    if path is not None and config.gateway.control is not None and held.get("control", str(path)) != str(path):
        control = ControlSocket(path, lambda *_: asyncio.sleep(0, {}))
        control.bind()
        control.close()
    try_plane(config, asyncio.get_running_loop())


def try_plane(config: Config, loop: asyncio.AbstractEventLoop) -> None:
    """Builds what a gateway process makes of `config`, and lets go of it.

    Raises:
        GatewayError: a gateway process could not take it.
    """
    shared = Shared(1, 1)
    try:
        DataPlane(config, [], shared, 0, loop).close()
    finally:
        shared.close()
