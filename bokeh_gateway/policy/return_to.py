"""Where a browser may be sent back to after a login: a path of this host, and nothing else.  Pure.

Browsers take `\\` for `/`, and drop tabs and line ends inside of a URL: `/\\evil` and `/<tab>/evil` are other hosts.
Source: the WHATWG URL standard; CWE-601.
"""

from __future__ import annotations

import re
from typing import Final

MAX_LENGTH: Final = 2048
"""Characters; a longer one is not remembered."""
_LOCAL: Final = re.compile(r"/(?:[!-.0-\[\]-~][!-\[\]-~]*)?", re.ASCII)


def safe_path(target: str, default: str = "/") -> str:
    """`target` where it is an absolute path on this host, in printable ASCII; else `default`."""
    if len(target) <= MAX_LENGTH and _LOCAL.fullmatch(target):
        return target
    return default


def is_local(target: str) -> bool:
    """Whether `target` leads nowhere but to this host."""
    return _LOCAL.fullmatch(target) is not None
