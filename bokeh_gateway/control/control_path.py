"""Where the control socket is: said in the file, or found from it by the gateway and by `bokeh-gateway ctl` alike."""

from __future__ import annotations

import os
import pwd
import re
import stat
import tempfile
import tomllib
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from bokeh_gateway.config.expand import expand
from bokeh_gateway.config.fields import Context
from bokeh_gateway.config.schema import Gateway
from bokeh_gateway.errors import ConfigError

KEY: Final = "gateway.control"
_KEYS: Final = ("control", "runtime_dir", "user")
_LINE: Final = re.compile(r"""\s*(\w+)\s*=\s*(?:"([^"\\]*)"|'([^']*)')""")


def control_path(gateway: Gateway, config_file: Path | None) -> Path | None:
    """The socket of a gateway; None where nothing says where it could be."""
    if gateway.control is not None:
        return gateway.control
    if gateway.runtime_dir is not None:
        return gateway.runtime_dir / "control.sock"
    if config_file is None:
        return None
    mark = blake2b(os.fsencode(os.path.realpath(config_file)), digest_size=8).hexdigest()
    return _own_folder(_user_id(gateway.user)) / f"{mark}.sock"


def _user_id(name: str | None) -> int:
    if name is None:
        return os.geteuid()
    try:
        return int(name) if name.isdigit() else pwd.getpwnam(name).pw_uid
    except KeyError:
        return os.geteuid()


def _own_folder(user: int) -> Path:
    return Path(tempfile.gettempdir()) / f"bokeh-gateway-{user}"


def make_folder(path: Path) -> None:
    """Makes the folder of a socket among temporary files; any other is left to whoever named it.

    Raises:
        ConfigError: the folder is another user's, or others can write there.
    """
    folder = path.parent
    if folder != _own_folder(os.geteuid()):
        return
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        state = folder.lstat()
    except OSError as exc:
        raise ConfigError(KEY, str(folder), f"a folder that can be made ({exc.strerror})") from exc
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid() or state.st_mode & 0o022:
        raise ConfigError(KEY, str(folder), "a folder of this user that others cannot write")


def path_from_file(config_file: Path, environ: Mapping[str, str]) -> Path | None:
    """The socket of the gateway that runs `config_file`, also where the file is broken by now.

    Raises:
        OSError: it cannot be read.
    """
    found, _ = expand(_gateway_table(config_file.read_text("utf-8", "replace")), environ)
    context = Context(config_file.absolute().parent)
    known: dict[str, Any] = {}
    for key in _KEYS:
        if key in found:
            try:
                known[key] = getattr(Gateway.model_validate({key: found[key]}, context=context), key)
            except ValidationError:
                continue  # the gateway that runs was started with another value
    return control_path(Gateway().model_copy(update=known), config_file)


def _gateway_table(text: str) -> dict[str, Any]:
    """[gateway] of a file; of one that is no TOML, what its lines seem to say."""
    try:
        table = tomllib.loads(text).get("gateway", {})
        return table if isinstance(table, dict) else {}
    except tomllib.TOMLDecodeError:
        pass
    found: dict[str, Any] = {}
    header = ""
    for line in text.splitlines():
        if line.lstrip().startswith("["):
            header = line.strip().partition("]")[0]
        elif header == "[gateway" and (match := _LINE.match(line)) and match[1] in _KEYS:
            found[match[1]] = match[2] if match[2] is not None else match[3]
    return found
