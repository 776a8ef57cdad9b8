"""Which workers that already run were started without `--use-xheaders`: behind https they believe that they serve http.

A worker cannot be asked: no answer of Bokeh's own shows the scheme that it believes in, only apps see it (redirect URLs
of a login, Panel's location).  So its command line is read, where it runs on this machine and may be read; of others
nothing is known, and nothing is said.
"""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import psutil

from bokeh_gateway.config.address import Address

FLAG: Final = "--use-xheaders"
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


def is_plain_serve(command: Sequence[str]) -> bool:
    """Whether it is `bokeh serve` or `panel serve` without the flag."""
    if "serve" not in command or FLAG in command:
        return False
    before = command[: list(command).index("serve")]
    return any(os.path.basename(word) in {"bokeh", "panel"} for word in before)


def without_xheaders(addresses: Iterable[Address]) -> list[Address]:
    """Those of `addresses` behind which such a worker listens.  Reads /proc: some ms, and not for the loop."""
    wanted = list(addresses)
    found = set(_listening()) if wanted else set()
    return [address for address in wanted if _place(address) in found]


def _place(address: Address) -> int | str:
    if address.unix:
        return address.unix
    return address.port if address.host in _LOOPBACK else -1


def _listening() -> Iterator[int | str]:
    """Ports and unix sockets of all such workers that may be looked at."""
    for process in psutil.process_iter():
        try:
            if not is_plain_serve(process.cmdline()):
                continue
            for socket in process.net_connections(kind="all"):
                if isinstance(socket.laddr, str):
                    yield socket.laddr
                elif socket.status == psutil.CONN_LISTEN:
                    yield socket.laddr.port
        except psutil.Error:
            continue  # it ended, or is somebody else's
