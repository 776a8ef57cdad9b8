"""`${NAME}` and `${NAME:-default}` in the strings of the file.  Pure: the environment is handed in.

`$${` writes a plain `${`.  As in the shell, the default of `:-` is used when the variable is unset or empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from bokeh_gateway.config.fields import Expanded
from bokeh_gateway.config.mistake import KeyMistake, Path, key_text
from bokeh_gateway.errors import ConfigError

_REFERENCE: Final = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{")


def expand(data: Any, environ: Mapping[str, str], path: Path = ()) -> tuple[Any, list[tuple[Path, ConfigError]]]:
    """`data` with every string expanded, and the mistakes with their paths; such a string stays as it was."""
    if isinstance(data, str):
        return _expand_text(data, environ, path)
    if isinstance(data, dict):
        pairs = {key: expand(value, environ, (*path, key)) for key, value in data.items()}
        return {key: value for key, (value, _) in pairs.items()}, [e for _, found in pairs.values() for e in found]
    if isinstance(data, list):
        items = [expand(value, environ, (*path, index)) for index, value in enumerate(data)]
        return [value for value, _ in items], [e for _, found in items for e in found]
    return data, []


def _expand_text(text: str, environ: Mapping[str, str], path: Path) -> tuple[str, list[tuple[Path, ConfigError]]]:
    """One string; an `Expanded` if anything was replaced."""
    if "${" not in text:
        return text, []
    mistakes: list[tuple[Path, ConfigError]] = []

    def value(match: re.Match[str]) -> str:
        name, default = match[1], match[2]
        if match[0] == "$${":
            return "${"
        if name is None:
            expected = "${NAME} or ${NAME:-default} after a $; $${ writes a plain ${"
        elif default is not None:
            return environ.get(name) or default
        elif name in environ:
            return environ[name]
        else:
            expected = f"the environment variable {name} to be set, or a default as in ${{{name}:-default}}"
        mistakes.append((path, KeyMistake(key_text(path), expected)))
        return match[0]

    result = _REFERENCE.sub(value, text)
    return (text, mistakes) if mistakes else (Expanded(result), [])
